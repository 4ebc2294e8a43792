"""People: who watches, and who asks for a command."""

from __future__ import annotations

from typing import Literal

from cdnctl.model.base import Base


class Watcher(Base, frozen=True, kw_only=True):
    """Who is connected to the agent."""

    user: str
    pid: int
    client: str
    """`console`, `cli`, `demo`, ..."""
    role: Literal["operate", "view"]
    since_ns: int
    uid: int = 0
    """As the kernel told it when they connected."""


class Actor(Base, frozen=True, kw_only=True):
    """Who asks for a command, as the kernel tells it (`SO_PEERCRED`); goes into the journal."""

    user: str
    """The account; `alice as root` when the login account differs from the one in force."""
    uid: int
    pid: int
    client: str = "cli"
    role: Literal["operate", "view"] = "operate"
