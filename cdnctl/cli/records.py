"""Options of the verbs that look back: `journal` and `report`."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime
from pathlib import Path
from typing import get_args

from cdnctl.model import AnyChange

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(?:\d{1,9}[smhdw])+")
_MOST = 1_000_000


def add_journal(parser: argparse.ArgumentParser) -> None:
    """Which lines, and how."""
    parser.description = (
        "List who changed what, when and why, the oldest first. Every filter narrows; of one that is given"
        " several times any will do. Reads the file itself, so it works without an agent, for root and"
        " whoever may read it."
    )
    parser.add_argument("--user", action="append", default=[], metavar="NAME", help="changes by this account")
    parser.add_argument(
        "--verb",
        dest="verbs",
        action="append",
        type=change_verb,
        default=[],
        metavar="VERB",
        help="as block, weight, drain",
    )
    parser.add_argument(
        "--cdn", action="append", default=[], metavar="CDN", help="changes that name this CDN"
    )
    when = "a time of the day, a date, both (UTC), or so long ago, as in 2h"
    parser.add_argument("--since", type=moment, metavar="TIME", help=f"not before: {when}")
    parser.add_argument("--until", type=moment, metavar="TIME", help="not after")
    parser.add_argument("--grep", type=pattern, metavar="REGEX", help="in the command, answer or reason")
    parser.add_argument("--failed", action="store_true", help="only what was refused or failed")
    parser.add_argument("-n", dest="count", type=count, metavar="N", help="only the last N of them")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Where to, and how much is said."""
    parser.description = (
        "Collect into one archive: journal, frames, metrics, configuration, state, what the kernel's tables"
        " hold, doctor's findings, interfaces and versions. Addresses, user names and the host's name are"
        " replaced, consistently, unless --no-redact says so. Works without an agent: MISSING.txt in the"
        " archive says what could not be had, and why."
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="as incident.tar.gz")
    parser.add_argument(
        "--redact",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replace addresses by others of 240.0.0.0/4 and 2001:db8::/32, and names of users and host",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def change_verb(text: str) -> str:
    """What a line of the journal may be of."""
    verbs = sorted(str(kind.__struct_config__.tag) for kind in get_args(AnyChange))
    if text in verbs:
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: no such verb; expected one of {', '.join(verbs)}")


def moment(text: str) -> int:
    """A wall time in nanoseconds: `2h` ago, `14:30` today, `2026-01-31`, `2026-01-31T14:30:00Z`."""
    if _AGO.fullmatch(text):
        ago_s = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", text))
        return max(0, time.time_ns() - ago_s * 10**9)
    today = time.strftime("%Y-%m-%dT", time.gmtime())
    try:
        found = datetime.fromisoformat(today + text if re.match(r"\d\d?:", text) else text)
        if found.tzinfo is None:
            found = datetime.fromisoformat(found.isoformat() + "+00:00")
        return int(found.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected so long ago as in 90s, 2h, 1d12h, or a time (UTC) as in 14:30,"
            " 2026-01-31 or 2026-01-31T14:30:00"
        ) from None


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression, in which small and capital letters are the same."""
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def count(text: str) -> int:
    """How many lines."""
    if text.isascii() and text.isdecimal() and len(text) < 9 and 0 < int(text) <= _MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number of lines, from 1 to {_MOST}")
