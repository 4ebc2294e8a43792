"""Styles of text, as the parameters of SGR (ECMA-48): which is on, and the shortest way to another."""

from __future__ import annotations

import re
from functools import lru_cache

_COLOR = re.compile(r"(?:^|;)((?:38|48);(?:2;\d+;\d+;\d+|5;\d+)|(?:3|4|9|10)[0-79])(?=;|$)")
_OFF = "\x1b[0m"
_SEEN_ON_BLANKS = {"4", "7", "9", "21", "53"}
"""Lines and reversed colours."""


@lru_cache(8192)
def after(before: str, found: str) -> str:
    """The style that is on once these sequences have been written; empty for none."""
    # what comes after the last reset counts
    set_since = found.rpartition(_OFF)[2]
    wanted = set_since[2:-1].replace("m\x1b[", ";") if set_since else ""
    if _OFF not in found and before:
        return f"{before};{wanted}"  # added to what is on
    return wanted


@lru_cache(8192)
def of_blanks(style: str) -> str:
    """What is to be seen of it where there is nothing but blanks."""
    marks, _, back = _parsed(style)
    return style if _SEEN_ON_BLANKS & set(marks.split(";")) else back


@lru_cache(8192)
def change(before: str | None, to: str) -> str:
    """What has to be written for it; `before` None: not known."""
    if before == to:
        return ""
    if not to:
        return _OFF
    if before is None:
        return f"\x1b[0;{to}m"
    (marks, front, back), (new_marks, new_front, new_back) = _parsed(before), _parsed(to)
    if marks != new_marks or (front and not new_front) or (back and not new_back):
        return f"\x1b[0;{to}m"
    changed = ";".join(
        [*([new_front] if front != new_front else []), *([new_back] if back != new_back else [])]
    )
    return f"\x1b[{changed}m" if changed else ""


@lru_cache(4096)
def _parsed(parameters: str) -> tuple[str, str, str]:
    """Attributes, colour, background."""
    found = _COLOR.findall(parameters)
    front = next((each for each in reversed(found) if each[0] in "39"), "")
    back = next((each for each in reversed(found) if each[0] not in "39"), "")
    return _COLOR.sub("", parameters).strip(";"), front, back
