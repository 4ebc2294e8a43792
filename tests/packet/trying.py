"""Rows of the table, tried: a packet comes in while its flow is in that state; then all is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from harness import CDNS, ENDPOINTS, ENDPOINTS6, PORTS, SNAT, SNAT6, Action, DataPath, Seen
from headroom import filled
from netbox import CLIENTS, LINKS
from scapy.compat import raw
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from session import Flow
from table import ESTABLISHED, FREE, NOW, SYN_SENT, UNCHANGED, Given, Outcome, Row, layer_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import SlotState, Verdict

FEW_PORTS = 32


@pytest.fixture(scope="module")
def emptied(loaded: DataPath, indexes: Mapping[str, int]) -> DataPath:
    """Nothing is in use of what other tests have used."""
    loaded.fresh()
    return loaded


@pytest.fixture
def bare(emptied: DataPath, inside: Mapping[str, int]) -> Iterator[DataPath]:
    """The data path for one row: few ports, time stands still, and ones in the room before frames."""
    emptied.fresh(FEW_PORTS)
    emptied.change(ports=FEW_PORTS)
    emptied.clock(NOW)
    with filled(emptied):
        yield emptied


def device_of(packet: Packet) -> str:
    """The interface that a packet comes in by."""
    return next((link.name for link in LINKS if link.mac == packet[Ether].dst), CLIENTS)


def state_of(flow: Flow) -> SlotState:
    """Of its slot, where it was seen to go last; without one, by the table that it is in."""
    for entry, state in ((flow.under_way, ESTABLISHED), (flow.half_open, SYN_SENT)):
        if entry is not None and entry.slot == abi.NO_SLOT:
            return state
    slot = flow.slot
    return SlotState(slot.state) if slot.owner else FREE


def went(flow: Flow, seen: Seen, way: str) -> None:
    """Where a packet went is where its flow goes; by that way it may go there."""
    before, out = flow.cdn, Ether(seen.frame)
    transport = out[UDP] if UDP in out else out[TCP]
    layer = layer_of(out)
    ours, theirs = (SNAT6, ENDPOINTS6) if layer.version == 6 else (SNAT, ENDPOINTS)
    flow.snat = layer.src, transport.sport
    (flow.cdn,) = (cdn for cdn in CDNS if theirs[cdn] == (layer.dst, transport.dport))
    assert flow.snat[0] in ours, seen
    assert 0 <= flow.snat[1] - PORTS[0] < FEW_PORTS, seen
    assert way == "new" or flow.cdn != before, seen


def _to_be_counted(flow: Flow, before: str, seen: Seen, outcome: Outcome) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {cdn: {} for cdn in CDNS}
    if outcome.lost:
        counts[before] |= outcome.lost
    side = {Verdict.FORWARDED: "to_cdn", Verdict.HANDED: "to_cdn", Verdict.REPLIED: "from_cdn"}
    if outcome.verdict in side:
        counts[flow.cdn][f"{side[outcome.verdict]}_packets"] = 1
        counts[flow.cdn][f"{side[outcome.verdict]}_bytes"] = len(seen.sent)
    if outcome.counted:
        counts[flow.cdn] |= outcome.counted
    return counts


def bypassed(path: DataPath, frame: bytes, device: str) -> None:
    """Where everything is let through this is, too, byte for byte, and nothing remembers it."""
    mode = path.tables.mode
    path.tables.mode = abi.Mode.BYPASS
    seen = path.run(frame, device)
    assert (seen.verdict, seen.action, seen.frame) == (Verdict.BYPASSED, Action.PASS, frame), seen
    path.tables.mode = mode


def check(path: DataPath, given: Given, row: Row, family: int) -> None:
    """Have it come in, and see."""
    flow = given.make(path, family)
    packet, outcome = row.packet(flow), row.outcome
    frame, device = raw(packet), device_of(packet)
    cdn_before, state_before = flow.cdn, state_of(flow)
    bypassed(path, frame, device)
    totals = {cdn: path.totals(cdn) for cdn in CDNS}
    seen = path.run(frame, device)
    told = f"{given.name}: {row.what}\n  {packet.command()}\ngave\n  {Ether(seen.frame).command()}\n"
    assert (seen.verdict, seen.action) == (outcome.verdict, outcome.action), told
    if outcome.way != "known":
        went(flow, seen, outcome.way)
    if outcome.frame is not None:
        expected = outcome.frame(flow, packet)
        assert seen.frame == expected, f"{told}not\n  {Ether(expected).command()}"
    counted = {
        cdn: {
            field: new - old
            for field, new, old in zip(totals[cdn]._fields, path.totals(cdn), totals[cdn], strict=True)
            if new != old
        }
        for cdn in CDNS
    }
    wanted = _to_be_counted(flow, cdn_before, seen, outcome)
    assert counted == wanted, f"{told}counted\n  {counted}\nnot\n  {wanted}"
    then = state_before if row.then is UNCHANGED else row.then
    assert state_of(flow) == then, f"{told}which left it {state_of(flow).name}, not {then.name}"
    if then == FREE:
        assert (flow.half_open, flow.under_way) == (None, None), told
        assert not path.health(flow.cdn, flow.pool).unanswered, told
