"""Established flows at a steady pace through the rig's edge, and how many packets came out."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cdnctl.datapath import abi, kernel, toolchain
from cdnctl.datapath.compiled import Loaded, taken_from
from cdnctl.lab import netns
from cdnctl.lab.flood import PACKET_QDISC_BYPASS, SOL_PACKET, Frames
from tests.bench.decisions import packets
from tests.bench.decisions.flows import Kind, establish
from tests.bench.decisions.packets import TCP4
from tests.bench.decisions.rig import CDNS_LINK, CLIENTS_LINK, FAR, SERVICE, VIP, Rig
from tests.bench.results import Unsound

SOURCE = Path(__file__).with_name("traffic.c")
PER_S = 100_000
FLOWS = 64
"""One packet of each, one right after the other, then a pause."""
_PACE = 120_000
"""What the sender tries, who is kept off its CPU now and then."""
_SETTLED_S = 0.05


class Steady:
    """Flows of the rig; `sending` has their packets under way for the time of a block."""

    def __init__(self, rig: Rig) -> None:
        clients = packets.clients(FLOWS, "10.64.0.0/16", SERVICE, seed=9)
        establish(rig, Kind(TCP4, VIP), clients)
        text, functions = SOURCE.read_text(), ["arrive"]
        module = toolchain.compile_module(text)
        self._loaded = Loaded(taken_from(module, text, functions), Path(), functions, None)
        module.cleanup()
        frame = packets.frame(
            TCP4, packets.PSH_ACK, sequence=packets.ISN + 1, acknowledged=packets.CDN_ISN + 1
        )
        self._frames = Frames([frame[:26] + packets.pack([client])[:12] + frame[38:] for client in clients])
        self._arrived = kernel.Map(self._loaded.maps["arrived"], per_cpu=True)
        with netns.entered(FAR):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            self._socket.bind((CLIENTS_LINK, 0))
            to = socket.if_nametoindex(CDNS_LINK)
            kernel.xdp_attach(to, self._loaded.programs["arrive"], kernel.XDP_FLAGS_DRV_MODE)
        self.sent = self.lost = 0
        """In all blocks so far."""

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Raises Unsound when the pace was not kept."""
        over, sent, began = threading.Event(), [0], time.monotonic()
        before = self._count()
        thread = threading.Thread(target=self._send, args=(over, sent))
        thread.start()
        try:
            yield
        finally:
            took_s = time.monotonic() - began
            over.set()
            thread.join()
        time.sleep(_SETTLED_S)
        if sent[0] < PER_S * took_s:
            raise Unsound(f"{sent[0] / took_s:.0f} packets/s where {PER_S} were wanted")
        self.sent += sent[0]
        self.lost += sent[0] - (self._count() - before)

    def _send(self, over: threading.Event, sent: list[int]) -> None:
        began = time.monotonic()
        while not over.is_set():
            if int((time.monotonic() - began) * _PACE) - sent[0] < FLOWS:
                time.sleep(FLOWS / _PACE / 2)
            else:
                sent[0] += self._frames.send(self._socket.fileno(), 0, FLOWS)

    def _count(self) -> int:
        return sum(count for (count,) in struct.iter_unpack("=Q", self._arrived.get(abi.key(0)) or b""))

    def close(self) -> None:
        """Let go of programs and tables; the counter goes with its link."""
        self._socket.close()
        self._loaded.close()
