"""Flows of the data path's own making, and its reverse slots put back as they were."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cdnctl.datapath import abi, kernel
from tests.bench.decisions import packets
from tests.bench.decisions.packets import Carrier, Ends
from tests.bench.decisions.rig import PORT, Rig
from tests.bench.decisions.shim import EDGE, NOTHING, Stream

_AT_ONCE = 16_384
"""Handshakes under way together: far fewer than half-open entries, so that none is evicted."""
_SYNS = 5
_KEY = struct.Struct("!12xIHHBBxx")
"""struct flow_key: client (its last word), ports, number of the VIP, protocol."""
_MAPPED = bytes(10) + b"\xff\xff"


class Kind(NamedTuple):
    """Flows that are alike."""

    carrier: Carrier
    vip: str
    replies: bool = True
    """Whether they come back through the box."""


class Timed(NamedTuple):
    """What a run took for each packet, and what of it was the shim's."""

    ran_ns: float
    alone_ns: float

    @property
    def ns(self) -> float:
        """The program's own."""
        return self.ran_ns - self.alone_ns


class Handshakes:
    """The packets that establish flows; each of the three steps is for all the flows that are left."""

    def __init__(self, rig: Rig, kind: Kind) -> None:
        self._rig = rig
        self._kind = kind
        self._vip = rig.engine.layout.vips[kind.vip]
        self._places = rig.engine.layout.by_id()
        self._before = _promoted(rig)

    def first(self, clients: list[Ends]) -> Timed:
        """SYNs, or first datagrams."""
        return self._run(clients, packets.SYN, 0, self._rig.clients_link)

    def second(self, replies: list[Ends]) -> Timed:
        """The CDNs' answers."""
        return self._run(replies, packets.SYN_ACK, 1, self._rig.cdns_link)

    def third(self, clients: list[Ends]) -> Timed:
        """What proves that the client got them. Raises RuntimeError when that is not enough."""
        timed = self._run(clients, packets.ACK, 2, self._rig.clients_link)
        established = _promoted(self._rig) - self._before
        if established != len(clients):
            raise RuntimeError(f"of {len(clients)} flows {established} were established")
        return timed

    def _run(self, ends: list[Ends], flags: int, step: int, ifindex: int) -> Timed:
        sequence, acknowledged = (
            (packets.ISN, 0),
            (packets.CDN_ISN, packets.ISN + 1),
            (packets.ISN + 1, packets.CDN_ISN + 1),
        )[step]
        frame = packets.frame(self._kind.carrier, flags, sequence=sequence, acknowledged=acknowledged)
        shim, grows = self._rig.shim, not self._kind.replies
        stream = shim.stream(ends)

        def run(program: str) -> int:
            again = Stream(stream.first, stream.count)
            return shim.run(program, again, frame, len(ends), ifindex, grows=grows).duration_ns

        alone = run(NOTHING)
        timed = Timed(run(EDGE), alone)
        shim.forget(stream)
        return timed

    def opened(self) -> Iterator[tuple[Ends, Ends]]:
        """Half-open flows: the client's ends, and where the CDN's answers come from and go to."""
        carrier, target = self._kind.carrier, packets.number(self._kind.vip)
        family = int(carrier.family == 6)
        snat = [packets.number(abi.show_address(each)) for each in self._rig.tables.settings.snat[family]]
        for key, value in self._rig.tables.half_open.items():
            client, client_port, vip_port, vip, protocol = _KEY.unpack(key)
            if vip == self._vip and protocol == carrier.protocol:
                flow = abi.Flow.from_buffer_copy(value)
                endpoint = packets.number(self._places[flow.endpoint].address)
                port = abi.show_port(flow.snat_port)
                yield (
                    Ends(client, target, client_port, vip_port),
                    Ends(endpoint, snat[flow.snat], PORT, port),
                )

    def forget(self, clients: Iterable[Ends]) -> None:
        """Take the forward entries of flows under way out of their tables."""
        front = _MAPPED if self._kind.carrier.family == 4 else packets.PREFIX6.packed[:12]
        for client in clients:
            key = (
                front
                + _KEY.pack(
                    client.source,
                    client.source_port,
                    client.target_port,
                    self._vip,
                    self._kind.carrier.protocol,
                )[12:]
            )
            for table in (self._rig.tables.established, self._rig.tables.datagrams):
                table.delete(key)


def establish(rig: Rig, kind: Kind, clients: list[Ends]) -> list[Ends]:
    """Run the packets of each flow's handshake through the program; returns the ends of its replies.

    Disarmed meanwhile: handshakes by the thousand say nothing about a CDN.
    """
    rig.tables.mode = abi.Mode.DISARMED
    replies: list[Ends] = []
    try:
        for start in range(0, len(clients), _AT_ONCE):
            some, handshakes = clients[start : start + _AT_ONCE], Handshakes(rig, kind)
            back = _open(handshakes, some)
            if kind.replies:
                handshakes.second(back)
            handshakes.third(some)
            replies += back
    finally:
        rig.tables.mode = abi.Mode(0)
    return replies


def _open(handshakes: Handshakes, clients: list[Ends]) -> list[Ends]:
    """Send first packets until all flows are open.

    One that met held ports only is sent again, as its client would.
    """
    opened: dict[Ends, Ends] = {}
    for _ in range(_SYNS):
        waiting = [client for client in clients if client not in opened]
        if not waiting:
            return [opened[client] for client in clients]
        handshakes.first(waiting)
        opened.update(handshakes.opened())
    raise RuntimeError(f"{len(clients) - len(opened)} of {len(clients)} flows were not opened")


def _promoted(rig: Rig) -> int:
    return sum(rig.tables.counters.cdn(cdn).promoted for cdn in rig.engine.layout.cdns.values())


class Slots:
    """The reverse slots of some endpoints as they are now, to be put back as often as needed.

    SYNs by the hundred thousand take every port; with the slots put back they find the ports of the
    established flows taken and all others free, as on a box that is not flooded.
    """

    def __init__(self, rig: Rig, endpoints: Iterable[int]) -> None:
        self._reverse = rig.tables.reverse
        self._each = rig.tables.settings.snat_rows * rig.tables.settings.ports
        self._kept = [self._read(number * self._each) for number in endpoints]

    def _read(self, first: int) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
        info, count = self._reverse.info, self._each
        keys = ctypes.create_string_buffer(info.key_size * count)
        values = ctypes.create_string_buffer(info.value_size * count)
        token, taken = ctypes.c_uint32(), ctypes.c_uint32(count)
        before = ctypes.byref(ctypes.c_uint32(first - 1)) if first else None
        result = kernel.libbpf().bpf_map_lookup_batch(
            self._reverse.fd, before, ctypes.byref(token), keys, values, ctypes.byref(taken), None
        )
        kernel.check(result, "bpf_map_lookup_batch")
        if taken.value != count:
            raise RuntimeError(f"{taken.value} of {count} slots read")
        return keys, values

    def put_back(self) -> None:
        """As they were."""
        for keys, values in self._kept:
            count = ctypes.c_uint32(self._each)
            result = kernel.libbpf().bpf_map_update_batch(
                self._reverse.fd, keys, values, ctypes.byref(count), None
            )
            kernel.check(result, "bpf_map_update_batch")
