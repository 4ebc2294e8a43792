"""What `cdnctl` offers where nothing is configured yet: to set an edge up, or to look at one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from cdnctl import paths
from cdnctl.agent.edge import named_edge, pinned_edges, sockets
from cdnctl.errors import CdnctlError


def nothing_is_here(options: argparse.Namespace) -> bool:
    """Neither a configuration nor an edge, and none was named."""
    if options.config is not None or named_edge(options.edge) or paths.config_path().exists():
        return False
    return not sockets() and not pinned_edges()


def recordings() -> list[Path]:
    """Those that come with the program."""
    return sorted((paths.share_dir() / "recordings").glob("*.rec"))


def offer(main: Callable[[list[str]], int]) -> int:
    """Ask what is wanted, and do it by `main`, which runs a command line."""
    choices: list[tuple[str, list[str]]] = [
        ("set up this box: a few questions, and a configuration file", ["init"]),
        ("look at the demo: a whole edge with traffic and faults, in namespaces of its own", ["demo"]),
    ]
    choices += [(f"look at a recording: {path.stem}", ["replay", str(path)]) for path in recordings()]
    print(f"there is no configuration at {paths.config_path()}, and no edge runs here.")
    for number, (text, words) in enumerate(choices, 1):
        print(f"  {number}  {text}  (cdnctl {' '.join(words)})")
    try:
        said = input(f"which? 1 to {len(choices)}, or Enter for none: ").strip()
    except EOFError:
        said = ""
    if not said:
        return 0
    if not (said.isascii() and said.isdecimal() and 0 < int(said[:3]) <= len(choices)):
        raise CdnctlError(f"'{said}' is none of them", "`cdnctl --help` lists all there is")
    sys.stdout.flush()
    return main(choices[int(said) - 1][1])
