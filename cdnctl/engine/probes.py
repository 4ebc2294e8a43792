"""The packet to trace when only its ends are named: the one that would come next.

What that is the tables say: of a flow under way its next segment, of one that was not answered its first
packet once more, and of one that nobody knows its first.
"""

from __future__ import annotations

import socket

from msgspec import Struct

from cdnctl.datapath import abi
from cdnctl.datapath.choice import EndpointKey
from cdnctl.datapath.packets import Flag, Packet, Protocol
from cdnctl.datapath.tables import Tables

SOURCE_PORT = 40000
"""When none is named: as good as any of a client's."""
FIRST_NUMBER = 1000
"""Sequence number of a first packet of nobody's."""


class Ends(Struct, frozen=True, kw_only=True):
    """What is asked about."""

    source: str
    target: str
    protocol: Protocol = "tcp"
    source_port: int = SOURCE_PORT
    target_port: int = 0
    flags: Flag | None = None
    """Of TCP; None: those of the packet that would come next."""


class _Numbers(Struct, frozen=True):
    """What a TCP segment would carry."""

    flags: Flag = Flag.SYN
    sequence: int = FIRST_NUMBER
    acknowledged: int = 0


def packet(ends: Ends, tables: Tables) -> Packet:
    """The packet."""
    numbers = _numbers(ends, tables) if ends.protocol == "tcp" else _Numbers(Flag(0))
    flags = numbers.flags if ends.flags is None or ends.protocol != "tcp" else ends.flags
    again = flags & Flag.SYN and not numbers.flags & Flag.SYN
    return Packet(
        source=ends.source,
        target=ends.target,
        protocol=ends.protocol,
        source_port=ends.source_port,
        target_port=ends.target_port,
        flags=flags,
        sequence=numbers.sequence - 1 if again else numbers.sequence,
        acknowledged=numbers.acknowledged if flags & Flag.ACK else 0,
        payload=b"x" if flags & Flag.PSH else b"",
    )


def _numbers(ends: Ends, tables: Tables) -> _Numbers:
    raw = tables.local.get(abi.packed(ends.target))
    if raw is None:
        return _Numbers()
    local = abi.Local.from_buffer_copy(raw)
    if local.kind == abi.LocalKind.SNAT:
        return _of_reply(ends, tables, local.index)
    key = bytes(
        abi.FlowKey(
            client=abi.address(ends.source),
            client_port=abi.port(ends.source_port),
            vip_port=abi.port(ends.target_port),
            vip=local.index,
            protocol=abi.TCP,
        )
    )
    if raw := tables.established.get(key):
        flow = abi.Flow.from_buffer_copy(raw)
        return _Numbers(Flag.ACK, flow.isn, socket.ntohl(flow.cdn_isn))
    if raw := tables.half_open.get(key):
        flow = abi.Flow.from_buffer_copy(raw)
        isn = socket.ntohl(flow.isn)
        if flow.flags & abi.FlowFlag.SYNACK:
            return _Numbers(Flag.ACK, isn + 1, socket.ntohl(flow.cdn_isn) + 1)
        return _Numbers(Flag.SYN, isn)
    return _Numbers()


def _of_reply(ends: Ends, tables: Tables, snat: int) -> _Numbers:
    settings = tables.settings
    known = tables.choice.endpoints()
    endpoint = known.get(EndpointKey(abi.canonical(ends.source), ends.source_port, abi.TCP))
    port = ends.target_port - settings.port_min_host
    if endpoint is None or not 0 <= port < settings.ports:
        return _Numbers(Flag.ACK)
    index = (endpoint * settings.snat_rows + snat) * settings.ports + port
    slot = abi.Slot.from_buffer_copy(tables.reverse.get(abi.key(index)) or bytes(abi.size(abi.Slot)))
    if slot.state in (abi.SlotState.SYN_SENT, abi.SlotState.SYN_RECV, abi.SlotState.TOMBSTONE):
        return _Numbers(Flag.SYN | Flag.ACK, FIRST_NUMBER, socket.ntohl(slot.isn) + 1)
    return _Numbers(Flag.ACK, slot.isn)
