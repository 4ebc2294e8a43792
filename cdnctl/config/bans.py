"""`[autoban]`: blocks that set themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from cdnctl.config.table import Table
from cdnctl.config.values import Mbit, PerSecond, Seconds


class BanLimits(Table, frozen=True, kw_only=True):
    """`autoban.source` and `autoban.network`: who is over any of them is banned."""

    pps: PerSecond | None = None
    """Packets a second; None: no threshold."""
    mbit: Mbit | None = None
    flows_per_s: PerSecond | None = None
    """New flows by TCP."""
    failed_per_s: PerSecond | None = None
    """Handshakes that the client left after it was answered."""


_ROOM_FOR = "as in { pps = 50_000, flows_per_s = 1_000 }"


class AutobanConfig(Table, frozen=True, kw_only=True):
    """`[autoban]`: blocks that set themselves."""

    mode: Annotated[Literal["off", "dry-run", "on"], Meta(description='"off", "dry-run" or "on"')] = "off"
    """`dry-run`: it says whom it would ban, and bans nobody."""
    source: Annotated[BanLimits, Meta(description=f"a table, {_ROOM_FOR}")] = BanLimits(
        pps=50_000.0, mbit=1_000.0, flows_per_s=1_000.0, failed_per_s=200.0
    )
    """Of an address, of IPv6 a /64."""
    network: Annotated[BanLimits, Meta(description=f"a table, {_ROOM_FOR}")] = BanLimits(
        pps=200_000.0, mbit=4_000.0, flows_per_s=5_000.0, failed_per_s=1_000.0
    )
    """Of a /24 (/48), without those in it that are over a threshold themselves. Nothing wider is banned."""
    ban_s: Seconds = 120.0
    """So long the kernel holds a ban if nobody renews it, which is done while its cause lasts."""
    quiet_s: Seconds = 30.0
    """It is lifted when for so long next to nothing came; twice as long each time again within the hour."""
    most: Annotated[int, Meta(ge=1, le=10_000, description="a whole number from 1 to 10000")] = 200
    """Bans at a time."""
    most_networks: Annotated[int, Meta(ge=0, le=10_000, description="a whole number from 0 to 10000")] = 20
    """Of them, of whole networks."""
