"""Both ways of a flow at once, each on a CPU of its own."""

from __future__ import annotations

import ctypes
import os

import pytest
from harness import DataPath, Runner
from segments import Flag, segment
from session import Session, link_of, macs_from
from test_not_for_sale import another_cpu

from cdnctl.datapath.abi import SlotState

FLOWS = 40


class Ends:
    """FINs of one side of many flows, one after the other, as fast as one CPU can."""

    def __init__(self, path: DataPath, frames: list[bytes], device: str) -> None:
        self._frames, self._size = frames, len(frames[0])
        self._runner = Runner(path.fd, self._size, path.indexes[device])

    def arrive(self, number: int, *, backwards: bool = False) -> None:
        """All of them; which round it is, and in which order, is all the same."""
        for frame in self._frames:
            ctypes.memmove(self._runner.frame, frame, self._size)
            self._runner.run()


@pytest.mark.race
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this needs two CPUs")
@pytest.mark.parametrize("rounds", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_both_sides_end_a_flow_at_once(path: DataPath, rounds: int) -> None:
    """Neither FIN is lost: or the flow would be open, and hold its port, for as long as an idle one may."""
    sessions = [Session(path, port=30000 + n).open() for n in range(FLOWS)]
    ups, downs = [], []
    for session in sessions:
        numbers = {"seq": session.isn + 1, "ack": session.cdn_isn + 1}
        ups.append(segment(session.client, session.service, Flag.FIN | Flag.ACK, **numbers))
        numbers = {"seq": session.cdn_isn + 1, "ack": session.isn + 1}
        macs = macs_from(session.cdn)
        downs.append(segment(session.endpoint, session.snat, Flag.FIN | Flag.ACK, macs=macs, **numbers))
    before = {session.slot_index: session.slot for session in sessions}
    clients, cdn = Ends(path, ups, "clients"), Ends(path, downs, link_of(sessions[0].cdn))
    cpus, lost = sorted(os.sched_getaffinity(0)), 0
    try:
        os.sched_setaffinity(0, {cpus[0]})
        with another_cpu(cdn, cpus[1], rounds) as begin:  # type: ignore[arg-type]
            for number in range(1, rounds + 1):
                for index, slot in before.items():
                    path.put_slot(index, slot)
                wait = begin(number)
                clients.arrive(number)
                wait()
                lost += sum(path.slot(index).state != SlotState.CLOSING for index in before)
    finally:
        os.sched_setaffinity(0, cpus)
    assert lost == 0, f"{lost} of {rounds * FLOWS}"
