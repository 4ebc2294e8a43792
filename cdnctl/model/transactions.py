"""Changes that can be taken back: what waits to be confirmed, what was before, what is not as wanted."""

from __future__ import annotations

from typing import Literal

from cdnctl.model.base import Base


class Pending(Base, frozen=True, kw_only=True):
    """A change that is in force, and reverts by itself unless it is confirmed in time."""

    revision: int
    """Of the state with it."""
    what: str
    """What was done, as the operator was told."""
    by: str
    """Who did it."""
    cli: str = ""
    """The same as a command line."""
    at_ns: int = 0
    ends_at_ns: int
    """When it reverts, in wall time."""
    left_s: float = 0.0
    """Until then; 0 while it is being reverted."""
    trouble: str = ""
    """What keeps it from being reverted, though its time is over."""


class HeldBack(Base, frozen=True, kw_only=True):
    """What the configuration's file says is not in force, and no start puts it there."""

    file: str
    why: Literal["unconfirmed", "edited"]
    """It was put into force and taken back, or it was edited while a reload of what it said waits."""
    text: str
    """The same in words."""
    remedy: str


class Revision(Base, frozen=True, kw_only=True):
    """A state that is kept."""

    number: int
    at_ns: int
    """When it was written."""


class Difference(Base, frozen=True, kw_only=True):
    """Something that the kernel holds otherwise than configuration and operators want it."""

    what: str
    """`endpoint`, `service`, `block`, `limit`, `client`, `switch`, `interface`, `neighbour`, `address`."""
    name: str
    wanted: str
    found: str
