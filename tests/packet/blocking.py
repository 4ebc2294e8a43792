"""Blocks as the engine writes them, and names for what they are about, in both families."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import NamedTuple

from harness import SNAT, SNAT6, VIP, VIP6, Action, DataPath, Seen
from segments import Flag, segment

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.lines import Addresses
from cdnctl.defence.blocklist import Blocklist, Delta
from cdnctl.model import Block

HOUR_NS = 3_600_000_000_000


class Names(NamedTuple):
    """What the tests call things, in one family."""

    elsewhere: str
    """A host that is none of ours."""
    vip: str
    snat: str
    service: str
    """Of one CDN."""
    one: str
    """An address, ..."""
    beside: tuple[str, str, str]
    """... others around it, ..."""
    nested: tuple[str, ...]
    """... prefixes that hold it, the widest first, each in the one before, ..."""
    halves: tuple[str, str]
    """... the first half of the second, which has it and the first beside it; and the last quarter."""
    client: str
    around_client: str
    manager: str
    around_manager: str


FOUR = Names(
    elsewhere="198.18.0.1",
    vip=VIP,
    snat=SNAT[0],
    service="solo",
    one="10.1.2.3",
    beside=("10.1.2.4", "10.1.2.9", "10.1.2.130"),
    nested=("10.1.0.0/16", "10.1.2.0/24", "10.1.2.0/25", "10.1.2.0/26", "10.1.2.0/27"),
    halves=("10.1.2.0/26", "10.1.2.128/25"),
    client="10.1.0.7",
    around_client="10.1.0.0/24",
    manager="192.0.2.7",  # in [edge] management
    around_manager="192.0.2.0/24",
)
SIX = Names(
    elsewhere="2001:db8:e15e::1",
    vip=VIP6,
    snat=SNAT6[0],
    service="solo6",
    one="2001:db8:1:2::3",
    beside=("2001:db8:1:2::4", "2001:db8:1:2::9", "2001:db8:1:2:8000::1"),
    nested=(
        "2001:db8:1::/48",
        "2001:db8:1:2::/64",
        "2001:db8:1:2::/65",
        "2001:db8:1:2::/66",
        "2001:db8:1:2::/80",
    ),
    halves=("2001:db8:1:2::/66", "2001:db8:1:2:8000::/65"),
    client="2001:db8:c1::7",
    around_client="2001:db8:c1::/64",
    manager="2001:db8:aa::7",
    around_manager="2001:db8:aa::/64",
)


class Guarded:
    """Wanted blocks and the kernel's, joined as the engine joins them."""

    def __init__(self, path: DataPath) -> None:
        self.path = path
        self.wanted = Blocklist()

    def block(self, prefix: str, lifetime_ns: int = 0, source: str = "manual") -> None:
        now = time.time_ns()
        ends = now + lifetime_ns if lifetime_ns else 0
        self.write(
            self.wanted.add(Block(prefix=prefix, source=source, created_ns=now, expires_ns=ends)), bump=True
        )

    def unblock(self, prefix: str, source: str = "manual") -> None:
        self.write(self.wanted.remove(prefix, source), bump=True)

    def write(self, delta: Delta, *, bump: bool) -> None:
        for prefix in delta.removed:
            self.path.blocks.remove(prefix)
        written = {**delta.changed, **delta.added}
        freed = [self.path.blocks.put(prefix, expires_ns) for prefix, expires_ns in written.items()]
        if bump and any(freed):
            self.path.tables.bump_generation()

    def expire_now(self, prefix: str) -> None:
        """Its time is over in the kernel; nobody tells the agent."""
        self.path.blocks.put(ip_network(prefix), 1)
        assert self.held(prefix)

    def held(self, prefix: str) -> bool:
        """Does the kernel have exactly this one?"""
        network = ip_network(prefix)
        if network.prefixlen == network.max_prefixlen:
            return Addresses(self.path.program.pins).get(abi.packed(network.network_address)) is not None
        return abi.prefix_key(network) in set(self.path.map("block_prefix").keys())

    def later(self, ns: int) -> None:
        """So much time passes for the kernel; the agent does not notice."""
        self.path.clock(time.monotonic_ns() + ns)


def packet(path: DataPath, source: str, target: tuple[str, int] | None = None) -> Seen:
    """A SYN to a host that is none of ours, or to another target."""
    elsewhere = SIX.elsewhere if ":" in source else FOUR.elsewhere
    return path.run(segment((source, 40000), target or (elsewhere, 9), Flag.SYN))


def is_blocked(path: DataPath, source: str) -> bool:
    """Judged by a packet that leaves no state."""
    seen = packet(path, source)
    assert seen.verdict in (Verdict.BLOCKED, Verdict.PASSED), seen
    assert seen.action == (Action.DROP if seen.verdict is Verdict.BLOCKED else Action.PASS), seen
    return seen.verdict is Verdict.BLOCKED
