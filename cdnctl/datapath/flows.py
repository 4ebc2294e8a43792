"""How many flows are live: what a bypass would cut."""

from __future__ import annotations

import ctypes
import time

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.kernel import Map

SECOND_BITS = 30
"""What the kernel takes for a second in its stamps of sixteen bits (slot.h)."""
_LOOKS = 256
"""Flows looked at between two looks at the clock."""
COUNT_BOUND_S = 0.3
"""How long counting flows may take: an operator waits for it, and with him the agent."""


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


class _Life:
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


def _scaled(live: int, looked: int, seen: int) -> int:
    return live if looked == seen else round(live * seen / max(1, looked))


def live_flows(established: Map, reverse: Map, idle_s: int, bound_s: float = COUNT_BOUND_S) -> FlowCount:
    """Established flows that were not closed, in about `bound_s` seconds at the most.

    When time runs out before every flow was looked at, the rest is taken to be live in the proportion
    of those that were; when it runs out before the table's end, the count is too low.
    """
    began = time.monotonic()
    looked = live = seen = 0
    life, size = _Life(reverse, idle_s), established.info.value_size
    for count, _, values in established.batches():
        seen += count
        for at in range(0, len(values), size):
            if looked % _LOOKS == 0 and time.monotonic() - began > bound_s / 2:
                break
            live += life.of(values[at : at + size])
            looked += 1
        if time.monotonic() - began > bound_s:
            return FlowCount(_scaled(live, looked, seen), at_least=True)
    return FlowCount(_scaled(live, looked, seen), about=looked < seen)
