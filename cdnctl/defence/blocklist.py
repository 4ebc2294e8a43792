"""The wanted block list: which prefixes are blocked, by whom, for how long.

Several sources (an operator, later feeds) may block the same prefix; each has an entry of its own. The
kernel knows nothing of sources: for each prefix it has the longest lifetime any of them wants. Every
change returns the `Delta` between what the kernel has and what it should have, so that only that is
written.
"""

from __future__ import annotations

import heapq
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface, ip_network

from msgspec import Struct, field
from msgspec.structs import replace

from cdnctl.model import Block

Network = IPv4Network | IPv6Network

SHORTEST = {4: 8, 6: 16}
"""By version: a shorter prefix is refused. More than 1/256 of all IPv4 addresses is never one attacker,
and no network has been given more of IPv6 than a /16."""
_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses in the form of IPv6, which the kernel's tables have them in (RFC 4291, 2.5.5.2)."""


class Delta(Struct, frozen=True):
    """What to write to the kernel. Lifetimes are wall time in nanoseconds; 0 means never."""

    added: dict[Network, int] = field(default_factory=dict)
    """Prefixes that were free so far: they may cut live flows."""
    changed: dict[Network, int] = field(default_factory=dict)
    """Prefixes that stay blocked, with their new end."""
    removed: tuple[Network, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def parse_prefix(text: str) -> Network:
    """`198.51.100.7`, `198.51.100.0/24` or `2001:db8::/48` as a network; raises ValueError with the remedy.

    A mapped IPv4 address or prefix is the IPv4 one: whoever writes `::ffff:198.51.100.7` means it, and
    there is no other packet from it.
    """
    text = text.strip()
    if (address := _plain_address(text)) is not None:
        return address
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(_no_prefix(text)) from None
    if "%" in text:
        raise ValueError(f"{text} names a link; leave out the % and what follows, for every link is meant")
    if isinstance(network, IPv6Network) and network.overlaps(_MAPPED):
        if network.prefixlen < _MAPPED.prefixlen:
            raise ValueError(f"{text} covers {_MAPPED}, all of IPv4; write a prefix that leaves it out")
        first = IPv4Address(network.network_address.packed[12:])
        network = IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    shortest = SHORTEST[network.version]
    if network.prefixlen < shortest:
        raise ValueError(f"{text} is too wide; of IPv{network.version} a /{shortest} is the most")
    return network


def _plain_address(text: str) -> IPv4Network | None:
    """A bare IPv4 address, which nearly all of a long list are, four times as fast; None for all else."""
    try:
        return IPv4Network(int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"))
    except (OSError, ValueError):
        return None


def _no_prefix(text: str) -> str:
    try:
        meant = ip_interface(text)
    except ValueError:
        return (
            f"{text!r} is neither an address nor a prefix;"
            " write 198.51.100.7, 198.51.100.0/24 or 2001:db8::/48"
        )
    return (
        f"{text} has bits set beyond its /{meant.network.prefixlen};"
        f" write {meant.network} for the prefix or {meant.ip} for the one address"
    )


class Blocklist:
    """The wanted set, keyed by prefix and source. Not thread-safe."""

    def __init__(self) -> None:
        self._by_prefix: dict[Network, dict[str, Block]] = {}
        self._ends: list[tuple[int, int, str, Network]] = []
        """A heap of (end, tie-break, source, prefix); entries that were replaced since stay until due."""
        self._ties = 0
        self._count = 0
        self.by_source: Counter[str] = Counter()
        """How many each source wants."""

    def __len__(self) -> int:
        """How many blocks are wanted, those of several sources counted each."""
        return self._count

    def __iter__(self) -> Iterator[Block]:
        """Every block, in no order."""
        return (block for sources in self._by_prefix.values() for block in sources.values())

    @property
    def prefix_count(self) -> int:
        """How many prefixes are wanted by anybody."""
        return len(self._by_prefix)

    def prefixes(self) -> list[Network]:
        """Every prefix that is wanted, in the order in which they were first: quick, also of a million."""
        return list(self._by_prefix)

    def newest(self, count: int) -> list[Block]:
        """The `count` blocks made last, the newest first."""
        return heapq.nlargest(count, self, key=lambda block: block.created_ns)

    def find(self, prefix: str | Network) -> list[Block]:
        """The blocks of exactly this prefix, one a source. Raises ValueError."""
        network = parse_prefix(prefix) if isinstance(prefix, str) else prefix
        return list(self._by_prefix.get(network, {}).values())

    def add(self, block: Block) -> Delta:
        """Want `block`; it replaces an earlier one of the same prefix and source. Raises ValueError."""
        network = parse_prefix(block.prefix)
        before = self._end(network)
        if before and before <= block.created_ns:
            before = None  # over, though `expire` has not come round: the kernel lets it pass already
        sources = self._by_prefix.setdefault(network, {})
        self._count += block.source not in sources
        self.by_source[block.source] += block.source not in sources
        shown = show_prefix(network)
        sources[block.source] = block if shown == block.prefix else replace(block, prefix=shown)
        if block.expires_ns:
            self._ties += 1
            heapq.heappush(self._ends, (block.expires_ns, self._ties, block.source, network))
        return self._delta(network, before)

    def fill(self, blocks: Iterable[Block]) -> None:
        """Want all of these, as by `add`, in half the time: nothing is in force yet. Raises ValueError."""
        for block in blocks:
            network = parse_prefix(block.prefix)
            if not block.prefix.replace(".", "").isdigit():  # a bare address is shown as it is
                block = replace(block, prefix=show_prefix(network))
            sources = self._by_prefix.setdefault(network, {})
            self._count += block.source not in sources
            self.by_source[block.source] += block.source not in sources
            sources[block.source] = block
            if block.expires_ns:
                self._ties += 1
                self._ends.append((block.expires_ns, self._ties, block.source, network))
        heapq.heapify(self._ends)

    def remove(self, prefix: str, source: str) -> Delta:
        """No longer want the block of this prefix and source. Raises ValueError if there is none."""
        network = parse_prefix(prefix)
        sources = self._by_prefix.get(network, {})
        if source not in sources:
            raise ValueError(self._no_such_block(network, source, sources))
        before = self._end(network)
        self._drop(network, source)
        return self._delta(network, before)

    def expire(self, now_ns: int) -> tuple[list[Block], Delta]:
        """Drop the blocks whose end has come; returns them and what it means for the kernel."""
        gone: list[Block] = []
        before: dict[Network, int | None] = {}
        while self._ends and self._ends[0][0] <= now_ns:
            end, _, source, network = heapq.heappop(self._ends)
            block = self._by_prefix.get(network, {}).get(source)
            if block is None or block.expires_ns != end:
                continue  # removed or replaced since
            before.setdefault(network, self._end(network))
            self._drop(network, source)
            gone.append(block)
        deltas = [self._delta(network, end) for network, end in before.items()]
        return gone, Delta(
            changed={network: end for delta in deltas for network, end in delta.changed.items()},
            removed=tuple(network for delta in deltas for network in delta.removed),
        )

    def kernel_view(self) -> dict[Network, int]:
        """What the kernel should hold: each prefix with the latest end any source wants; 0 is never."""
        return {network: _latest(sources) for network, sources in self._by_prefix.items()}

    def end(self, prefix: str) -> int | None:
        """When the prefix is free again (0: never); None if nobody wants it blocked. Raises ValueError."""
        return self._end(parse_prefix(prefix))

    def end_of(self, network: Network) -> int | None:
        """The same of a network."""
        return self._end(network)

    def _drop(self, network: Network, source: str) -> None:
        sources = self._by_prefix[network]
        del sources[source]
        self._count -= 1
        self.by_source[source] -= 1
        if not self.by_source[source]:
            del self.by_source[source]
        if not sources:
            del self._by_prefix[network]

    def _end(self, network: Network) -> int | None:
        """When the prefix is free again (0: never); None if it is free now."""
        sources = self._by_prefix.get(network)
        return _latest(sources) if sources else None

    def _delta(self, network: Network, before: int | None) -> Delta:
        after = self._end(network)
        if after == before:
            return Delta()
        if after is None:
            return Delta(removed=(network,))
        return Delta(added={network: after}) if before is None else Delta(changed={network: after})

    def _no_such_block(self, network: Network, source: str, sources: dict[str, Block]) -> str:
        shown = show_prefix(network)
        if sources:
            return f"{shown} is not blocked by {source} but by {', '.join(sorted(sources))}, and stays so"
        around = [wider for wider in self._by_prefix if covers(wider, network)]
        if around:
            covering = ", ".join(map(show_prefix, sorted(around, key=lambda wider: wider.prefixlen)))
            return f"{shown} is not blocked itself; {covering} is, which covers it: unblock that"
        return f"{shown} is not blocked; `cdnctl blocks` lists what is"


def covers(wider: Network, network: Network) -> bool:
    """Whether all of `network` lies in `wider`; nothing of one family covers any of the other."""
    if isinstance(wider, IPv4Network):
        return isinstance(network, IPv4Network) and network.subnet_of(wider)
    return isinstance(network, IPv6Network) and network.subnet_of(wider)


def show_prefix(network: Network) -> str:
    """As operators write it: a /32, or a /128 of IPv6, is an address."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _latest(sources: dict[str, Block]) -> int:
    ends = [block.expires_ns for block in sources.values()]
    return 0 if 0 in ends else max(ends)
