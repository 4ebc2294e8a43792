"""Who may talk to the SNAT addresses."""

from __future__ import annotations

from typing import Literal

from cdnctl.model.base import Base

SnatFrom = Literal["anyone", "providers"]


class Door(Base, frozen=True, kw_only=True):
    """What the configuration wants, and what is in force."""

    wanted: SnatFrom = "anyone"
    closed: bool = False
    """What nobody on the list sends there is dropped."""
    prefixes: int = 0
    """On the list."""
    trouble: str = ""
    """Why everybody may, though only providers are to; or why the list is not what it should be."""
