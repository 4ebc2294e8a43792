"""How hard it is for new flows while the edge is under attack."""

from __future__ import annotations

from typing import Literal

from cdnctl.model.base import Base

ShieldLevel = Literal["calm", "busy", "shedding", "siege"]
LEVELS: tuple[ShieldLevel, ...] = ("calm", "busy", "shedding", "siege")
"""From the mildest on."""
ShieldWish = Literal["auto", "calm", "busy", "shedding", "siege"]
"""`auto`: what the load asks for."""


class Shield(Base, frozen=True, kw_only=True):
    """The level in force, why, and what it costs; rates are over the window."""

    level: ShieldLevel = "calm"
    wish: ShieldWish = "auto"
    """The operators'."""
    why: str = ""
    """What made it so; empty at first."""
    since_ns: int = 0
    """Wall time of the last change; 0: none since the agent began."""
    cost: str = ""
    """What the level asks of honest clients."""
    offered_flows_per_s: float = 0.0
    """New flows that clients wanted, let in or not."""
    unverified_share: float = 0.0
    """The part of those by TCP whose client has not proved that it is where it says."""
    half_open_share: float = 0.0
    """How full the table of half-open flows is."""
    opened_per_s: float = 0.0
    """Flows that got under way: whose client answered its CDN as only one can who is where it says."""
    shed_per_s: float = 0.0
    """New flows that were over their budget."""
    challenged_per_s: float = 0.0
    proved_per_s: float = 0.0
    """Challenges that were answered as only a real client could."""
