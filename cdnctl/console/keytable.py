"""Every key of the console, in one table a place, as it is without anybody's keymap.

The tables feed the bindings, the footer, the help screen, the command palette, the README and what a keymap
may say (see `keys.py`, by which everybody asks); `changes` marks the keys that alter the edge, which every
screen routes through one gate (read-only greys them all). `HOUSE` holds on every screen; `SCREENS` says
which screens there are and what each adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["Change the edge", "Look", "Move", "Time", "Screens", "Session", "In a dialog"]

GROUPS: tuple[Group, ...] = (
    "Change the edge", "Look", "Move", "Time", "Screens", "Session", "In a dialog",
)  # fmt: skip
"""In the order of help."""


@dataclass(frozen=True)
class Key:
    """One binding: `keys` as Textual names them, `face` as the keyboard does."""

    keys: str
    """Empty for what the palette alone offers."""
    action: str
    face: str
    label: str
    """One or two words for the footer."""
    help: str
    """What it does, a clause for the help screen and the palette; empty: said with the key before it."""
    group: Group
    footer: int = 0
    """0: not in the footer; else the higher, the later it is dropped when there is no room."""
    changes: bool = False

    @property
    def name(self) -> str:
        """What a keymap calls it."""
        return self.label.lower().replace(" ", "-")

    @property
    def bound_action(self) -> str:
        """The action Textual runs; changes go through the gate."""
        return f"change({self.action!r})" if self.changes else self.action


@dataclass(frozen=True)
class Place:
    """One screen: its number is its key."""

    number: int
    name: str
    title: str
    help: str
    keys: tuple[Key, ...] = ()
    """What it adds to the house's."""
    more: str = ""
    """What is on it, in a sentence or two for who reads before he looks."""

    @property
    def key(self) -> Key:
        """What leads there."""
        return Key(str(self.number), f"app.go('{self.name}')", str(self.number), self.title, self.help,
                   "Screens")  # fmt: skip


