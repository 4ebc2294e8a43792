"""How many colours the terminal shows, and what follows from that for what is written to it.

Rich decides that once more, when it writes: by `COLORTERM`, else by the end of `TERM`. What is said here
must not be more than what it will write, or a theme of exact colours is shown in the nearest of sixteen. So a
terminal that is known to show all colours, but whose `COLORTERM` a login by SSH has lost, gets it back.
"""

from __future__ import annotations

import contextlib
import curses
import os

NONE, SIXTEEN, MIXED, ALL = 0, 16, 256, 1 << 24
"""`MIXED`: from here on the colours of a theme that names them are, near enough, what is shown."""
_ALL = ("truecolor", "24bit")
_KNOWN = ("alacritty", "contour", "direct", "foot", "ghostty", "kitty", "wezterm")
"""Words in the `TERM` of terminals that show all."""


def colors() -> int:
    """How many: none where nobody wants any (https://no-color.org) or terminfo knows of none."""
    if os.environ.get("NO_COLOR"):
        return NONE
    if os.environ.get("COLORTERM", "").strip().lower() in _ALL:
        return ALL
    term = os.environ.get("TERM", "").strip().lower()
    if any(word in term for word in _KNOWN):
        return ALL
    if term.endswith("-256color"):
        return MIXED
    return SIXTEEN if _has_colors() else NONE


def prepare() -> None:
    """Have Rich know what is known here; before the app is made."""
    if colors() == ALL:
        os.environ["COLORTERM"] = "truecolor"


def _has_colors() -> bool:
    """What terminfo says of this terminal; of one that it does not know, that it has."""
    with contextlib.suppress(curses.error):
        curses.setupterm(fd=2)
        return curses.tigetnum("colors") > 2
    return True
