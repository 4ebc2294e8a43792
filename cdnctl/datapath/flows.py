"""How many flows are live, which is what a bypass would cut; and whose they are."""

from __future__ import annotations

import ctypes
import itertools
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.kernel import Map

SECOND_BITS = 30
"""What the kernel takes for a second in its stamps of sixteen bits (slot.h)."""
_LOOKS = 256
"""Flows looked at between two looks at the clock."""
COUNT_BOUND_S = 0.3
"""How long counting flows may take: an operator waits for it, and with him the agent."""


_HALF_OPEN_NS = 10_000_000_000
"""A handshake is over by then, one way or the other (HALF_OPEN_NS in slot.h, and a little)."""


BEING_BOUND = 2**64 - 1
"""The owner of a slot that is being filled, for whom is not written yet (slot.h)."""
_OPEN = (abi.SlotState.SYN_SENT, abi.SlotState.SYN_RECV, abi.SlotState.ESTABLISHED)


class Carried(NamedTuple):
    """By the numbers of those that have flows, how many: such numbers must not be given to others.

    A port that rests after its flow keeps the numbers, and counts as none.
    """

    services: Counter[int]
    endpoints: Counter[int]
    is_whole: bool
    """False when some flow was just being opened: for whom could not be seen."""


def carried(tables: tuple[Map, Map, Map, Map], per_endpoint: int, idle_s: int) -> Carried:
    """Whose flows there are in `reverse`, `half_open`, `established` and `datagrams`.

    A look at every slot and flow, but by columns: a tenth of a second for a million.
    """
    reverse, half_open, *under_way = tables
    services, endpoints = Counter[int](), Counter[int]()
    first, is_whole, size = 0, True, reverse.info.value_size
    for count, _, values in reverse.batches():
        owners = array("Q", values)[:: size // 8]
        if any(owners):
            states = values[abi.Slot.state.offset :: size]
            for number, owner in enumerate(owners):
                if owner == BEING_BOUND:
                    is_whole = False
                elif owner:
                    is_open = states[number] in _OPEN
                    services[(owner - 1) & 0xFFFF] += is_open  # owner_word() in slot.h
                    endpoints[(first + number) // max(1, per_endpoint)] += is_open
        first += count
    now_ns = time.monotonic_ns()
    for flow in itertools.chain.from_iterable(_direct(table) for table in under_way):
        if (now_ns >> SECOND_BITS) - flow.seen_s & 0xFFFF < idle_s:
            services[flow.service] += 1
            endpoints[flow.endpoint] += 1
    for flow in _direct(half_open):
        if now_ns - flow.syn_ns < _HALF_OPEN_NS:
            services[flow.service] += 1
            endpoints[flow.endpoint] += 1
    return Carried(services, endpoints, is_whole)


def _direct(table: Map) -> Iterator[abi.Flow]:
    """Flows without a slot: their replies do not come back through the box."""
    size = table.info.value_size
    for _, _, values in table.batches():
        slots = array("I", values)[abi.Flow.slot.offset // 4 :: size // 4]
        if abi.NO_SLOT in slots:
            for number, slot in enumerate(slots):
                if slot == abi.NO_SLOT:
                    yield abi.Flow.from_buffer_copy(values, number * size)


class FlowCount(int):
    """A number of flows, and how sure it is; as text it says so."""

    about: bool
    at_least: bool

    def __new__(cls, count: int, *, about: bool = False, at_least: bool = False) -> FlowCount:
        made = super().__new__(cls, count)
        made.about, made.at_least = about, at_least
        return made

    def __str__(self) -> str:
        words = "at least " if self.at_least else "about " if self.about else ""
        return f"{words}{int(self)}"


class Life:
    """Looks at many flows and at their slots, with one buffer."""

    def __init__(self, reverse: Map, idle_s: int) -> None:
        self._fd, self._look = reverse.fd, kernel.libbpf().bpf_map_lookup_elem
        self._index, self._slot = ctypes.c_uint32(), abi.Slot()
        self._places = ctypes.byref(self._index), ctypes.byref(self._slot)
        self._idle_s, self._now_s = idle_s, time.monotonic_ns() >> SECOND_BITS

    def of(self, raw: bytes) -> bool:
        """Whether the flow was not closed; of one without a slot, whether it had packets of late."""
        flow = abi.Flow.from_buffer_copy(raw)
        if flow.slot == abi.NO_SLOT:
            return bool((self._now_s - flow.seen_s) & 0xFFFF < self._idle_s)
        self._index.value = flow.slot
        found = self._look(self._fd, *self._places) == 0
        return bool(found and self._slot.state == abi.SlotState.ESTABLISHED)


def scaled(live: int, looked: int, seen: int) -> int:
    """Of all that were seen, if those that were not looked at are like those that were."""
    return live if looked == seen else round(live * seen / max(1, looked))


def live_flows(
    under_way: Iterable[tuple[Map, int]], reverse: Map, bound_s: float = COUNT_BOUND_S
) -> FlowCount:
    """Flows of tables that were not closed, in about `bound_s` seconds at the most. With each table is, in
    seconds, how long its flows may be idle.

    When time runs out before every flow was looked at, the rest is taken to be live in the proportion
    of those that were; when it runs out before the tables' end, the count is too low.
    """
    began = time.monotonic()
    looked = live = seen = 0
    for table, idle_s in under_way:
        life, size = Life(reverse, idle_s), table.info.value_size
        for count, _, values in table.batches():
            seen += count
            for at in range(0, len(values), size):
                if looked % _LOOKS == 0 and time.monotonic() - began > bound_s / 2:
                    break
                live += life.of(values[at : at + size])
                looked += 1
            if time.monotonic() - began > bound_s:
                return FlowCount(scaled(live, looked, seen), at_least=True)
    return FlowCount(scaled(live, looked, seen), about=looked < seen)
