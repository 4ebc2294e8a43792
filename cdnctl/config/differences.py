"""What one configuration has that another has not, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, fields

from cdnctl.config.schema import Config

_ONCE = (
    *("edge", "limits", "reflex", "quota", "metrics", "log"),
    *("shield", "autoban", "model", "planner", "dns"),
)
_MANY = ("region", "customer", "cdn", "service", "feed")
_SHOWN = 4
"""Members of a list that are named one by one."""


def differences(before: Config, after: Config) -> list[str]:
    """One for each thing that is new, gone or changed; none if they say the same."""
    found = [word for name in _ONCE for word in _changes(name, getattr(before, name), getattr(after, name))]
    for name in _MANY:
        old = {each.name: each for each in getattr(before, f"{name}s")}
        new = {each.name: each for each in getattr(after, f"{name}s")}
        found += [f"{name} {each} is gone" for each in old if each not in new]
        found += [f"{name} {each} is new" for each in new if each not in old]
        for each in (name for name in new if name in old):
            found += _changes(f"{name} {each}", old[each], new[each])
        if old.keys() == new.keys() and list(old) != list(new):
            found.append(f"the {name}s are in another order")
    return found


def _changes(what: str, before: Struct, after: Struct) -> Iterator[str]:
    """By field; `edge.management` and `cdn aurora: weight` are how they are called."""
    old, new = asdict(before), asdict(after)
    names = {each.name: each.encode_name for each in fields(after)}
    joint = ": " if " " in what else "."
    for field, value in new.items():
        if value != old[field]:
            yield f"{what}{joint}{names[field]} {_change(old[field], value)}"


def _change(before: Any, after: Any) -> str:
    if not isinstance(before, tuple) or not isinstance(after, tuple) or not before or not after:
        return f"is {_show(after)}, was {_show(before)}"
    added = [each for each in after if each not in before]
    removed = [each for each in before if each not in after]
    if not added and not removed:
        return f"is in another order: {_show(after)}"
    words = [f"has {_show(tuple(added))} now"] if added else []
    words += [f"has {_show(tuple(removed))} no more"] if removed else []
    return " and ".join(words)


def _show(value: Any) -> str:
    if isinstance(value, Struct):
        shorthand = getattr(value, "shorthand", "")
        usual = {each.name: each.default for each in fields(value)}
        said = {name: each for name, each in asdict(value).items() if each is not None and each != ()}
        if shorthand:
            said = {name: each for name, each in said.items() if each != usual[name]}
        if list(said) == [shorthand]:
            return _show(said[shorthand])
        return "(" + ", ".join(f"{name} {_show(each)}" for name, each in said.items()) + ")"
    if isinstance(value, tuple):
        more = f" and {len(value) - _SHOWN} more" if len(value) > _SHOWN else ""
        return ", ".join(map(_show, value[:_SHOWN])) + more or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
