"""What is different between two trees, and the second one made from the first.

A tree is what MessagePack carries: maps with text keys, lists, and scalars. A *patch* is a tree as well:

- of a map: `[fields, values, grown, steps, inner, patches, gone]`, cut off after the last part that is not
  empty. Fields go by numbers (see `Names`): `fields` get `values`, the whole numbers in `grown` grow by
  `steps`, those in `inner` are patched in turn, and those in `gone` are no more;
- of a list: `[order, new, inner, patches]`. `order` tells of each place which of the old items goes there
  (-1: the next of `new`); None when length and order stay. `inner` are places that are patched then.

Which old item a new one is matched with is the encoder's business alone: the decoder needs no notion of
names. An old item goes to one place at most, so that no patch makes much of little. Nothing is changed in
place: what both trees have in common they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Tree = Any
Patch = list[Any]

IDENTITIES: tuple[tuple[str, ...], ...] = (
    ("name",),
    ("name", "protocol"),
    ("prefix",),
    ("prefix", "source"),
    ("address", "port", "protocol"),
    ("pid", "since_ns"),
    ("seq",),
    ("source",),
)
"""What tells the items of a list apart: the first of these that all of them have, and no two alike."""
_LARGEST = 1 << 62
"""Whole numbers beyond this are given as they are: MessagePack has 64 bits for a step."""


_NOTHING: list[list[Any]] = [[]] * 8


class BadPatch(ValueError):
    """A patch that does not fit."""


class Names:
    """Numbers for the names of fields, in the order in which they are met: both sides count alike."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.known: list[str] = []
        """By number."""
        self._fresh: list[str] = []

    def number(self, name: str) -> int:
        """The name's number; a new name gets the next one."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self.known)
            self.known.append(name)
            self._fresh.append(name)
        return found

    def take_fresh(self) -> list[str]:
        """The names met since the last call, which the decoder has to `learn` before the next patch."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def learn(self, names: Sequence[object]) -> None:
        """Names that the other side has met."""
        for name in names:
            if not isinstance(name, str):
                raise BadPatch("a field without a name")
            self.known.append(name)


# --- the difference --------------------------------------------------------------------------------


def diff(old: Tree, new: Tree, names: Names) -> Patch | None:
    """How to make `new` of `old`, two maps or two lists; None when they are the same."""
    return _diff_maps(old, new, names) if isinstance(new, dict) else _diff_lists(old, new, names)


def _diff_maps(old: dict[str, Tree], new: dict[str, Tree], names: Names) -> Patch | None:
    parts: Patch = [[], [], [], [], [], [], []]
    fields, values, grown, steps, inner, patches, gone = parts
    for name, value in new.items():
        before = old.get(name, old)  # the map itself: nothing that a field can hold
        kind = type(value)
        if kind is type(before) and before is not old:
            if kind is dict or kind is list:
                if patch := diff(before, value, names):
                    inner.append(names.number(name))
                    patches.append(patch)
                continue
            if value == before and (value or kind is not float or str(value) == str(before)):
                continue
            if kind is int and -_LARGEST < value < _LARGEST and -_LARGEST < before < _LARGEST:
                grown.append(names.number(name))
                steps.append(value - before)
                continue
        fields.append(names.number(name))
        values.append(value)
    if old.keys() - new.keys():
        gone += [names.number(name) for name in old if name not in new]
    return _cut(parts)


def _diff_lists(old: list[Tree], new: list[Tree], names: Names) -> Patch | None:
    matched = _match(old, new)
    fresh: list[Tree] = []
    inner: list[int] = []
    patches: list[Patch] = []
    for place, at in enumerate(matched):
        if at < 0:
            fresh.append(new[place])
        elif isinstance(new[place], dict | list) and (patch := diff(old[at], new[place], names)):
            inner.append(place)
            patches.append(patch)
    order = None if matched == list(range(len(old))) else matched
    return None if order is None and not inner else _cut([order, fresh, inner, patches]) or [[]]


def _match(old: list[Tree], new: list[Tree]) -> list[int]:
    """For each new item the place of the old one that it was, or -1."""
    for fields in IDENTITIES:
        keys, before = _keys(new, fields), _keys(old, fields)
        if keys is not None and before is not None:
            places = {key: place for place, key in enumerate(before)}
            return [places.get(key, -1) for key in keys]
    known = len(old)
    return [place if place < known and _kin(old[place], item) else -1 for place, item in enumerate(new)]


def _keys(items: list[Tree], fields: tuple[str, ...]) -> list[tuple[Tree, ...]] | None:
    try:
        keys = [tuple(item[field] for field in fields) for item in items if isinstance(item, dict)]
        return keys if len(keys) == len(items) == len(set(keys)) else None
    except (KeyError, TypeError):
        return None


def _kin(old: Tree, new: Tree) -> bool:
    """Whether one can be patched to the other, or is the other."""
    if type(old) is not type(new):
        return False
    if isinstance(new, dict | list):
        return True
    return bool(old == new and (new or not isinstance(new, float) or str(old) == str(new)))


def _cut(parts: Patch) -> Patch | None:
    while parts and not parts[-1]:
        parts.pop()
    return parts or None


# --- and back --------------------------------------------------------------------------------------


def patched(old: Tree, patch: object, names: Names) -> Tree:
    """What `diff` had as `new`; raises ValueError, TypeError or LookupError when that cannot be."""
    if not isinstance(patch, list):
        raise BadPatch("no patch")
    if isinstance(old, dict):
        return _patched_map(old, patch, names)
    if isinstance(old, list):
        return _patched_list(old, patch, names)
    raise BadPatch("a patch of what has no parts")


def _patched_map(old: dict[str, Tree], patch: Patch, names: Names) -> dict[str, Tree]:
    fields, values, grown, steps, inner, patches, gone = _parts(patch, 7)
    known, new = names.known, dict(old)  # a number that was never given raises: no need to look first
    for number, value in zip(fields, values, strict=True):
        new[known[number]] = value
    for number, step in zip(grown, steps, strict=True):
        field = known[number]
        new[field] = _whole(new.get(field)) + _whole(step)
    for number, part in zip(inner, patches, strict=True):
        field = known[number]
        new[field] = patched(new.get(field), part, names)
    for number in gone:
        new.pop(known[number], None)
    return new


def _patched_list(old: list[Tree], patch: Patch, names: Names) -> list[Tree]:
    as_before = not patch or patch[0] is None  # but an empty order is that of an empty list
    order, fresh, inner, patches = _parts([[], *patch[1:]] if as_before else patch, 4)
    new = list(old) if as_before else _ordered(old, order, fresh)
    for place, part in zip(inner, patches, strict=True):
        if not 0 <= _whole(place) < len(new):
            raise BadPatch("a patch of an item that is not there")
        new[place] = patched(new[place], part, names)
    return new


def _ordered(old: list[Tree], order: list[object], fresh: list[Tree]) -> list[Tree]:
    left, new, taken = iter(fresh), [], set()
    for at in order:
        if at == -1:
            new.append(next(left, None))
            continue
        if at in taken or not 0 <= _whole(at) < len(old):
            raise BadPatch("an item that is not there")
        taken.add(at)
        new.append(old[_whole(at)])
    return new


def _parts(patch: Patch, count: int) -> list[list[Any]]:
    for part in patch:
        if type(part) is not list:
            raise BadPatch("a patch of another form")
    if len(patch) > count:
        raise BadPatch("a patch of another form")
    return patch + _NOTHING[len(patch) - count :] if len(patch) < count else patch


def _whole(value: object) -> int:
    if type(value) is not int:
        raise BadPatch("no whole number where one has to be")
    return value
