"""Blocks that set themselves: which there are, and whom they would be for."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from cdnctl.model.base import Base

BanMode = Literal["off", "dry-run", "on"]
BanWish = Literal["config", "off", "dry-run", "on"]
"""`config`: what the configuration says."""


class Ban(Base, frozen=True, kw_only=True):
    """One that is in force."""

    prefix: str
    why: str
    since_ns: int
    """Wall time, as is the next."""
    ends_ns: int
    """Unless it is renewed, which it is while its cause lasts."""
    times: int = 1
    """How often the prefix was banned lately, this time included."""
    dropped_pps: float = 0.0


class Offender(Base, frozen=True, kw_only=True):
    """A source or prefix over a threshold that is not banned."""

    prefix: str
    why: str
    spared: str = ""
    """Why a ban would be refused; empty: it would not."""


class Autoban(Base, frozen=True, kw_only=True):
    """What there is of that now."""

    mode: BanMode = "off"
    wish: BanWish = "config"
    """The operators'."""
    bans: list[Ban] = field(default_factory=list)
    """At most `FRAME_BANS`, the newest first; `bans_total` counts all."""
    bans_total: int = 0
    most: int = 0
    """There are never more."""
    offenders: list[Offender] = field(default_factory=list)
    """At most `FRAME_BANS`, those that are furthest over a threshold first."""


FRAME_BANS = 50
