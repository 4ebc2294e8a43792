"""Hostile text, put wherever text from outside can be in what the console is told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pictures
from crowd import Crowd
from frames import Edge
from rich.cells import cell_len

from cdnctl.model import AnyCommand, CellPlan, Change, Frame, Interface, Outcome, Pending, Sampled

STRAINS = {
    "markup": "[/b] [red]x[/] [@click=app.abandon]quit[/] [link=http://192.0.2.1]l[/] $accent {} %s",
    "escapes": "\x1b[2J\x1b[31mred\x1b[?1049l\x9b2J\x1bc\x1bP1$q\x1b\\\x90q\x9c\x84\x85",
    "commands": "\x1b]52;c;ZXZpbA==\x07\x1b]0;owned\x07\x1b]8;;http://192.0.2.1\x1b\\link\x1b]1337;File=x\x07",
    "direction": "\u202egnp.exe\u202c \u2066a\u2069 \u200f\u061c \u05d0\u05d1",
    "zero width": "a\u200bb\u200c\u200d\u2060\ufeff\u00ad\u180e\u3164\uffa0\u115f\u1160"
    "\u034f\ufe0f\U000e0041",
    "combining": "Z" + "\u0301\u0489\u0e47\u20dd" * 300,
    "long": "A" * 10_000,
    "long and wide": "日本\U0001f600" * 3_000,
    "control": "\x00\x01\r\n\t\x08\x7f\x0b\x0c\x1c\u2028\u2029\u0085end",
    "formula": "=cmd|'/C calc'!A0",
    "formulas": "+1+1\t@SUM(A1)\n-2+3\r=1,\"=2\"",
    "shell": "'; rm -rf / #\" $(reboot) `id` \\ !! ~ * && | > -rf --yes",
    "document": "<script>alert(1)</script>&lt; ]]> <!-- \" ' onload=x <image href='http://192.0.2.1'/>",
}  # fmt: skip
ALL = " ".join(text if len(text) < 400 else text[:40] for text in STRAINS.values())
SURROGATE = "\ud83d\ude00 \udc80"
"""No text that comes by a socket has these; what was read from a file name or a terminal may."""

_INVISIBLE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufe00-\ufe0f\ufeff\uffa0\ud800-\udfff\u0300-\u036f\u0489\u20d0-\u20ff\U000e0000-\U000e0fff]"
)
_ALLOWED = re.compile(
    rb"\x1b\[[\d;]*[mHK]|\x1b\[\?\d+[hl]|\x1b\[\?2026\$p|\x1b\[[<=>][\d;]*u|\x1b\]2;[^\x00-\x1f\x7f]*\x07|[\r\n]"
)
"""All that the console itself says to a terminal besides text: colours, places, modes, its title."""


def harmless(text: str, width: int = 10**9) -> bool:
    """Whether a screen's text is text and nothing else, and no line of it wider than the terminal."""
    return not _INVISIBLE.search(text) and all(cell_len(line) <= width for line in text.splitlines())


def said_besides_text(data: bytes) -> list[bytes]:
    """What of these bytes a terminal would not just show, and the console had no reason to say."""
    left = _ALLOWED.sub(b"", data)
    return re.findall(
        rb"[\x00-\x1f\x7f].{0,20}|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae].{0,20}", left, re.DOTALL
    )


def poisoned(value: Any, text: str, numbers: Iterator[int] | None = None) -> Any:
    """The same with `text` for every text that is not one of a few words; no two are quite the same."""
    numbers = numbers or itertools.count()
    if isinstance(value, str):
        return f"{text}{next(numbers)}"
    if isinstance(value, msgspec.Struct):
        kinds = {each.name: each.type for each in msgspec.inspect.type_info(type(value)).fields}  # type: ignore[union-attr]
        changes = {
            name: poisoned(getattr(value, name), text, numbers)
            for name, kind in kinds.items()
            if not isinstance(kind, msgspec.inspect.LiteralType)
        }
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, list | tuple):
        return type(value)(poisoned(each, text, numbers) for each in value)
    if isinstance(value, dict):
        return {f"{text}{next(numbers)}": poisoned(each, text, numbers) for each in value.values()}
    return value


_CELL = CellPlan(region="x", traffic_class="x", factor=0.5, code="x", why="x")


def frames(text: str, count: int = 3, *, edge: str = "") -> list[Frame]:
    """Frames with all that a frame may have, each text of it hostile; `edge`: that one name stays."""
    made_up = Crowd(talkers=30, slow="borealis", flood_pps=900.0, blocked=True)
    return [hostile(made_up, text, edge=edge) for _ in range(count)]


def hostile(made_up: Edge, text: str, *, edge: str = "") -> Frame:
    """The edge's next frame, every text of it hostile."""
    for severity in ("alarm", "warning", "notice"):
        made_up.say("command", "x", severity)  # type: ignore[arg-type]
    frame = made_up.frame()
    waiting = Pending(revision=1, what="x", by="x", cli="x", ends_at_ns=frame.at_ns, left_s=90.0,
                      trouble="x" if frame.seq % 2 else "")  # fmt: skip
    frame = msgspec.structs.replace(
        frame,
        interfaces=[*frame.interfaces, Interface(name="x", mode="generic")],
        pending=waiting,
        step="x",
        cdns=[
            msgspec.structs.replace(cdn, missing="x", plan=msgspec.structs.replace(cdn.plan, cells=[_CELL]))
            for cdn in frame.cdns
        ],
    )
    bad = poisoned(frame, text)
    events = [msgspec.structs.replace(event, text=f"{event.text}: {event.text}") for event in bad.events]
    names = {cdn.name: f"{bad.cdns[0].name}{number}" for number, cdn in enumerate(frame.cdns)}
    return msgspec.structs.replace(  # type: ignore[no-any-return]
        bad,
        edge=edge or bad.edge,
        events=events,
        cdns=[
            msgspec.structs.replace(cdn, name=names[was.name])
            for cdn, was in zip(bad.cdns, frame.cdns, strict=True)
        ],
        talkers=[
            msgspec.structs.replace(talker, cdn=names.get(was.cdn, ""))
            for talker, was in zip(bad.talkers, frame.talkers, strict=True)
        ],
    )


def answer(text: str) -> Callable[[AnyCommand], Outcome]:
    """What an agent says whose every word is hostile."""

    def say(command: AnyCommand) -> Outcome:
        found = poisoned(pictures.answer(command), text)
        if isinstance(command, Change):
            return msgspec.structs.replace(found, warnings=[text] * 3, risk=text)  # type: ignore[no-any-return]
        return found  # type: ignore[no-any-return]

    return say


def packets(text: str) -> Sampled:
    """Sampled packets that say of themselves what they like."""
    return poisoned(pictures.packets(), text)  # type: ignore[no-any-return]
