"""The same flows by TCP and UDP, over IPv4 and IPv6: every byte, every table, every count."""

from __future__ import annotations

import pytest
from harness import CDNS, MS, SNAT, SNAT6, DataPath
from netbox import CLIENT_SIDE_MAC, LINKS, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import UDP
from scapy.layers.l2 import Ether
from segments import Ends, Flag, network, translated
from session import CDN_ISN, Datagrams, Session, macs_from
from steps import dropped, forwarded, from_cdn, from_client, goes_down, goes_up, replied

from cdnctl.datapath import abi
from cdnctl.datapath.abi import SlotState, Verdict

LINK = LINKS[0]


@pytest.mark.parametrize("service", ["solo", "solo6"])
def test_every_byte_of_a_session(path: DataPath, service: str) -> None:
    session = Session(path, service)
    session.syn()
    goes_down(session, from_cdn(session, "SA", seq=CDN_ISN, ack=1001, options=[("MSS", 1440)]))
    goes_up(session, from_client(session, "A", seq=1001, ack=CDN_ISN + 1))
    goes_up(session, from_client(session, "PA", b"GET / HTTP/1.1\r\n\r\n", seq=1001, ack=CDN_ISN + 1))
    goes_down(session, from_cdn(session, "PA", bytes(range(255)) * 5, seq=CDN_ISN + 1, ack=1019))


@pytest.mark.parametrize("service", ["dns", "dns6"])
def test_every_byte_of_datagrams(path: DataPath, service: str) -> None:
    flow = Datagrams(path, service)
    forwarded(flow.up())
    (source, sport), (target, dport) = flow.client, flow.service
    question = (
        Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
        / network(source, target, id=77)
        / UDP(sport=sport, dport=dport)
        / b"a question of odd length"
    )
    seen = path.run(raw(question))
    forwarded(seen)
    assert seen.frame == translated(question, flow.snat, flow.endpoint, (LINK.mac, LINK.gateway_mac)), seen
    macs = macs_from(flow.cdn)
    answer = (
        Ether(src=macs[0], dst=macs[1])
        / network(flow.endpoint[0], flow.snat[0], 57, id=0)
        / UDP(sport=flow.endpoint[1], dport=flow.snat[1])
        / bytes(999)
    )
    seen = path.run(raw(answer), LINK.name)
    replied(seen)
    assert seen.frame == translated(answer, flow.service, flow.client, (CLIENT_SIDE_MAC, ROUTER_MAC)), seen


@pytest.mark.parametrize(
    ("kind", "service", "snat"),
    [
        (Session, "www", SNAT),
        (Session, "www6", SNAT6),
        (Datagrams, "quic", SNAT),
        (Datagrams, "quic6", SNAT6),
    ],
    ids=["tcp4", "tcp6", "udp4", "udp6"],
)
class TestEachKind:
    def test_flows_spread_over_all_cdns_from_addresses_of_their_family(
        self, path: DataPath, kind: type[Session] | type[Datagrams], service: str, snat: tuple[str, ...]
    ) -> None:
        flows = [kind(path, service).open() for _ in range(60)]
        assert {flow.cdn for flow in flows} == set(CDNS)
        assert {flow.snat[0] for flow in flows} <= set(snat)

    def test_a_flow_is_one_entry_and_its_slot(
        self, path: DataPath, kind: type[Session] | type[Datagrams], service: str, snat: tuple[str, ...]
    ) -> None:
        flow = kind(path, service).open()
        assert flow.half_open is None
        assert flow.under_way is not None
        assert flow.under_way.slot == flow.slot_index
        assert flow.slot.state == SlotState.ESTABLISHED
        assert abi.show_address(flow.slot.client) == flow.client[0]
        assert path.tables.live_flows() == 1

    def test_replies_reach_their_own_clients_alone(
        self, path: DataPath, kind: type[Session] | type[Datagrams], service: str, snat: tuple[str, ...]
    ) -> None:
        flows = [kind(path, service, port=20345).open() for _ in range(1)]
        first = flows[0].client[0]
        near = first[:-1] + "9"
        flows.append(kind(path, service, client=near, port=20345).open())
        for flow in flows:
            seen = flow.down(Flag.ACK) if isinstance(flow, Session) else flow.down(b"!")
            replied(seen)
            assert Ends(seen.frame).target == flow.client


def test_a_family_does_not_wait_for_the_other_ones_endpoints(path: DataPath) -> None:
    """IPv4's breaker says nothing of IPv6's endpoint."""
    for n in range(3):
        session = Session(path, "solo", client=f"10.1.{n}.7")
        session.syn()
        session.refuse()
    assert path.health("aurora").state == abi.Breaker.OUT
    assert path.health("aurora", abi.Pool.TCP6).state == abi.Breaker.IN
    assert path.tables.weight_out(abi.Pool.TCP4) == 100
    assert path.tables.weight_out(abi.Pool.TCP6) == 0


def test_a_datagram_that_is_nobodys_reply_is_dropped(path: DataPath) -> None:
    flow = Datagrams(path, "dns6").open()
    flow.snat = flow.snat[0], flow.snat[1] ^ 1
    dropped(flow.down(), Verdict.NO_OWNER)


def test_an_idle_udp_flow_is_collected_and_its_port_is_free(path: DataPath) -> None:
    began = 100_000_000 * MS
    path.clock(began)
    flow = Datagrams(path, "dns").open()
    slot = flow.slot_index
    path.clock(began + 170_000 * MS)
    assert path.sweep() == {flow.path.endpoint_id("aurora", abi.Pool.UDP4): {SlotState.ESTABLISHED: 1}}
    path.clock(began + 200_000 * MS)
    assert path.sweep() == {}
    assert path.slot(slot).owner == 0
    assert flow.under_way is None
