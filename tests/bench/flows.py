"""Flows of the data path's own making, and its reverse slots put back as they were."""

from __future__ import annotations

import ctypes
import struct

from cdnctl.datapath import abi, kernel
from tests.bench import packets
from tests.bench.packets import Ends
from tests.bench.rig import PORT, Rig
from tests.bench.shim import EDGE

_AT_ONCE = 16_384
"""Handshakes under way together: far fewer than half-open entries, so that none is evicted."""
_SYNS = 5
_KEY = struct.Struct("!IIHHB3x")


def establish(rig: Rig, clients: list[Ends]) -> list[Ends]:
    """Run SYN, SYN-ACK and ACK of each flow through the program; returns the ends of its replies.

    Disarmed meanwhile: handshakes by the thousand say nothing about a CDN.
    """
    rig.tables.mode = abi.Mode.DISARMED
    replies: list[Ends] = []
    try:
        for start in range(0, len(clients), _AT_ONCE):
            replies += _establish(rig, clients[start : start + _AT_ONCE])
    finally:
        rig.tables.mode = abi.Mode(0)
    return replies


def _establish(rig: Rig, clients: list[Ends]) -> list[Ends]:
    before = _promoted(rig)
    replies = _open(rig, clients)
    forward = rig.shim.stream(clients)
    back = rig.shim.stream(replies)
    answer = packets.frame(packets.SYN_ACK, sequence=packets.CDN_ISN, acknowledged=packets.ISN + 1)
    rig.shim.run(EDGE, back, answer, len(clients), rig.cdns_link)
    proof = packets.frame(packets.ACK, sequence=packets.ISN + 1, acknowledged=packets.CDN_ISN + 1)
    rig.shim.run(EDGE, forward, proof, len(clients), rig.clients_link)
    rig.shim.forget(back)
    rig.shim.forget(forward)
    if _promoted(rig) - before != len(clients):
        raise RuntimeError(f"of {len(clients)} flows {_promoted(rig) - before} were established")
    return replies


def _open(rig: Rig, clients: list[Ends]) -> list[Ends]:
    """Send SYNs; returns where the CDNs' answers come from and go to, by the half-open entries.

    One that met held ports only is sent again, as its client would.
    """
    addresses = {place.id: packets.number(place.address) for place in rig.engine.layout.endpoints}
    opened: dict[Ends, Ends] = {}
    for _ in range(_SYNS):
        waiting = [client for client in clients if client not in opened]
        if not waiting:
            return [opened[client] for client in clients]
        stream = rig.shim.stream(waiting)
        rig.shim.run(EDGE, stream, packets.frame(packets.SYN), len(waiting), rig.clients_link)
        rig.shim.forget(stream)
        for key, value in rig.tables.half_open.items():
            flow = abi.Flow.from_buffer_copy(value)
            snat, port = packets.number(abi.show_address(flow.snat)), abi.show_port(flow.snat_port)
            client, vip, client_port, vip_port, _ = _KEY.unpack(key)
            opened[Ends(client, vip, client_port, vip_port)] = Ends(
                addresses[flow.endpoint], snat, PORT, port
            )
    raise RuntimeError(f"{len(clients) - len(opened)} of {len(clients)} flows were not opened")


def _promoted(rig: Rig) -> int:
    return sum(rig.tables.cdn_totals(cdn).promoted for cdn in rig.engine.layout.cdns.values())


class Slots:
    """All reverse slots as they are now, to be put back as often as needed.

    SYNs by the hundred thousand take every port; with the slots put back they find the ports of the
    established flows taken and all others free, as on a box that is not flooded.
    """

    def __init__(self, reverse: kernel.Map) -> None:
        self._reverse = reverse
        count = reverse.info.max_entries
        self._keys = ctypes.create_string_buffer(reverse.info.key_size * count)
        self._values = ctypes.create_string_buffer(reverse.info.value_size * count)
        token, taken = ctypes.c_uint32(), ctypes.c_uint32(count)
        result = kernel.libbpf().bpf_map_lookup_batch(
            reverse.fd, None, ctypes.byref(token), self._keys, self._values, ctypes.byref(taken), None
        )
        kernel.check(result, "bpf_map_lookup_batch")
        if taken.value != count:
            raise RuntimeError(f"{taken.value} of {count} slots read")

    def put_back(self) -> None:
        """As they were."""
        count = ctypes.c_uint32(self._reverse.info.max_entries)
        result = kernel.libbpf().bpf_map_update_batch(
            self._reverse.fd, self._keys, self._values, ctypes.byref(count), None
        )
        kernel.check(result, "bpf_map_update_batch")
