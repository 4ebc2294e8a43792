"""What must be so before a console is shown: a terminal that is large enough, and a theme."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from cdnctl import paths
from cdnctl.console import theme
from cdnctl.console.screens.arrangement import SMALLEST
from cdnctl.errors import CdnctlError, UsageError


def check(theme_name: str | None = None) -> None:
    """Raise CdnctlError if the console cannot be shown here, whatever the agent: ask before starting one."""
    check_terminal()
    themes_for(theme_name)


def themes_for(
    wanted: str | None, remembered: str = ""
) -> tuple[Mapping[str, theme.Palette], str, list[str]]:
    """The themes found, the name of the one to start with, and what is wrong with theme files."""
    palettes, problems = theme.load(paths.theme_dirs())
    if not palettes:
        raise CdnctlError(
            "no theme can be read", "\n".join(problems) or "reinstall cdnctl: themes/ is missing"
        )
    if wanted and wanted not in palettes:
        raise UsageError(f"--theme: there is no theme {wanted}", f"there are {', '.join(palettes)}")
    fallback = theme.suited(palettes)
    return palettes, wanted or (remembered if remembered in palettes else fallback), problems


def check_terminal() -> None:
    """Raise CdnctlError where the console cannot be shown: no terminal, or one too small."""
    out = sys.__stderr__  # Textual draws there, so that standard output stays free
    if out is None or not out.isatty() or not sys.stdin.isatty():
        raise CdnctlError(
            "the console needs a terminal", "without one: cdnctl status, or cdnctl status --json"
        )
    width, height = os.get_terminal_size(out.fileno())
    if (width and width < SMALLEST[0]) or (height and height < SMALLEST[1]):
        raise CdnctlError(
            f"this terminal is {width}x{height}, the console needs {SMALLEST[0]}x{SMALLEST[1]}",
            "make it larger, or: cdnctl status",
        )
