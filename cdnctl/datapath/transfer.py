"""Flows, taken from tables in use into others that are numbered otherwise.

A slot says whose its port is and in which state: who it is and what became of it is compared, slot by slot,
with what the other tables have. What differs is copied, with its entry in the tables of flows: so nothing is
missed, however long it was on its way, and what ended meanwhile ends there too. Columns of slots are compared
as memory, a million in some hundredths of a second.

Entries of `FLEETING` tables change while their slots say the same; they are few, and compared whole.

Without a hold on both (hold.py) this is a moment's picture, to be mended by the next; with it, it is exact.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from cdnctl.datapath import abi
from cdnctl.datapath.choice import Choice
from cdnctl.datapath.counters import Counters
from cdnctl.datapath.flows import BEING_BOUND
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.numbering import NOWHERE, Numbering

LASTING = ("established", "datagrams")
"""Tables of flows under way, which may be large; an entry comes, moves and goes with its slot."""
FLEETING = ("half_open",)
"""Tables of flows that are small, or hold their entries for seconds."""

_SIZE = abi.size(abi.Slot)
_STATE = abi.Slot.state.offset
_FLAGS = abi.Slot.flags.offset
_SINCE = struct.Struct("=8xQ")
_OWNER = struct.Struct("=Q")
_KEY = struct.Struct("=16sHHBBH")
"""struct flow_key."""
_FLOW_SLOT = abi.Flow.slot.offset
_CHUNK = 4096
"""Slots that are looked at closely when one of them differs."""
_BEGUN = (abi.SlotState.SYN_SENT, abi.SlotState.SYN_RECV)
_OPEN = (*_BEGUN, abi.SlotState.ESTABLISHED)
_DIRECT = (abi.Transport.IPIP, abi.Transport.GUE)


class _Slots:
    """The table `reverse` as memory, by columns."""

    def __init__(self, pins: Path) -> None:
        self.memory = memoryview(Map.pinned(pins / "reverse").memory())
        self._words = self.memory.cast("Q")

    def owners(self, first: int, count: int) -> memoryview:
        """Those of so many slots."""
        step = _SIZE // 8
        return self._words[first * step : (first + count) * step : step]

    def since(self, first: int, count: int) -> memoryview:
        """The same for when their states began, or their requests."""
        step = _SIZE // 8
        return self._words[first * step + 1 : (first + count) * step : step]

    def states(self, first: int, count: int) -> memoryview:
        """The same for their states."""
        return self.memory[first * _SIZE + _STATE : (first + count) * _SIZE : _SIZE]

    def get(self, number: int) -> bytes:
        """A slot."""
        return self.memory[number * _SIZE : (number + 1) * _SIZE].tobytes()

    def put(self, number: int, slot: bytes) -> None:
        """Overwrite one."""
        self.memory[number * _SIZE : (number + 1) * _SIZE] = slot

    def set_flags(self, number: int, flags: int) -> None:
        """Add to its flags."""
        self.memory[number * _SIZE + _FLAGS] |= flags


class Cut:
    """Open flows that end since they have no place."""

    def __init__(self) -> None:
        self.flows = 0
        self._established = Counter[int]()

    def add(self, state: int, cdn: int) -> None:
        """A slot's, if it is one."""
        self.flows += state in _OPEN
        self._established[cdn] += state == abi.SlotState.ESTABLISHED

    def count(self, counters: Counters) -> None:
        """That they ended, for the account of those that are open."""
        for cdn, flows in self._established.items():
            counters.count_closed(cdn, flows)


