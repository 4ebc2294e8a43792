"""Numbers with units, times, and text from outside, as the console writes them.

Every function returns plain text of predictable width, so that columns stay aligned from frame to
frame. Text from outside (names, reasons, events) goes through `clean` before it comes near a screen.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size

NONE = "–"
"""What stands where there is no value."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Zl", "Zp"})
"""Unicode categories never shown: controls, bidi and zero-width marks, unassigned, stacked accents."""
_FILLERS = frozenset(map(chr, (0x115F, 0x1160, 0x3164, 0xFFA0)))
"""Letters by category that fill a place and show nothing."""

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_LIFETIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_FOREVER = ("forever", "never")
_LONGEST_S = 10 * 365 * 86400


def clean(text: str, limit: int = 200) -> str:
    """Text from outside, safe to show: one line, nothing invisible or direction-changing, cut to `limit`."""
    text = text[: 4 * limit]
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", re.sub(r"\s", " ", text))
        text = "".join(
            char for char in text if unicodedata.category(char) not in _INVISIBLE and char not in _FILLERS
        )
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` terminal cells: padded, or cut with an ellipsis."""
    if text.isascii() and len(text) <= width:
        return text.rjust(width) if right else text.ljust(width)
    cells = cell_len(text)
    if cells > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    gap = " " * (width - cells)
    return gap + text if right else text + gap


def scaled(value: float) -> str:
    """Three figures and a factor, at most 5 cells: `0.4`, `340`, `1.20k`, `50.1k`; an int stays whole."""
    for factor, letter in _STEPS:
        if value >= 0.9995 * factor:
            part = value / factor
            return f"{part:.{2 if part < 9.995 else 1 if part < 99.95 else 0}f}{letter}"
    return f"{value:.1f}" if 0.05 <= value < 9.95 and isinstance(value, float) else f"{value:.0f}"


def mbit(bps: float) -> str:
    """Bits a second as Mbit/s without the unit: `0.31`, `31.2`, `1,204`."""
    value = bps / 1e6
    if value < 0.005:
        return "0"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def ms(value: float | None) -> str:
    """Milliseconds without the unit: `0.42`, `12.3`, `1,204`; a dash for no value."""
    if value is None:
        return NONE
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def percent(share: float) -> str:
    """A share from 0 to 1: `0%`, `<1%`, `33%`, `100%`; 100 and 0 are said only when exact."""
    if share <= 0:
        return "0%"
    if share < 0.01:
        return "<1%"
    return f"{min(99, round(share * 100))}%" if share < 1 else "100%"


def count(value: int) -> str:
    """An exact count: `1,234,567`."""
    return f"{value:,}"


def axis(value: float) -> str:
    """A round value at an axis, with no more digits than it has: `0.5`, `20`, `1k`, `1.5k`."""
    return f"{value:.3g}" if value < 1000 else re.sub(r"\.0+(?=\D)|(?<=\.[1-9])0", "", scaled(value))


def duration(seconds: float) -> str:
    """A span in its two largest units: `0.4s`, `42s`, `3m20s`, `3h59m`, `6d2h`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    for size, unit, small_size, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size}{unit}{rest}{small}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


class Clock:
    """How wall times are written, everywhere on the screen."""

    utc = False


def position(seconds: float) -> str:
    """A place on a tape: `1:23.5`, `1:02:03.0`."""
    tenths = int(max(0.0, seconds) * 10 + 1e-6)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{minutes}:{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{shown.partition(':')[2]}" if hours else shown


def clock(at_ns: int) -> str:
    """Wall time of day, local or UTC as `Clock` says: `14:03:22`, `14:03:22Z`."""
    if Clock.utc:
        return datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%H:%M:%SZ")
    return datetime.fromtimestamp(at_ns / 1e9).strftime("%H:%M:%S")


def day(at_ns: int) -> str:
    """The day of a wall time, as `clock` has its hours: `11-14`."""
    zone = UTC if Clock.utc else None
    return datetime.fromtimestamp(at_ns / 1e9, zone).strftime("%m-%d")


def parse_lifetime(text: str) -> float | None:
    """Seconds of `4h`, `90m`, `1d12h`, `300` (seconds); None for `forever`. ValueError says what is taken."""
    text = text.strip().lower().replace(" ", "")
    if text in _FOREVER:
        return None
    seconds = 0.0
    if text.isascii() and text.isdecimal():
        seconds = float(text[:12])
    elif match := _LIFETIME.fullmatch(text):
        days, hours, minutes, rest = (int(part[:9]) if part else 0 for part in match.groups())
        seconds = float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError("lifetime: write 10m, 4h, 2d, 1h30m or forever")
    return seconds