HOUSE = (
    Key("question_mark", "help", "?", "help", "this help", "Session", 9),
    Key("colon", "command", ":", "command", "a command, as in a shell: block 192.0.2.0/24 --for 10m",
        "Session", 8),
    Key("", "help", "1-9", "screens", "the other screens, by their numbers", "Screens", 9),
    Key("slash", "filter", "/", "filter", "filter rows by words; ! before a word inverts it", "Look", 4),
    Key("b", "block", "b", "block",
        "block what is under the cursor, or the busiest talker", "Change the edge", 8, True),
    Key("u", "unblock", "u", "unblock", "lift a block: that under the cursor, or pick one",
        "Change the edge", 6, True),
    Key("w", "weights", "w", "weights",
        "weights and drains, with the shares they lead to", "Change the edge", 7, True),
    Key("d", "disarm", "d", "disarm",
        "disarm: nothing is dropped or ejected any more; arm again", "Change the edge", 7, True),
    Key("c", "confirm", "c", "confirm",
        "keep the change that waits to be confirmed", "Change the edge", 0, True),
    Key("z", "undo", "z", "undo",
        "take back what waits to be confirmed, else the last change", "Change the edge", 0, True),
    Key("space", "freeze", "space", "freeze", "freeze the display; in the past: play, pause", "Look", 4),
    Key("R", "record", "R M", "record",
        "have the agent record, or end that; set a mark in it", "Change the edge", 0, True),
    Key("M", "mark", "M", "mark", "", "Change the edge", 0, True),
    Key("s", "sort", "s", "sort", "sort by the next column", "Look", 3),
    Key("r", "reverse", "r", "reverse", "reverse the order", "Look"),
    Key("C", "columns", "C", "columns", "which columns the table shows", "Look"),
    Key("o", "alone", "o", "alone", "the panel with the focus alone, or all of them", "Look"),
    Key("x", "export", "x", "export", "write what is seen: the table as CSV, the screen as SVG",
        "Look", 3),
    Key("t", "app.theme", "t", "theme", "the next theme", "Look", 2),
    Key("T", "app.clock", "T", "clock", "times in UTC, or local", "Look"),
    Key("", "app.bell_option", "", "bell", "ring the terminal's bell on alarms, or not", "Look"),
    Key("", "app.glyphs", "", "glyphs", "draw with braille, blocks or ASCII alone", "Look"),
    Key("left", "travel('skip', -5)", "← →", "5 s back", "5 s (shift: a minute) back, on",
        "Time"),
    Key("right", "travel('skip', 5)", "→", "5 s on", "", "Time"),
    Key("shift+left", "travel('skip', -60)", "shift+←", "1 min back", "", "Time"),
    Key("shift+right", "travel('skip', 60)", "shift+→", "1 min on", "", "Time"),
    Key("left_square_bracket", "travel('chapter', -1)", "[ ]", "chapter before",
        "a chapter (an event that matters) back, on", "Time"),
    Key("right_square_bracket", "travel('chapter', 1)", "]", "next chapter", "", "Time"),
    Key("comma", "travel('step', -1)", ", .", "frame before", "a frame back, on", "Time"),
    Key("full_stop", "travel('step', 1)", ".", "next frame", "", "Time"),
    Key("less_than_sign", "travel('speed', -1)", "< >", "slower", "slower, faster: to 16 times", "Time"),
    Key("greater_than_sign", "travel('speed', 1)", ">", "faster", "", "Time"),
    Key("escape", "back", "esc", "back", "dismiss the message, the filter, or go back a screen", "Move"),
    Key("enter", "drill", "enter", "drill", "into what is under the cursor", "Move"),
    Key("tab", "focus_panel(1)", "tab", "next panel", "to the next panel", "Move"),
    Key("shift+tab", "focus_panel(-1)", "shift+tab", "previous panel", "to the panel before", "Move"),
    Key("j,down", "cursor(1)", "j ↓", "down", "the cursor one row down", "Move"),
    Key("k,up", "cursor(-1)", "k ↑", "up", "the cursor one row up", "Move"),
    Key("pagedown,ctrl+f", "cursor(10)", "pgdn", "page down", "ten rows down", "Move"),
    Key("pageup,ctrl+b", "cursor(-10)", "pgup", "page up", "ten rows up", "Move"),
    Key("g,home", "cursor_first", "g", "first", "to the first row; the cursor stays on top", "Move"),
    Key("G,end", "cursor_last", "G", "last", "to the last row", "Move"),
    Key("q", "leave", "q", "quit",
        "quit: leave the edge running, or detach", "Session", 10),
)  # fmt: skip

TALKERS = (
    Key(
        "f", "follow", "f", "follow", "keep the row under the cursor on top, also when it is quiet", "Look", 9
    ),
    Key("v", "gather", "v", "gather", "by source, by /24, by /16, by service, by CDN", "Look", 8),
)

LISTS = (
    Key("m", "mark", "m", "mark", "mark the row, for what is done to several at once", "Look", 9),
    Key("M", "mark_none", "M", "no marks", "mark nothing", "Look"),
    Key(
        "e",
        "edit",
        "e",
        "edit",
        "another lifetime or reason, for the marked rows",
        "Change the edge",
        9,
        True,
    ),
    Key(
        "u",
        "unblock",
        "u",
        "unblock",
        "lift the marked blocks, or that under the cursor",
        "Change the edge",
        9,
        True,
    ),
    Key("a", "allow", "a", "allow", "neither block nor limit a prefix", "Change the edge", 7, True),
    Key("i", "import", "i", "import", "block what a file lists, a prefix a line", "Change the edge", 6, True),
)

STEERING = (
    Key(
        "l", "limit", "l", "limit", "what the customer under the cursor may take", "Change the edge", 9, True
    ),
)

JOURNAL = (
    Key("u", "undo_entry", "u", "undo", "take back the entry under the cursor", "Change the edge", 8,
        True),
    Key("y", "copy", "y", "copy", "copy the entry's command line to the clipboard (OSC 52)", "Look", 9),
    Key("n", "older", "n", "older", "older entries", "Look", 6),
)  # fmt: skip

TRACE = (
    Key("e", "ask", "e", "trace", "what would become of a packet: FROM[:PORT] TO:PORT", "Look", 9),
    Key("D", "doctor", "D", "doctor", "look at the box again", "Look", 8),
)

