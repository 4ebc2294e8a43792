"""Help: every key, and every word on the screen."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult

from cdnctl.console import keys
from cdnctl.console.format import fit
from cdnctl.console.screens.dialogs.whole import Whole
from cdnctl.console.widgets.lines import Lines, Row

WORDS = (
    ("● in", "takes new flows"),
    ("✖ out", "ejected: dark (no answers), refusing (resets) or slow"),
    ("◐ probing", "single new flows try whether it is back"),
    ("◌ drained", "by an operator: no new flows, live ones stay"),
    ("weight", "what is wanted by configuration or operator, 0 to 1000"),
    ("table", "share of the pick table now, after drains and ejections"),
    ("p50 p95 p99", "handshake at the box, SYN to SYN-ACK, in ms, last 5 s"),
    ("new/s", "new flows a second"),
    ("share", "share of the new flows of the last 5 s"),
    ("rescued", "connects that got no answer and were moved elsewhere"),
    ("pps, Mbit/s", "packets and megabits a second, last 5 s"),
    ("↑ ↓", "to the CDN, and from it"),
    ("k M G", "thousand, million, billion"),
    ("drop", "talkers: share of the source's packets that were dropped"),
    ("±", "relative standard error of a sampled rate"),
    ("1 in N, 1:N", "every Nth packet is sampled; lost: samples that got lost"),
    ("blocks", "prefixes wanted, and enforced if that differs"),
    ("◑ partly", "some of its endpoints are out"),
    ("now, usual", "endpoints: handshake now (a peak that falls), and average"),
    ("limit", "endpoints: a handshake over this counts as slow"),
    ("silent", "endpoints: connects since the last answer"),
    ("ports", "endpoints: share of the SNAT ports towards it that are held"),
    ("95% sure", "talkers: the true rate lies between, 19 times in 20"),
    ("full, spill", "share of capacity in use; new flows that went elsewhere"),
    ("hits", "packets that a block dropped, estimated from samples"),
    ("▲ DISARMED", "nothing is dropped or ejected"),
    ("✖ BYPASSED", "every packet passes untouched, nothing is translated"),
)
FACE, WORD = 11, 13
GAP = 4
FRAME = 8
"""Cells that border, padding and scroll bar take."""


class HelpDialog(Whole[None]):
    """Made from the table of keys; scrolls where it does not fit."""

    BINDINGS = keys.bindings(
        (keys.Key("escape,enter,question_mark,q", "close", "esc", "close", "close", "In a dialog"),)
    )
    AUTO_FOCUS = "#help"

    def __init__(self, name: str = "overview") -> None:
        """`name` is the screen's whose keys are listed."""
        super().__init__()
        self._screen_name = name

    def compose(self) -> ComposeResult:
        lines = Lines(id="help")
        lines.can_focus = True
        lines.border_title = "Help"
        lines.border_subtitle = "j k scroll · esc closes"
        yield lines

    def on_resize(self, event: events.Resize) -> None:
        lines = self.query_one("#help", Lines)
        left, right = _keys(self._screen_name), _words()
        rows = [*left, (), *right]
        half = min((at for at, row in enumerate(rows) if not row), key=lambda at: max(at, len(rows) - at))
        columns = ([rows[:half], rows[half + 1 :]], [rows])
        fitting = (each for each in columns if _together(each) <= event.size.width)
        chosen = next(fitting, columns[-1])
        rows, width = chosen[0], _together(chosen)
        for column in chosen[1:]:
            rows = _side_by_side(rows, column, _width(rows) + GAP)
        lines.styles.width = min(width, event.size.width)
        lines.styles.max_height = event.size.height - 2
        lines.styles.height = len(rows) + 2
        lines.show(rows)

    def on_key(self, event: events.Key) -> None:
        lines = self.query_one("#help", Lines)
        if event.key in ("g", "G"):
            lines.scroll_to(y=0 if event.key == "g" else lines.max_scroll_y, animate=False)
        step = {"j": 1, "k": -1, "pagedown": 10, "pageup": -10}.get(event.key)
        if step:
            lines.scroll_to(y=lines.scroll_offset.y + step, animate=False)

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)


def _keys(name: str) -> list[Row]:
    rows: list[Row] = []
    group = ""
    for key in sorted(keys.help_of(name), key=lambda key: keys.GROUPS.index(key.group)):
        if not key.help:
            continue
        if key.group != group:
            group = key.group
            rows += [*([()] if rows else []), ((group, "accent bold"),)]
        rows.append(((fit(key.face or keys.face("commands"), FACE), "text bold"), (key.help, "muted")))
    return rows


def _words() -> list[Row]:
    return [
        (("What the words mean", "accent bold"),),
        *(((fit(word, WORD), "text bold"), (text, "muted")) for word, text in WORDS),
    ]


def _width(rows: list[Row]) -> int:
    return max(sum(cell_len(text) for text, _ in row) for row in rows)


def _together(columns: list[list[Row]]) -> int:
    return sum(_width(column) for column in columns) + GAP * (len(columns) - 1) + FRAME


def _side_by_side(left: list[Row], right: list[Row], at: int) -> list[Row]:
    rows: list[Row] = []
    for index in range(max(len(left), len(right))):
        one = left[index] if index < len(left) else ()
        used = sum(cell_len(text) for text, _ in one)
        two = right[index] if index < len(right) else ()
        rows.append((*one, (" " * (at - used), ""), *two))
    return rows
