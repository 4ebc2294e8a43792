"""The keys as they are bound: the table of `keytable.py`, with what the user's keymap says otherwise.

Everybody who binds, lists or names a key asks here: the footer, help, the palette, hints on the screens.
Only `use` changes what they are told, once, before the app is made.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from cdnctl.console.keytable import (
    APP,
    COLUMNS,
    DIALOG,
    GROUPS,
    HOUSE,
    HOUSE_SECTION,
    PICK,
    SCREENS,
    SCREENS_SECTION,
    SECTIONS,
    WEIGHTS,
    Group,
    Key,
    Place,
)

if TYPE_CHECKING:
    from textual.binding import BindingType
    from textual.dom import DOMNode

__all__ = [
    "APP", "COLUMNS", "DIALOG", "GROUPS", "HOUSE", "PICK", "SCREENS", "SECTIONS", "WEIGHTS", "Group", "Key",
    "Place",
]  # fmt: skip

Overrides = Mapping[tuple[str, str], str]
"""Keys as Textual names them, by section and name."""

_overrides: dict[tuple[str, str], str] = {}
_FACES = {
    "left": "←", "right": "→", "up": "↑", "down": "↓", "escape": "esc", "pagedown": "pgdn", "pageup": "pgup",
}  # fmt: skip
_SHORT = {
    "slash": "SOLIDUS", "backslash": "REVERSE SOLIDUS", "at": "COMMERCIAL AT", "minus": "HYPHEN-MINUS",
    "plus": "PLUS SIGN", "underscore": "LOW LINE", "less_than_sign": "LESS-THAN SIGN",
    "greater_than_sign": "GREATER-THAN SIGN",
}  # fmt: skip
"""Names of Textual's that Unicode does not have, or writes otherwise."""


def use(overrides: Overrides) -> None:
    """Have these keys instead of the table's, from now on."""
    _overrides.clear()
    _overrides.update(overrides)


def section(name: str, overrides: Overrides | None = None) -> tuple[Key, ...]:
    """A table, with what a keymap (the one in use, if none is given) says of it."""
    said = _overrides if overrides is None else overrides
    table = SECTIONS.get(name, ())
    if not any((name, key.name) in said for key in table):
        return table
    bound = [replace(key, keys=said.get((name, key.name), key.keys)) for key in table]
    return tuple(
        replace(group[0], face=" ".join(_first_face(key) for key in group)) if at == 0 and changed else key
        for group, changed in _groups(name, bound, said)
        for at, key in enumerate(group)
    )


def _groups(name: str, table: list[Key], said: Overrides) -> Iterator[tuple[list[Key], bool]]:
    """Keys that share a line of help, and whether any of them is another than in the table."""
    group: list[Key] = []
    for key in table:
        if group and key.help:
            yield group, any((name, each.name) in said for each in group)
            group = []
        group.append(key)
    yield group, any((name, each.name) in said for each in group)


def _first_face(key: Key) -> str:
    return face_of(key.keys.split(",")[0]) if key.keys else key.face


def face_of(key: str) -> str:
    """A key as the keyboard has it: `question_mark` is `?`."""
    *modifiers, last = key.split("+")
    if len(last) > 1 and last not in _FACES:
        try:
            character = unicodedata.lookup(_SHORT.get(last, last.replace("_", " ").upper()))
        except KeyError:
            character = ""  # a key that has none: f5, home
        last = character if character.isprintable() and character.strip() else last
    return "+".join((*modifiers, _FACES.get(last, last)))


def face(name: str, of: str = HOUSE_SECTION) -> str:
    """What to press for that, for a hint on the screen."""
    return next(_first_face(key) for key in section(of) if key.name == name)


def place(name: str) -> Place:
    """The screen of that name."""
    return next(place for place in SCREENS if place.name == name)


def ways() -> tuple[Key, ...]:
    """The keys that lead to the screens."""
    return section(SCREENS_SECTION)


def of(name: str) -> tuple[Key, ...]:
    """All keys of a screen: its own come before the house's, of which they may replace some."""
    own = section(name)
    taken = {each for key in own for each in key.keys.split(",")}
    found = list(own)
    for key in house():
        left = ",".join(each for each in key.keys.split(",") if each not in taken)
        if left or not key.keys:
            found.append(key if left == key.keys else replace(key, keys=left))
        if key.label == "screens" and ways() != SECTIONS[SCREENS_SECTION]:
            found[-1] = replace(key, face="-".join(_first_face(way) for way in (ways()[0], ways()[-1])))
    return tuple(found)


def house() -> tuple[Key, ...]:
    """Those of every screen, where it has no other."""
    return section(HOUSE_SECTION)[: len(HOUSE)]


def app() -> tuple[Key, ...]:
    """Those that hold wherever one is."""
    return section(HOUSE_SECTION)[len(HOUSE) :]


def help_of(name: str) -> tuple[Key, ...]:
    """What the help of a screen lists, each key once."""
    dialogs = (*section("dialog"), *section("weights-dialog")[2:], *section("columns-dialog"))
    return (*of(name), *ways(), *app(), *dialogs)


def bindings(table: Iterable[Key], priority: bool = False) -> list[BindingType]:
    """The table as Textual wants it."""
    from textual.binding import Binding

    return [
        Binding(key.keys, key.bound_action, key.label, show=False, priority=priority)
        for key in table
        if key.keys
    ]


def bind(node: DOMNode, table: Iterable[Key], priority: bool = False) -> None:
    """Have a screen, or the app, heed these keys; they come before those that its class has.

    Textual's own keymap changes keys of a class's bindings; it cannot give a screen back a key of the
    house's that its own does not replace any more. So they are bound here, as they are when it is made.
    """
    from textual.binding import BindingsMap

    ours = BindingsMap(bindings(table, priority)).key_to_bindings
    node._bindings = BindingsMap.from_keys(node._bindings.key_to_bindings | ours)


def footer(name: str) -> list[Key]:
    """The footer's keys in the order of the table."""
    return [key for key in of(name) if key.footer]
