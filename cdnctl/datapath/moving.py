"""Everything that an edge's tables hold, moved into tables of another layout, under traffic.

    fill       all of it, once; takes its time, and nobody waits
    refresh    what operators and agents write, again
    swapping   what has changed of the flows, again; then, around the swap of the programs, nobody is reset
               for a flow that is not here yet; and what has changed last

Between the first interface's swap and the last change's copy a packet of a flow may meet tables that do
not know it. It is dropped, and sent again: hence the tables are told that they are MODE_MOVING.

A flow whose SNAT address or port is no more is cut, and counted.
"""

from __future__ import annotations

import contextlib
import errno
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cdnctl.config import Config
from cdnctl.datapath import abi, kernel
from cdnctl.datapath.flows import BEING_BOUND, SECOND_BITS
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.numbering import NOWHERE, Numbering
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import Tables

WRITTEN = (
    "mode", "settings", "local_addresses", "local_cells", "link_ids", "links", "service_ids", "services",
    "picks", "capacities", "customer_limits", "clients", "management",
)  # fmt: skip
"""Tables of the agent's, small enough to be copied again at once."""
BLOCKS = ("block_bits", "block6_bits", "block_wide", "block_exact", "block_prefix")
"""Maybe large; the agent makes them exact afterwards."""
BY_ENDPOINT = ("endpoints", "health")
"""Arrays by an endpoint's number; `endpoint_ids` leads there."""
LEARNED = ("heard_of", "weight_out", "loads", "meters", "sources", "sweeps")
"""What the kernel found out: a moment of it may be lost."""
COUNTED = (
    "verdicts", "cdn_counts", "customer_counts", "service_flows", "handshakes", "first_bytes",
)  # fmt: skip
"""Totals of each CPU: none may be lost."""
UNDER_WAY = ("established", "datagrams")
"""Whose flows bear the moment that they were promoted."""
FLOWS = ("half_open", *UNDER_WAY, "reverse", "fragments")
"""Of clients and CDNs."""
QUIC = ("quic_ids", "quic_offers")
"""Connections' ids, which lead to an endpoint."""
NOT_MOVED = ("identity", "hops", "sketches", "census")
"""What a table is, and what is found out anew in no time."""

_FULL = (errno.E2BIG, errno.ENOSPC)
_MARGIN_NS = 2_000_000_000
"""Stamps are of whole seconds, of a coarse clock."""

CUT = "flows were cut: their SNAT address or port, or the room for their endpoint, is no more"


def begin(program: Program, config: Config) -> Move | None:
    """What is to be done before a prepared program can be attached, if there is anything."""
    if program.before is None:
        return None
    numbering = Numbering(Tables(program.before), config)
    return Move(program.before, program.pins, numbering, filled=program.is_filled)


