"""Every key of the console, in one table a place.

The tables feed the bindings, the footer, the help screen and the command palette; `changes` marks the
keys that alter the edge, which the overview routes through one gate (read-only greys them all).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding, BindingType

Group = Literal["Change the edge", "Look", "Move", "Session", "In a dialog"]

CONFIRM = "ctrl+s"
"""Confirms in every dialog: neither Enter nor a key that opens one."""


@dataclass(frozen=True)
class Key:
    """One binding: `keys` as Textual names them, `face` as the keyboard does."""

    keys: str
    action: str
    face: str
    label: str
    """One or two words for the footer."""
    help: str
    """What it does, a clause for the help screen and the palette."""
    group: Group
    footer: int = 0
    """0: not in the footer; else the higher, the later it is dropped when there is no room."""
    changes: bool = False

    @property
    def bound_action(self) -> str:
        """The action Textual runs; changes go through the gate."""
        return f"change({self.action!r})" if self.changes else self.action


OVERVIEW = (
    Key("question_mark", "help", "?", "help", "this help", "Session", 9),
    Key("b", "block", "b", "block",
        "block the talker under the cursor, or the busiest one", "Change the edge", 8, True),
    Key("u", "unblock", "u", "unblock", "lift a block: pick one from the list", "Change the edge", 6, True),
    Key("w", "weights", "w", "weights",
        "weights and drains, with the shares they lead to", "Change the edge", 7, True),
    Key("d", "disarm", "d", "disarm",
        "disarm: nothing is dropped or ejected any more; arm again", "Change the edge", 5, True),
    Key("c", "confirm", "c", "confirm",
        "keep the change that waits to be confirmed", "Change the edge", 0, True),
    Key("z", "undo", "z", "undo",
        "take back what waits to be confirmed, else the last change", "Change the edge", 0, True),
    Key("space", "freeze", "space", "freeze", "freeze the display; frames go on being kept", "Look", 4),
    Key("s", "sort", "s", "sort", "sort the talkers by the next column", "Look", 3),
    Key("r", "reverse", "r", "reverse", "reverse the order of the talkers", "Look"),
    Key("t", "app.theme", "t", "theme", "the next theme", "Look", 2),
    Key("escape", "clear", "esc", "dismiss", "dismiss the message at the bottom", "Look"),
    Key("tab", "focus_panel(1)", "tab", "next panel", "to the next panel", "Move"),
    Key("shift+tab", "focus_panel(-1)", "shift+tab", "previous panel", "to the panel before", "Move"),
    Key("j,down", "cursor(1)", "j ↓", "down", "the cursor one row down", "Move"),
    Key("k,up", "cursor(-1)", "k ↑", "up", "the cursor one row up", "Move"),
    Key("g,home", "cursor_first", "g", "first", "to the first row; the cursor stays on top", "Move"),
    Key("G,end", "cursor_last", "G", "last", "to the last row", "Move"),
    Key("q", "leave", "q", "quit",
        "quit: leave the edge running, or detach", "Session", 10),
)  # fmt: skip

APP = (
    Key("ctrl+p", "command_palette", "ctrl+p", "commands", "the same commands, by name", "Session"),
    Key("ctrl+c", "abandon", "ctrl+c", "quit at once",
        "quit at once; the edge goes on as it is", "Session"),
)  # fmt: skip

DIALOG = (
    Key(CONFIRM, "confirm", "ctrl+s", "confirm", "do what the dialog says", "In a dialog"),
    Key("escape", "cancel", "esc", "cancel", "close it, nothing changes; so does Enter", "In a dialog"),
)

PICK = (
    Key("j,down", "move(1)", "j ↓", "down", "next row", "In a dialog"),
    Key("k,up", "move(-1)", "k ↑", "up", "row before", "In a dialog"),
    Key("g,home", "move_first", "g", "first", "first row", "In a dialog"),
    Key("G,end", "move_last", "G", "last", "last row", "In a dialog"),
)

WEIGHTS = (
    Key("j,down,tab", "move(1)", "j ↓", "down", "next CDN", "In a dialog"),
    Key("k,up,shift+tab", "move(-1)", "k ↑", "up", "CDN before", "In a dialog"),
    Key("left,minus", "step(-5)", "← −", "less", "weights: 5 less", "In a dialog"),
    Key("right,plus", "step(5)", "→ +", "more", "weights: 5 more", "In a dialog"),
    Key("space,x", "drain", "space", "drain", "weights: drain, or take back into rotation", "In a dialog"),
    Key("backspace", "erase", "0…9", "type", "weights: type the number; backspace erases", "In a dialog"),
)

HELP = (*OVERVIEW, *APP, *DIALOG, *WEIGHTS[2:])
"""What the help screen lists, each key once."""


def bindings(table: Iterable[Key], priority: bool = False) -> list[BindingType]:
    """The table as Textual wants it."""
    return [Binding(key.keys, key.bound_action, key.label, show=False, priority=priority) for key in table]


def footer() -> list[Key]:
    """The footer's keys in the order of the table."""
    return [key for key in OVERVIEW if key.footer]