SCREENS = (
    Place(
        1, "overview", "overview", "the edge at a glance", (),
        "Each CDN's state (`partly`: one of its endpoints is out), weights, handshakes, share; latency and"
        " traffic live; drops; talkers; events.",
    ),
    Place(
        2, "cdns", "CDNs", "endpoints, latency over time, who was out, and why", (),
        "Each endpoint as the kernel's breaker sees it; of the CDN under the cursor a heat map of handshakes"
        " over two minutes, a histogram, losses, capacity; who was out when, and why;"
        " what each CDN has for the clients of a region (on smaller terminals by `o` and `tab`).",
    ),
    Place(
        3, "talkers", "talkers", "who sends how much: sorted, gathered, followed", TALKERS,
        "Who sends how much, with the bounds that the true rate lies in 19 times in 20, and its course."
        " A gathered row is blocked as a prefix: one of a /24 as that /24.",
    ),
    Place(
        4, "drops", "drops", "every reason for a drop, and sampled packets of it", (),
        "Every reason, explained, with rates and course; packets of it, sampled live. `enter` on a reason"
        " shows its packets alone, on a packet what `trace` says of it.",
    ),
    Place(
        5, "lists", "lists", "what is blocked and what is allowed", LISTS,
        "The block list, searched in the agent (`/192.0.2.7` finds what covers it, at once also among a"
        " million), a page at a time; the allow list. What is done to a block is done to all marked ones.",
    ),
    Place(
        6, "steering", "steering", "weights, capacities, policies, customers and their limits", STEERING,
        "Weights, shares and their course, capacities; what the planner keeps of them, as a whole and"
        " by region and class, and why; traffic"
        " beside what was expected; services and their policies; customers and what they take of their"
        " limits.",
    ),
    Place(
        7, "trace", "trace", "what would become of a packet, and what is wrong with the box", TRACE,
        "What would become of a packet, step by step; what the doctor finds, with remedies.",
    ),
    Place(
        8, "journal", "journal", "who changed what, when and why", JOURNAL,
        "Who changed what, when and why; what was otherwise before. Any entry that can be undone is, by its"
        " row.",
    ),
    Place(
        9, "attack", "attack", "under attack: the level, sources, what each rule drops, bans", (),
        "The shield's level, why, and what it costs; new flows that were wanted beside those that got under"
        " way; sources; what each rule makes of it; bans that set themselves, and whom they spare: `u` lifts"
        " one.",
    ),
)  # fmt: skip

APP = (
    Key("ctrl+p", "command_palette", "ctrl+p", "commands", "the same commands, by name", "Session"),
    Key("ctrl+c", "abandon", "ctrl+c", "quit at once",
        "quit at once; the edge goes on as it is", "Session"),
    Key("ctrl+z", "stop_process", "ctrl+z", "stop", "back to the shell, until its fg", "Session"),
)  # fmt: skip

DIALOG = (
    Key("ctrl+s", "confirm", "ctrl+s", "confirm", "do what the dialog says", "In a dialog"),
    Key("escape", "cancel", "esc", "cancel", "close it, nothing changes; so does Enter", "In a dialog"),
    Key("ctrl+y,y", "copy", "ctrl+y", "copy",
        "copy the command line (OSC 52); y, too, outside of fields",
        "In a dialog"),
)  # fmt: skip

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

COLUMNS = (
    *PICK,
    Key("space,x", "choose", "space", "choose", "columns: show it, or not", "In a dialog"),
    Key("backspace", "forget", "backspace", "forget", "columns: as they come again", "In a dialog"),
)

HOUSE_SECTION, SCREENS_SECTION = "", "screens"
SECTIONS: dict[str, tuple[Key, ...]] = {
    HOUSE_SECTION: (*HOUSE, *APP),
    SCREENS_SECTION: tuple(place.key for place in SCREENS),
    **{place.name: place.keys for place in SCREENS if place.keys},
    "dialog": DIALOG,
    "pick": PICK,
    "weights-dialog": WEIGHTS,
    "columns-dialog": COLUMNS[len(PICK) :],
}
"""All of them, by the tables of a keymap file; what has no table's name holds on every screen.

No binding of those has the name of a table: TOML could not have both."""
