"""Reads TOML tables into typed Structs and collects every mistake, instead of stopping at the first.

The type of a field says what is right, and its `Meta(description=...)` says it in an operator's words:

    weight: Annotated[int, Meta(ge=0, le=1000, description="a whole number from 0 to 1000")]

What no type can say (is this text an address?) is a function from the value to the value, raising
ValueError, put into the annotation beside the Meta.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct


class Problem(Struct, frozen=True):
    """One mistake in a file."""

    file: str
    key: str
    """Where in the file, as in `cdn[2].weight` (the second [[cdn]]); empty for the file itself."""
    value: str
    """What stands there, as in the file; empty when nothing does."""
    expected: str
    """What would be right."""

    def __str__(self) -> str:
        where = [self.file, f"{self.key} = {self.value}" if self.value else self.key, self.expected]
        return ": ".join(part for part in where if part)


class TableReader:
    """Checks the tables of one file; `problems` grows as it goes."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def wrong(self, key: str, value: object, expected: str) -> None:
        """Note a mistake; a `value` of None means that nothing is there."""
        self.problems.append(Problem(self.file, key, "" if value is None else shown(value), expected))

    def table(self, kind: type[Struct], key: str, raw: object) -> dict[str, Any]:
        """The fields of `kind` that are right in `raw`, and defaults; see `_field` for the wrong ones."""
        if not isinstance(raw, dict):
            self.wrong(key, raw, f"a table headed [{key}] is needed")
            return {}
        hints = get_type_hints(kind, include_extras=True)
        fields = msgspec.structs.fields(kind)
        names = [field.encode_name for field in fields]
        for name, value in raw.items():
            if name not in names:
                self.wrong(f"{key}.{name}", value, f"no such key here; there are {', '.join(names)}")
        good: dict[str, Any] = {}
        for field in fields:
            name = field.encode_name
            if name in raw:
                good |= self._field(hints[field.name], f"{key}.{name}", name, raw[name])
            elif field.required:
                self.wrong(f"{key}.{name}", None, f"is needed: {description(hints[field.name])}")
            else:
                good[name] = field.default
        return good

    def tables(
        self, kind: type[Struct], key: str, raw: object, most: int, least: int = 1
    ) -> list[dict[str, Any]]:
        """`table` of each member of an array of tables."""
        if not least and raw is None:
            return []
        if not isinstance(raw, list) or len(raw) < least:
            many = "one or more tables are" if least else "tables are"
            self.wrong(key, raw or None, f"{many} needed, each headed [[{key}]]")
            return []
        if len(raw) > most:
            self.wrong(key, len(raw), f"there is room for {most} tables [[{key}]]")
        return [self.table(kind, f"{key}[{number}]", each) for number, each in enumerate(raw, 1)]

    def _field(self, hint: Any, key: str, name: str, raw: object) -> dict[str, Any]:
        """`{name: value}`, or nothing if it is wrong; a list keeps None in the place of a wrong member.

        Tables within are dictionaries of the fields that are right in them.
        """
        kind, member = _struct(hint), _member(hint)
        if kind is not None and isinstance(raw, dict):
            return {name: self.table(kind, key, raw)}
        if kind is not None and (short := getattr(kind, "shorthand", "")):
            hints = get_type_hints(kind, include_extras=True)
            value = self._field(hints[short], key, short, raw)
            return {name: _defaults(kind) | value} if value else {}
        if member is not None and isinstance(raw, list):
            found = [self._field(member, f"{key}[{n}]", "", each) for n, each in enumerate(raw, 1)]
            raw = [each.get("") for each in found]
            if not all(found):
                return {name: tuple(raw)}
            hint = _of_any(hint)
        try:
            value = msgspec.convert(raw, hint)
            for check in _checks(hint):
                value = check(value)
        except msgspec.ValidationError:
            self.wrong(key, raw, f"expected {description(hint)}")
            return {}
        except ValueError as error:
            self.wrong(key, raw, f"expected {description(hint)}; {error}")
            return {}
        return {name: value}


def shown(value: object) -> str:
    """`value` about as it stands in a TOML file."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case list():
            return "[" + ", ".join(map(shown, value)) + "]"
        case dict():
            return "{ " + ", ".join(f"{key} = {shown(each)}" for key, each in value.items()) + " }"
        case _:
            return str(value)


def description(hint: Any) -> str:
    """What `hint` asks for, in words."""
    return next((m.description for m in _extras(hint) if isinstance(m, Meta) and m.description), str(hint))


def _extras(hint: Any) -> Iterator[Any]:
    """What is annotated to `hint`, or to a part of it when it is a union."""
    yield from getattr(hint, "__metadata__", ())
    if get_origin(hint) is not tuple:
        for part in get_args(hint):
            yield from getattr(part, "__metadata__", ())


def _checks(hint: Any) -> Iterator[Any]:
    return (extra for extra in _extras(hint) if callable(extra))


def _bare(hint: Any) -> Any:
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


def _member(hint: Any) -> Any:
    """The type of the members, when `hint` is a tuple of any length."""
    members = get_args(_bare(hint))
    return members[0] if get_origin(_bare(hint)) is tuple and members[1:] == (...,) else None


def _of_any(hint: Any) -> Any:
    """The same kind of tuple, but of anything: its members were checked one by one."""
    extras = getattr(hint, "__metadata__", ())
    return Annotated[(tuple[Any, ...], *extras)] if extras else tuple[Any, ...]


def _struct(hint: Any) -> type[Struct] | None:
    """The kind of table that `hint` is, or may be."""
    parts = (_bare(hint), *(get_args(_bare(hint)) if get_origin(_bare(hint)) is not tuple else ()))
    return next((part for part in parts if isinstance(part, type) and issubclass(part, Struct)), None)


def _defaults(kind: type[Struct]) -> dict[str, Any]:
    return {field.encode_name: field.default for field in msgspec.structs.fields(kind) if not field.required}