class Move:
    """From the tables pinned in `before` to those in `after`; one use."""

    def __init__(self, before: Path, after: Path, numbering: Numbering, *, filled: bool = False) -> None:
        """`filled`: they hold the flows up to some moment already, and may be in use."""
        self._before, self._after = before, after
        self._numbering = numbering
        self._filled = filled
        self._copied_ns = 0
        """When the last copy of the flows began."""
        self._counted: dict[str, dict[bytes, bytes]] = {}
        """Totals as they were copied."""
        self._pairs: dict[str, tuple[Map, Map]] = {}
        self._cut: dict[int, int] = {}
        """States of old slots that have no place any more."""
        self.cut = 0
        """Flows that were open, and are cut."""

    # -- beforehand --

    def fill(self) -> None:
        """Copy all, once."""
        if self._filled:
            return
        for name in BLOCKS:
            self._copy(name)
        for name in QUIC:
            self._copy_ids(name)
        self.catch_up()
        self.catch_up()  # the first one took long

    def refresh(self) -> None:
        """Copy what the agent wrote and the kernel learned; from now on the agent writes the new ones."""
        if self._filled:
            return
        for name in (*WRITTEN, *LEARNED):
            self._copy(name)
        self._copy_endpoints()
        for name in COUNTED:
            old, new = self._pair(name, per_cpu=True)
            self._counted[name] = dict(old.items())
            new.put_all(self._counted[name])

    def catch_up(self) -> None:
        """Copy flows that are new or have changed since the last time."""
        since_ns, self._copied_ns = self._copied_ns, time.monotonic_ns()
        self._copy_slots(since_ns)
        self._copy_flows("half_open", 0)
        for name in UNDER_WAY:
            self._copy_flows(name, max(0, since_ns - _MARGIN_NS))
        self._tidy()
        if self._numbering.is_same:  # they live for seconds
            self._copy("fragments")

    # -- the swap --

    @contextlib.contextmanager
    def swapping(self) -> Iterator[None]:
        """Within this block the programs are swapped; afterwards everything is in the new tables.

        When the block fails the old ones are as they were.
        """
        old, new = Tables(self._before), Tables(self._after)
        if not self._filled:
            self.catch_up()
        swap_ns = time.monotonic_ns()
        new.mode |= abi.Mode.MOVING
        old.mode |= abi.Mode.MOVING
        try:
            yield
        except BaseException:
            old.mode &= ~abi.Mode.MOVING
            new.mode &= ~abi.Mode.MOVING
            raise
        self._finish(swap_ns)
        new.mode &= ~abi.Mode.MOVING
        for name in QUIC:
            self._copy_ids(name)

    def _finish(self, swap_ns: int) -> None:
        """What changed in the old tables until their program was off; what the new one did goes before."""
        since_ns = self._copied_ns
        self._copy_slots(since_ns, 0 if self._filled else swap_ns)
        self._copy_flows("half_open", 0, live=True)
        for name in UNDER_WAY:
            self._copy_flows(name, max(0, since_ns - _MARGIN_NS), live=True)
        self._tidy()
        for name, before in self._counted.items():
            self._add_counts(name, before)
        self._count_cut()

    # -- tables --

    def _copy(self, name: str) -> None:
        """As it is, as far as there is room."""
        old, new = self._pair(name)
        try:
            for count, keys, values in old.batches():
                new.put_batch(count, keys, values)
        except OSError as error:
            if error.errno in kernel.NO_BATCHES:
                new.put_all(dict(old.items()))
            elif error.errno not in _FULL:
                raise

    def _copy_endpoints(self) -> None:
        numbers = self._numbering.endpoints
        old, new = self._pair("endpoint_ids")
        held = ((key, numbers.get(int.from_bytes(value, "little"))) for key, value in old.items())
        new.put_all({key: abi.key(number) for key, number in held if number is not None})
        for name in BY_ENDPOINT:
            old, new = self._pair(name)
            values = old.values()
            new.put_all({abi.key(number): values[before] for before, number in numbers.items()})

    def _copy_ids(self, name: str) -> None:
        numbers = self._numbering.endpoints
        old, new = self._pair(name)
        for count, keys, values in old.batches():
            places = [numbers.get(number, -1) for number in array("I", values)]
            if min(places, default=0) < 0:
                size = old.info.key_size
                kept = [n for n in range(count) if places[n] >= 0]
                keys = b"".join(keys[n * size : (n + 1) * size] for n in kept)
                places = [places[n] for n in kept]
            if places:
                new.put_batch(len(places), keys, array("I", places).tobytes())

    def _add_counts(self, name: str, before: dict[bytes, bytes]) -> None:
        """What was counted in the old table since it was copied, on top of what the new one counts."""
        old, new = self._pair(name, per_cpu=True)
        for key, value in old.items():
            if value != before.get(key, b""):
                held = new.get(key) or bytes(len(value))
                words = zip(array("Q", held), array("Q", value), array("Q", before[key]), strict=True)
                new.put(key, array("Q", [there + now - then for there, now, then in words]).tobytes())

    def _pair(self, name: str, *, per_cpu: bool = False) -> tuple[Map, Map]:
        if name not in self._pairs:
            old, new = (Map.pinned(pins / name, per_cpu=per_cpu) for pins in (self._before, self._after))
            self._pairs[name] = old, new
        return self._pairs[name]

    # -- flows --

    def _copy_slots(self, since_ns: int, live_ns: int | None = None) -> None:
        """Those in use that have changed since then.

        With `live_ns` the new ones have been in use since then, and what became of them there holds.
        """
        old, new = self._pair("reverse")
        size, first = old.info.value_size, 0
        self._cut.clear()
        for count, _, values in old.batches():
            owners = array("Q", values)[:: size // 8]
            if any(owners):
                changed, found = _changed(values, since_ns), dict[bytes, bytes]()
                for n in [n for n, owner in enumerate(owners) if owner and owner != BEING_BOUND]:
                    number = self._numbering.slot(first + n)
                    if number == NOWHERE:
                        self._cut[first + n] = values[n * size + abi.Slot.state.offset]
                    elif changed(n):
                        found[abi.key(number)] = values[n * size : (n + 1) * size]
                if live_ns is not None:
                    found = {key: raw for key, raw in found.items() if _is_newer(raw, new.get(key), live_ns)}
                new.put_all(found)
            first += count

    def _copy_flows(self, name: str, begun_ns: int, *, live: bool = False) -> None:
        """Those that began since then; when the new tables are `live`, those that are missing there."""
        old, new = self._pair(name)
        size, key_size = old.info.value_size, old.info.key_size
        for count, keys, values in old.batches():
            begun = array("Q", values)[abi.Flow.syn_ns.offset // 8 :: size // 8]
            chosen = [n for n, at_ns in enumerate(begun) if at_ns >= begun_ns]
            if len(chosen) == count and self._numbering.is_same and not live:
                new.put_batch(count, keys, values)
                continue
            found = {}
            for n in chosen:
                key, flow = (
                    keys[n * key_size : (n + 1) * key_size],
                    abi.Flow.from_buffer_copy(values, n * size),
                )
                before = flow.slot
                if self._renumber(flow) and not (live and self._is_known(new, key, flow, before)):
                    found[key] = bytes(flow)
            new.put_all(found)

    def _renumber(self, flow: abi.Flow) -> bool:
        """False when it has no number any more."""
        endpoint = self._numbering.endpoints.get(flow.endpoint)
        slot = abi.NO_SLOT if flow.slot == abi.NO_SLOT else self._numbering.slot(flow.slot)
        if endpoint is None or slot == NOWHERE:
            return False
        flow.endpoint, flow.slot = endpoint, slot
        if slot != abi.NO_SLOT:
            flow.snat = self._numbering.snat(slot)
        return True

    def _is_known(self, new: Map, key: bytes, flow: abi.Flow, slot_before: int) -> bool:
        """Whether the new tables have it, or a later one in its place, or gave its port to another."""
        if raw := new.get(key):
            there = abi.Flow.from_buffer_copy(raw)
            if there.slot == flow.slot or there.syn_ns > flow.syn_ns:
                return True
        if flow.slot == abi.NO_SLOT:
            return False
        old, now = self._pair("reverse")
        owners = old.get(abi.key(slot_before)), now.get(abi.key(flow.slot))
        return len({(raw or b"")[:8] for raw in owners}) > 1

    def _tidy(self) -> None:
        """What is under way is half-open no more."""
        half_open, *under_way = (Map.pinned(self._after / name) for name in ("half_open", *UNDER_WAY))
        at = slice(abi.Flow.slot.offset, abi.Flow.slot.offset + 4)
        for key, value in list(half_open.items()):
            if any((table.get(key) or b"")[at] == value[at] for table in under_way):
                half_open.delete(key)

    def _count_cut(self) -> None:
        """Flows that have no place end here, also for the account of those that are open."""
        open_states = (abi.SlotState.SYN_SENT, abi.SlotState.SYN_RECV, abi.SlotState.ESTABLISHED)
        self.cut = sum(state in open_states for state in self._cut.values())
        settings, old = Tables(self._before).settings, Tables(self._before).choice.endpoint_entries()
        ended = Counter(
            old[slot // (settings.snat_rows * settings.ports)].cdn
            for slot, state in self._cut.items()
            if state == abi.SlotState.ESTABLISHED
        )
        counts = Map.pinned(self._after / "cdn_counts", per_cpu=True)
        for cdn, count in ended.items():
            words = array("Q", counts.get(abi.key(cdn)) or b"")
            words[abi.CdnCount.closed.offset // 8] += count
            counts.put(abi.key(cdn), words.tobytes())


def _changed(values: bytes, since_ns: int) -> Callable[[int], bool]:
    """Of slots, one behind the other: whether the nth was used or changed since then."""
    since_ns = max(0, since_ns - _MARGIN_NS)
    if not since_ns:
        return lambda n: True
    size, second = abi.size(abi.Slot), since_ns >> SECOND_BITS
    began = array("Q", values)[abi.Slot.since_ns.offset // 8 :: size // 8]
    seen = array("H", values)[abi.Slot.seen_s.offset // 2 :: size // 2]
    return lambda n: began[n] >= since_ns or (seen[n] - second) & 0xFFFF < 0x8000


def _is_newer(raw: bytes, held: bytes | None, live_ns: int) -> bool:
    """Whether an old slot goes before the one in its place, which may have been used since `live_ns`."""
    there, slot = abi.Slot.from_buffer_copy(held or bytes(len(raw))), abi.Slot.from_buffer_copy(raw)
    if there.owner == slot.owner:
        return int(slot.state) > int(there.state)
    return not there.owner or there.since_ns < live_ns
