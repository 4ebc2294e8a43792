"""The user's own keys: a TOML file that says of some bindings which keys they have instead.

    block = "B"                      # on every screen; the names are those of `cdnctl keys`
    freeze = ["space", "p"]          # several keys
    [talkers]
    follow = "F"                     # on that screen
    [dialog]
    confirm = "ctrl+o"

A line that means nothing, or would take another binding its key, costs itself only: the binding keeps the
keys of the table, and what is wrong is said with file, key and remedy.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from cdnctl.console import keys
from cdnctl.console.keytable import HOUSE_SECTION, SCREENS_SECTION, SECTIONS, Key

_NAMED = frozenset(
    (
        "space", "enter", "escape", "tab", "backspace", "delete", "insert", "home", "end", "pageup",
        "pagedown", "up", "down", "left", "right", *(f"f{number}" for number in range(1, 25)),
    )
)  # fmt: skip
_MODIFIERS = ("ctrl", "alt", "shift")
_TEXTUAL = {"solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at",
            "hyphen_minus": "minus", "plus_sign": "plus", "low_line": "underscore"}  # fmt: skip
_SAME = {"i": "tab", "m": "enter", "j": "enter", "h": "backspace", "[": "escape"}
_HOW = 'one key as "B", "f5" or "ctrl+o", or several as ["space", "p"]'
_EVERYWHERE = (HOUSE_SECTION, SCREENS_SECTION)
_DIALOGS = ("dialog", "pick", "weights-dialog", "columns-dialog")
_TOGETHER = (("dialog", "pick"), ("dialog", "weights-dialog"), ("dialog", "pick", "columns-dialog"))
"""Tables that hold at once in a dialog."""
_RISKY = ("confirm",)
OF_FIELDS = frozenset(
    (
        "ctrl+a", "ctrl+c", "ctrl+d", "ctrl+e", "ctrl+k", "ctrl+u", "ctrl+v", "ctrl+w", "ctrl+x", "ctrl+left",
        "ctrl+right", "ctrl+backspace", "alt+backspace",
    )
)  # fmt: skip
"""What a field for text takes for itself: a dialog would never see it while one has the focus."""
_Place = tuple[str, str]
"""A binding, by section and name."""


def load(path: Path | None) -> tuple[dict[_Place, str], list[str]]:
    """What the file says that can be followed, and what is wrong with the rest, a sentence each."""
    if path is None:
        return {}, []
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        return {}, [f"{path}: {error}; correct it, or delete it to have the usual keys"]
    found: dict[_Place, str] = {}
    problems: list[str] = []
    for where, value in _lines(data):
        try:
            found[where] = _checked(where, value)
        except ValueError as error:
            problems.append(f"{path}: {_said(where)}: {error}")
    while clash := _clash(found):
        culprit, problem = clash
        del found[culprit]
        problems.append(f"{path}: {_said(culprit)}: {problem}")
    return found, problems


def _lines(data: dict[str, Any]) -> Iterator[tuple[_Place, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            for inner, each in value.items():
                yield (name, inner), each
        else:
            yield (HOUSE_SECTION, name), value


def _said(where: _Place) -> str:
    section, name = where
    return f"[{section}] {name}" if section else name


def _checked(where: _Place, value: Any) -> str:
    """The keys as Textual names them. Raises ValueError, which names the remedy."""
    section, name = where
    if section not in SECTIONS:
        tables = ", ".join(f"[{each}]" for each in SECTIONS if each)
        raise ValueError(f"there is no table [{section}]; there are {tables}")
    known = {key.name: key for key in SECTIONS[section] if key.keys}
    if name not in known:
        elsewhere = [each for each, table in SECTIONS.items() if name in {key.name for key in table}]
        hint = f"it is in {' and '.join(f'[{each}]' for each in elsewhere if each) or 'no table'}; "
        raise ValueError(
            f"there is no such binding here; {hint if elsewhere else ''}`cdnctl keys` lists all names"
        )
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(each, str) for each in given):
        raise ValueError(f"{value!r} is no key; write {_HOW}")
    made = [key_of(each) for each in given]
    if section == "dialog" and (taken := OF_FIELDS.intersection(made)):
        raise ValueError(f"{min(taken)} edits the text of a field; take another, as ctrl+o or f10")
    if section == "dialog" and name in _RISKY:
        for each in made:
            if not re.match(r"ctrl\+|alt\+|f\d", each):
                raise ValueError(
                    f"{each!r} would be typed, or hit by habit; what confirms is a key with ctrl or alt, or"
                    " one of f1 to f24, as ctrl+s is"
                )
    return ",".join(dict.fromkeys(made))


def key_of(text: str) -> str:
    """A key as Textual names it, from how people write it. Raises ValueError."""
    text = text.strip() if text != " " else "space"
    *modifiers, last = text.split("+") if len(text) > 1 and not text.endswith("+") else (text,)
    if text.endswith("+") and len(text) > 1:
        *modifiers, last = *text[:-2].split("+"), "+"
    if any(each not in _MODIFIERS for each in modifiers):
        raise ValueError(f"{text!r} is no key; write {_HOW}")
    if len(last) == 1 and last.isprintable():
        named = last if last.isalnum() else _name_of(last)
    elif last in _NAMED or _is_name_of_character(last):
        named = last
    else:
        raise ValueError(f"{text!r} is no key; write {_HOW}")
    if modifiers == ["ctrl"] and last in _SAME:
        raise ValueError(f"a terminal cannot tell {text} from {_SAME[last]}; take another")
    if modifiers == ["shift"] and len(last) == 1 and last.isalpha():
        return named.upper()
    return "+".join((*modifiers, named))


def _name_of(character: str) -> str:
    name = unicodedata.name(character, "").lower().replace("-", "_").replace(" ", "_")
    return _TEXTUAL.get(name, name)


def _is_name_of_character(name: str) -> bool:
    return len(name) > 1 and len(keys.face_of(name)) == 1


def _clash(found: dict[_Place, str]) -> tuple[_Place, str] | None:
    """A line that gives a binding a key that another one has where both hold; None when there is none."""
    for one, other in _neighbours():
        (mine, key), (theirs, other_key) = one, other
        if mine not in found and theirs not in found:
            continue  # as it comes: a screen's own key may stand for one of the house's
        shared = _keys(found.get(mine, key.keys)) & _keys(found.get(theirs, other_key.keys))
        if not shared or shared <= _keys(key.keys) & _keys(other_key.keys):
            continue
        culprit, holder, its = (mine, theirs, other_key) if mine in found else (theirs, mine, key)
        face = keys.face_of(sorted(shared)[0])
        return culprit, (
            f"{face} is the key of {_said(holder)} ({its.help or its.label}) already; take another, or give"
            f" {_said(holder)} another too"
        )
    return None


def _keys(text: str) -> set[str]:
    return set(filter(None, text.split(",")))


def _neighbours() -> Iterator[tuple[tuple[_Place, Key], tuple[_Place, Key]]]:
    """Bindings that hold at once, and what confirms beside all that open dialogs."""
    everywhere = [*_table(HOUSE_SECTION), *_table(SCREENS_SECTION)]
    yield from combinations(everywhere, 2)
    for section in SECTIONS:
        if section not in (*_EVERYWHERE, *_DIALOGS):
            own = _table(section)
            yield from combinations(own, 2)
            yield from ((one, other) for one in own for other in everywhere)
            yield from ((one, other) for one in own for other in _table("dialog")[:1])
    for together in _TOGETHER:
        yield from combinations([each for section in together for each in _table(section)], 2)
    yield from ((one, other) for one in _table("dialog")[:1] for other in everywhere)


def _table(section: str) -> list[tuple[_Place, Key]]:
    return [((section, key.name), key) for key in SECTIONS[section] if key.keys]
