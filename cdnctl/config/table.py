"""What all tables of the file have in common."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct


class Table(Struct, frozen=True, kw_only=True):
    """A table of the file."""

    shorthand: ClassVar[str] = ""
    """A key whose value may stand for the whole table; empty: none may."""
