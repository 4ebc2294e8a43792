"""The same picture in fewer bytes: of a style only what is other than before.

Textual sets every piece's whole style, and takes it back after; over a slow line that is most of the bytes.
"""

from __future__ import annotations

import re
from functools import lru_cache

_STYLES = re.compile(r"(?:\x1b\[[\d;]*m)+")
_COLOR = re.compile(r"(?:^|;)((?:38|48);(?:2;\d+;\d+;\d+|5;\d+)|(?:3|4|9|10)[0-79])(?=;|$)")
_OFF = "\x1b[0m"


@lru_cache(4096)
def _parsed(parameters: str) -> tuple[str, str, str]:
    """Attributes, colour, background."""
    found = _COLOR.findall(parameters)
    front = next((each for each in reversed(found) if each[0] in "39"), "")
    back = next((each for each in reversed(found) if each[0] not in "39"), "")
    return _COLOR.sub("", parameters).strip(";"), front, back


@lru_cache(8192)
def _change(before: str, after: str) -> str:
    """From one style to the other."""
    if before == after:
        return ""
    if not after:
        return _OFF
    (marks, front, back), (new_marks, new_front, new_back) = _parsed(before), _parsed(after)
    if marks != new_marks or (front and not new_front) or (back and not new_back):
        return f"\x1b[0;{after}m"
    changed = ";".join(
        [*([new_front] if front != new_front else []), *([new_back] if back != new_back else [])]
    )
    return f"\x1b[{changed}m" if changed else ""


def thrifty(text: str) -> str:
    """The same, where each run of styles begins with its whole style or ends the one before.

    It begins and ends without any, as what Textual writes at a time does.
    """
    now = ""

    def spare(found: re.Match[str]) -> str:
        nonlocal now
        # what comes after the last reset counts
        set_since = found[0].rpartition(_OFF)[2]
        wanted = set_since[2:-1].replace("m\x1b[", ";") if set_since else ""
        if _OFF not in found[0] and now:
            wanted = f"{now};{wanted}"  # added to what is on
        change, now = _change(now, wanted), wanted
        return change

    return _STYLES.sub(spare, text) + (_OFF if now else "")
