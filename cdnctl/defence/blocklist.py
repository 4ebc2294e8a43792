"""The wanted block list: which prefixes are blocked, by whom, for how long.

Several sources (an operator, later feeds) may block the same prefix; each has an entry of its own. The
kernel knows nothing of sources: for each prefix it has the longest lifetime any of them wants. Every
change returns the `Delta` between what the kernel has and what it should have, so that only that is
written.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface, ip_network
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from cdnctl.defence import codes
from cdnctl.defence.codes import Network as Network
from cdnctl.defence.newest import Newest
from cdnctl.model import Block

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
    if (code := codes.of_plain(text)) is not None:
        return codes.network(code)
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
    _check_length(network)
    return network


def parse_code(text: str) -> int:
    """The same as a code (see codes.py); of a bare IPv4 address in a tenth of the time. Raises ValueError."""
    code = codes.of_plain(text)
    return codes.of_network(parse_prefix(text)) if code is None else code


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


class View(NamedTuple):
    """What the kernel should hold, each with the latest end that any source wants; 0 is never."""

    addresses: list[int]
    """Single IPv4 addresses, as numbers."""
    ends: list[int]
    """Theirs, one each."""
    others: dict[Network, int]
    """All else."""


class Blocklist:
    """The wanted set, keyed by prefix and source. Not thread-safe."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Block, ...]] = {}
        """By the prefix' code: one of each source."""
        self._ends: list[int] = []
        """A heap of ends, each with the code behind it; those that were replaced since stay until due."""
        self._count = 0
        self._newest = Newest()
        self.by_source: Counter[str] = Counter()
        """How many each source wants."""

    def __len__(self) -> int:
        """How many blocks are wanted, those of several sources counted each."""
        return self._count

    def __iter__(self) -> Iterator[Block]:
        """Every block, in no order."""
        return (block for blocks in self._held.values() for block in blocks)

    @property
    def prefix_count(self) -> int:
        """How many prefixes are wanted by anybody."""
        return len(self._held)

    def prefixes(self) -> list[int]:
        """Every prefix that is wanted, as codes, in the order in which they were first: quick, also of a
        million."""
        return list(self._held)

    def newest(self, count: int) -> list[Block]:
        """The `count` blocks made last, the newest first."""
        return self._newest.of(self, count)

    def find(self, prefix: str | Network) -> list[Block]:
        """The blocks of exactly this prefix, one a source. Raises ValueError."""
        return self.at(parse_code(prefix) if isinstance(prefix, str) else codes.of_network(prefix))

    def at(self, code: int) -> list[Block]:
        """The same by its code."""
        return list(self._held.get(code, ()))

    def add(self, block: Block) -> Delta:
        """Want `block`; it replaces an earlier one of the same prefix and source. Raises ValueError."""
        code = parse_code(block.prefix)
        before = self._end(code)
        if before and before <= block.created_ns:
            before = None  # over, though `expire` has not come round: the kernel lets it pass already
        shown = codes.show(code)
        block = block if shown == block.prefix else replace(block, prefix=shown)
        self._put(code, block)
        if block.expires_ns:
            heapq.heappush(self._ends, block.expires_ns << codes.BITS | code)
        return self._delta(code, before)

    def fill(self, blocks: Iterable[Block]) -> None:
        """Want all of these, as by `add`, in a fraction of the time: nothing is in force yet.

        Raises ValueError.
        """
        held, plain, counts, ends = self._held, codes.of_plain, dict[str, int](), self._ends
        for block in blocks:
            code = plain(block.prefix)
            if code is None:
                code = parse_code(block.prefix)
                block = replace(block, prefix=codes.show(code))
            if code in held:
                self._put(code, block)
            else:
                held[code] = (block,)
                counts[block.source] = counts.get(block.source, 0) + 1
            if block.expires_ns:
                ends.append(block.expires_ns << codes.BITS | code)
        self._count += sum(counts.values())
        self.by_source.update(counts)
        heapq.heapify(self._ends)
        self._newest.forget()

    def take(self, blocks: Iterable[Block]) -> View:
        """Want these as well, of one source that had none before; what the kernel should hold of them."""
        blocks = list(blocks)
        self.fill(blocks)
        made = dict.fromkeys(parse_code(block.prefix) for block in blocks)
        return view_of({code: self._held[code] for code in made})

    def let_go(self, source: str) -> tuple[list[Block], View, list[Network]]:
        """Want nothing of a source any more: what that was, what the kernel should hold of it for others, and
        which prefixes nobody wants now."""
        gone = [
            (code, block) for code, blocks in self._held.items() for block in blocks if block.source == source
        ]
        for code, _ in gone:
            self._drop(code, source)
        left = {code: self._held[code] for code, _ in gone if code in self._held}
        free = [codes.network(code) for code, _ in gone if code not in left]
        return [block for _, block in gone], view_of(left), free

    def remove(self, prefix: str, source: str) -> Delta:
        """No longer want the block of this prefix and source. Raises ValueError if there is none."""
        code = parse_code(prefix)
        if all(block.source != source for block in self._held.get(code, ())):
            raise ValueError(self._no_such_block(code, source))
        before = self._end(code)
        self._drop(code, source)
        return self._delta(code, before)

    def expire(self, now_ns: int, most: int | None = None) -> tuple[list[Block], Delta]:
        """Drop the blocks whose end has come, or so many of them; returns them and what it means for the
        kernel."""
        gone: list[Block] = []
        before: dict[int, int | None] = {}
        due = now_ns + 1 << codes.BITS
        while self._ends and self._ends[0] < due and (most is None or len(gone) < most):
            code = heapq.heappop(self._ends) & (1 << codes.BITS) - 1
            for block in self._held.get(code, ()):
                if 0 < block.expires_ns <= now_ns:
                    before.setdefault(code, self._end(code))
                    self._drop(code, block.source)
                    gone.append(block)
        deltas = [self._delta(code, end) for code, end in before.items()]
        return gone, Delta(
            changed={network: end for delta in deltas for network, end in delta.changed.items()},
            removed=tuple(network for delta in deltas for network in delta.removed),
        )

    def kernel_view(self) -> dict[Network, int]:
        """What the kernel should hold: each prefix with the latest end any source wants; 0 is never."""
        return {codes.network(code): _latest(blocks) for code, blocks in self._held.items()}

    def held(self) -> Mapping[int, tuple[Block, ...]]:
        """A copy of all, by code: quick, so that `view` of it can be made by a thread."""
        return self._held.copy()

    def view(self) -> View:
        """The same as `kernel_view`, in a fraction of the time."""
        return view_of(self._held)

    def end(self, prefix: str | Network) -> int | None:
        """When the prefix is free again (0: never); None if nobody wants it blocked. Raises ValueError."""
        return self._end(parse_code(prefix) if isinstance(prefix, str) else codes.of_network(prefix))

    def end_of(self, code: int) -> int | None:
        """The same of a code."""
        return self._end(code)

    def _put(self, code: int, block: Block) -> None:
        before = self._held.get(code, ())
        others = tuple(each for each in before if each.source != block.source)
        if len(others) == len(before):
            self._count += 1
            self.by_source[block.source] += 1
        else:
            self._newest.drop(block.prefix, block.source)
        self._held[code] = (*others, block)
        self._newest.add(block)

    def _drop(self, code: int, source: str) -> None:
        left = tuple(each for each in self._held[code] if each.source != source)
        if left:
            self._held[code] = left
        else:
            del self._held[code]
        self._count -= 1
        self.by_source[source] -= 1
        if not self.by_source[source]:
            del self.by_source[source]
        self._newest.drop(codes.show(code), source)

    def _end(self, code: int) -> int | None:
        """When the prefix is free again (0: never); None if it is free now."""
        blocks = self._held.get(code)
        return _latest(blocks) if blocks else None

    def _delta(self, code: int, before: int | None) -> Delta:
        after = self._end(code)
        if after == before:
            return Delta()
        network = codes.network(code)
        if after is None:
            return Delta(removed=(network,))
        return Delta(added={network: after}) if before is None else Delta(changed={network: after})

    def _no_such_block(self, code: int, source: str) -> str:
        shown, blocks = codes.show(code), self._held.get(code, ())
        if blocks:
            others = ", ".join(sorted(each.source for each in blocks))
            said = f"{shown} is not blocked by {source} but by {others}, and stays so"
            return f"{said}; `cdnctl allow {shown}` lets it pass all the same"
        around = [wider for wider in codes.around(code) if wider in self._held]
        if around:
            covering = ", ".join(map(codes.show, around))
            return f"{shown} is not blocked itself; {covering} is, which covers it: unblock that"
        return f"{shown} is not blocked; `cdnctl blocks` lists what is"


