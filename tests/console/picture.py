"""Makes the README's picture: one SVG of the console over a live edge.

    python tests/console/picture.py --edge demo [--size 120x40] [--theme midnight] [--wait 5] [--out FILE]

The app runs without a terminal, on the real agent's socket; no key is pressed, so nothing changes. The SVG
stands alone: no font is fetched, any monospaced one will do.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path

from cdnctl import paths
from cdnctl.console.app import ConsoleApp, make_app
from cdnctl.errors import CdnctlError

PICTURE = paths.share_dir() / "pictures" / "overview.svg"
_ELSEWHERE = re.compile(r"@font-face\s*\{[^}]*\}\s*|<!--.*?-->\s*", re.DOTALL)


async def take(app: ConsoleApp, size: tuple[int, int], wait_s: float) -> str:
    """Run the app for `wait_s` seconds and return what it shows then."""
    async with app.run_test(size=size) as pilot:
        await pilot.pause(wait_s)
        if app.session.failure is not None:
            raise app.session.failure
        return standalone(app.export_screenshot(title=f"cdnctl --edge {app.session.edge}"))


def standalone(svg: str) -> str:
    """The picture without what it would fetch from elsewhere."""
    svg = _ELSEWHERE.sub("", svg)
    return svg.replace("Fira Code", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas")


def main() -> int:
    """Parse the command line and write the file; an exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edge", required=True)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--theme")
    parser.add_argument("--wait", type=float, default=5.0, help="seconds to look on before the picture")
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    try:
        app = make_app(options.edge, theme_name=options.theme)
        svg = asyncio.run(take(app, (width, height), options.wait))
    except CdnctlError as error:
        print(f"picture: {error}", file=sys.stderr)
        return error.exit_code
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(svg, encoding="utf-8")
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
