"""Pictures of every stop of the tour, to be looked at: before a change of the console's looks, and after.

    python tests/console/looks.py DIR [--themes midnight,plain] [--sizes 80x24,200x50] [--stops overview,cdns]

writes `DIR/STOP-SIZE-THEME.svg`, and PNGs beside them where `rsvg-convert` is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import tour
from driver import PALETTES
from tour import SIZES, STOPS, Size

from cdnctl.console.cast.svg import svg


def main() -> int:
    """Draw those asked for, or all in the default theme."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--themes", default="midnight", help=f"of {','.join(PALETTES)}")
    parser.add_argument("--sizes", default=",".join(f"{columns}x{rows}" for columns, rows in SIZES))
    parser.add_argument("--stops", default=",".join(stop.name for stop in STOPS))
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes.split(",")]
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory() as remembered:
        os.environ["XDG_STATE_HOME"] = remembered
        names = options.stops.split(",")
        for columns, rows in sizes:
            asyncio.run(_draw(options.directory, (columns, rows), options.themes.split(","), names))
    if shutil.which("rsvg-convert"):
        for path in options.directory.glob("*.svg"):
            subprocess.run(["rsvg-convert", path, "-o", path.with_suffix(".png")], check=True)
    return 0


async def _draw(directory: Path, size: Size, themes: Collection[str], names: Collection[str]) -> None:
    for stops in tour.TOURS.values():
        if not any(stop.name in names for stop in stops):
            continue
        async with tour.along(stops, size) as walk:
            async for stop in walk.stops(stops):
                for theme in themes if stop.name in names else ():
                    await walk.wear(theme)
                    palette = PALETTES[theme] if PALETTES[theme].mixes else PALETTES["midnight"]
                    path = directory / f"{stop.name}-{size[0]}x{size[1]}-{theme}.svg"
                    path.write_text(svg(walk.picture(), palette, f"cdnctl · {stop.name}"), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