def view_of(held: Mapping[int, tuple[Block, ...]]) -> View:
    """What the kernel should hold of these."""
    addresses, ends, others = list[int](), list[int](), dict[Network, int]()
    whole = codes.address
    for code, blocks in held.items():
        end = blocks[0].expires_ns if len(blocks) == 1 else _latest(blocks)
        if (number := whole(code)) is None:
            others[codes.network(code)] = end
        else:
            addresses.append(number)
            ends.append(end)
    return View(addresses, ends, others)


def why_no_block(code: int) -> str:
    """Why a code that somebody sent is none that may be blocked; nothing if it is."""
    try:
        network = codes.network(code)
        parse_prefix(codes.show(code)) if code >= codes.SIX else _check_length(network)
    except ValueError as error:
        return str(error)
    return ""


def _check_length(network: Network) -> None:
    shortest = SHORTEST[network.version]
    if network.prefixlen < shortest:
        raise ValueError(f"{network} is too wide; of IPv{network.version} a /{shortest} is the most")


def covers(wider: Network, network: Network) -> bool:
    """Whether all of `network` lies in `wider`; nothing of one family covers any of the other."""
    if isinstance(wider, IPv4Network):
        return isinstance(network, IPv4Network) and network.subnet_of(wider)
    return isinstance(network, IPv6Network) and network.subnet_of(wider)


def show_prefix(network: Network) -> str:
    """As operators write it: a /32, or a /128 of IPv6, is an address."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _latest(blocks: Iterable[Block]) -> int:
    ends = [block.expires_ns for block in blocks]
    return 0 if 0 in ends else max(ends)