class Transfer:
    """From the tables in `before` to those in `after`."""

    def __init__(self, before: Path, after: Path, numbering: Numbering) -> None:
        self._numbering = numbering
        self._old, self._new = _Slots(before), _Slots(after)
        self._flows = {
            name: (Map.pinned(before / name), Map.pinned(after / name)) for name in (*LASTING, *FLEETING)
        }
        self._choice = Choice(before)
        self._services: Mapping[int, abi.Service] = {}
        self._seen: dict[str, dict[bytes, bytes]] = {}
        """What is compared whole, as it was the last time."""

    # -- the other tables are not in use --

    def fill(self) -> None:
        """All of it, at once."""
        for run in self._numbering.runs:
            for at in range(0, run.length, _CHUNK):
                old, new, count = run.old + at, run.new + at, min(_CHUNK, run.length - at)
                if any(self._old.owners(old, count)):
                    self._new.memory[new * _SIZE : (new + count) * _SIZE] = self._old.memory[
                        old * _SIZE : (old + count) * _SIZE
                    ]
        for name in LASTING:
            self._copy(name)

    def catch_up(self) -> int:
        """What differs; how many flows that were."""
        self._look_at_services()
        changed = 0
        for old, new in self._differing():
            changed += self._take(old, new, LASTING)
        for name in FLEETING:
            changed += self._compare(name, dict(self._flows[name][0].items()))
        if self._has_direct():
            for name in LASTING:
                changed += self._compare(name, self._direct(name))
        return changed

    def excuse(self) -> None:
        """Handshakes under way are no samples: a packet of theirs may have been held."""
        for name in FLEETING:
            for flow in self._seen[name].values():
                (slot,) = struct.unpack_from("I", flow, _FLOW_SLOT)
                if slot != abi.NO_SLOT and (new := self._numbering.slot(slot)) != NOWHERE:
                    self._new.set_flags(new, abi.FlowFlag.RESENT)

    # -- both are, or were --

    def merge(self, since_ns: int) -> Cut:
        """What changed in the old tables after they were the same at that time.

        Of a port that was given away on both sides the other tables' flow has it, and this one is cut.
        """
        self._look_at_services()
        cut, entries = Cut(), self._choice.endpoint_entries()
        for old, new in self._differing():
            theirs, ours = self._old.get(old), self._new.get(new)
            if not any(theirs[:8]):
                continue  # given away on the other side only, for nothing frees a slot without an agent
            if _goes_before(theirs, ours, since_ns) and not self._begins_anew(theirs, new):
                self._take(old, new, (*LASTING, *FLEETING))
            elif theirs[:8] != ours[:8] and _SINCE.unpack_from(theirs)[0] >= since_ns:
                cut.add(theirs[_STATE], entries[self._numbering.endpoint_of(old)].cdn)
        for name in LASTING if self._has_direct() else ():
            there = self._flows[name][1]
            for key, raw in self._direct(name).items():
                flow = self._renumbered(raw)
                if flow and int.from_bytes(raw[:8], "little") >= since_ns and there.get(key) is None:
                    there.put(key, flow)
        return cut

    def cut(self) -> Cut:
        """Flows that have no place any more."""
        found, entries = Cut(), self._choice.endpoint_entries()
        for first, count in self._numbering.cut:
            for at in range(first, first + count, _CHUNK):
                some = min(_CHUNK, first + count - at)
                owners, states = self._old.owners(at, some), self._old.states(at, some)
                for n in (n for n in range(some) if owners[n]) if any(owners) else ():
                    found.add(states[n], entries[self._numbering.endpoint_of(at + n)].cdn)
        return found

    # -- slots --

    def _differing(self) -> Iterator[tuple[int, int]]:
        """Slots that have another owner here and there, or another state, or began it another time.

        Of TCP each request is noted there, but UDP may get from one table into another in the same state.
        """
        old, new = self._old, self._new
        for run in self._numbering.runs:
            for at in range(0, run.length, _CHUNK):
                here, there, count = run.old + at, run.new + at, min(_CHUNK, run.length - at)
                pairs = [
                    (old.owners(here, count), new.owners(there, count)),
                    (old.states(here, count), new.states(there, count)),
                ]
                if run.protocol == abi.UDP:
                    pairs.append((old.since(here, count), new.since(there, count)))
                if all(one == other for one, other in pairs):
                    continue
                found = set[int]()
                for one, other in pairs:
                    columns = enumerate(zip(one.tolist(), other.tolist(), strict=True))
                    found.update(n for n, (a, b) in columns if a != b)
                yield from ((here + n, there + n) for n in sorted(found))

    def _begins_anew(self, slot: bytes, number: int) -> bool:
        """Has its client a later flow in the other tables, by another port of ours?"""
        if (key := self._key(slot)) is None:
            return False
        since_ns = _SINCE.unpack_from(slot)[0]
        found = (there.get(key) for _, there in self._flows.values())
        return any(
            flow
            and int.from_bytes(flow[:8], "little") > since_ns
            and struct.unpack_from("I", flow, _FLOW_SLOT)[0] != number
            for flow in found
        )

    def _take(self, old: int, new: int, names: tuple[str, ...]) -> bool:
        """A slot with its flow, in place of what is there; False when it is being changed just now."""
        slot, held = self._old.get(old), self._new.get(new)
        (owner,) = _OWNER.unpack_from(slot)
        if owner == BEING_BOUND or self._old.get(old)[:8] != slot[:8]:
            return False
        if held[:8] != slot[:8]:
            self._forget(held, new, (*LASTING, *FLEETING))
        self._new.put(new, slot)
        key = self._key(slot)
        if key is None:
            return True
        for name in names:
            here, there = self._flows[name]
            flow = here.get(key)
            if flow and struct.unpack_from("I", flow, _FLOW_SLOT)[0] == old:
                there.put(key, self._renumbered(flow) or b"")
            else:
                self._forget(slot, new, (name,))
        return True

    def _forget(self, slot: bytes, number: int, names: tuple[str, ...]) -> None:
        """Entries that lead to this slot go with its owner."""
        if (key := self._key(slot)) is None:
            return
        for name in names:
            there = self._flows[name][1]
            flow = there.get(key)
            if flow and struct.unpack_from("I", flow, _FLOW_SLOT)[0] == number:
                there.delete(key)

    def _key(self, slot: bytes) -> bytes | None:
        """Of its flow (owner_key() in slot.h)."""
        (owner,) = _OWNER.unpack_from(slot)
        service = self._services.get((owner - 1) & 0xFFFF) if owner else None
        if service is None:
            return None
        port = owner >> 16 & 0xFFFF
        return _KEY.pack(slot[16:32], port, service.port, service.vip_index, service.protocol, 0)

    def _look_at_services(self) -> None:
        numbers = self._choice.known_services().values()
        self._services = {number: self._choice.service(number) for number in numbers}

    # -- flows --

    def _copy(self, name: str) -> None:
        """All that has a place, as it is."""
        old, new = self._flows[name]
        size, key_size = old.info.value_size, old.info.key_size
        for count, keys, values in old.batches():
            if self._numbering.is_same:
                new.put_batch(count, keys, values)
                continue
            found = {}
            for n in range(count):
                if flow := self._renumbered(values[n * size : (n + 1) * size]):
                    found[keys[n * key_size : (n + 1) * key_size]] = flow
            new.put_all(found)

    def _compare(self, name: str, now: dict[bytes, bytes]) -> int:
        """Whole entries: what is new, has changed or is gone since the last time."""
        before, self._seen[name] = self._seen.get(name, {}), now
        new, found = self._flows[name][1], {}
        for key, raw in now.items():
            if before.get(key) != raw and (flow := self._renumbered(raw)):
                found[key] = flow
                self._refresh(raw)
                if name in FLEETING:
                    self._supersede(key)
        new.put_all(found)
        gone = before.keys() - now.keys()
        new.delete_all(gone)
        return len(found) + len(gone)

    def _refresh(self, raw: bytes) -> None:
        """What a begun flow's slot says besides, such as its ISN."""
        (old,) = struct.unpack_from("I", raw, _FLOW_SLOT)
        if old == abi.NO_SLOT:
            return
        new = self._numbering.slot(old)
        slot, held = self._old.get(old), self._new.get(new)
        if (slot[:8], slot[_STATE]) == (held[:8], held[_STATE]):
            self._new.put(new, slot)

    def _supersede(self, key: bytes) -> None:
        """A flow that begins anew has lost the entry that it had before."""
        for name in LASTING:
            old, new = self._flows[name]
            if old.get(key) is None:
                new.delete(key)

    def _renumbered(self, raw: bytes) -> bytes | None:
        """An entry as it is there; None when it has no place."""
        if self._numbering.is_same:
            return raw
        flow = abi.Flow.from_buffer_copy(raw)
        endpoint = self._numbering.endpoints.get(flow.endpoint)
        slot = abi.NO_SLOT if flow.slot == abi.NO_SLOT else self._numbering.slot(flow.slot)
        if endpoint is None or slot == NOWHERE:
            return None
        flow.endpoint, flow.slot = endpoint, slot
        if slot != abi.NO_SLOT:
            flow.snat = self._numbering.snat(slot)
        return bytes(flow)

    def _has_direct(self) -> bool:
        """Are there CDNs whose flows have no slot?"""
        return any(each.transport in _DIRECT for each in self._choice.endpoint_entries())

    def _direct(self, name: str) -> dict[bytes, bytes]:
        """Flows without a slot."""
        old = self._flows[name][0]
        size, key_size, found = old.info.value_size, old.info.key_size, {}
        for _, keys, values in old.batches():
            slots = array("I", values)[_FLOW_SLOT // 4 :: size // 4]
            if abi.NO_SLOT in slots:
                for n, slot in enumerate(slots):
                    if slot == abi.NO_SLOT:
                        found[keys[n * key_size : (n + 1) * key_size]] = values[n * size : (n + 1) * size]
        return found


def _goes_before(theirs: bytes, ours: bytes, since_ns: int) -> bool:
    """Of two slots that were the same at that time: is it theirs that has changed, or has changed last?"""
    then, here = _SINCE.unpack_from(theirs)[0], _SINCE.unpack_from(ours)[0]
    owner, held = _OWNER.unpack_from(theirs), _OWNER.unpack_from(ours)
    if owner != held:
        return not held[0] or here < since_ns
    if max(then, here) >= since_ns:
        return bool(then > here)
    return theirs[_STATE] > ours[_STATE]
