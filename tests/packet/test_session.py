"""A session from its SYN to its end, and everything that can come in between."""

from __future__ import annotations

import pytest
from harness import DataPath
from netbox import CLIENTS, ROUTER_MAC
from segments import Ends, Flag
from session import CDN_ISN, Session
from steps import (
    ACK,
    FIN,
    PSH,
    RST,
    TIMES,
    dropped,
    forwarded,
    from_cdn,
    from_client,
    goes_down,
    goes_up,
    replied,
    reset_to_cdn,
)

from cdnctl.datapath import abi
from cdnctl.datapath.abi import FlowFlag, SlotState, Verdict

# -- from the first packet to the last --


def test_every_byte_of_a_whole_session(session: Session) -> None:
    session.syn()
    goes_up(session, from_client(session, "S", seq=1000, options=[("MSS", 1460), ("WScale", 7)]))
    goes_down(
        session, from_cdn(session, "SA", seq=CDN_ISN, ack=1001, options=[("MSS", 1400), ("SAckOK", b"")])
    )
    goes_up(session, from_client(session, "A", seq=1001, ack=CDN_ISN + 1, options=[TIMES]))
    goes_up(
        session, from_client(session, "PA", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", seq=1001, ack=CDN_ISN + 1)
    )
    goes_down(session, from_cdn(session, "A", bytes(range(256)) * 5 + b"odd", seq=CDN_ISN + 1, ack=1028))
    goes_down(
        session,
        from_cdn(session, "PA", b"\xff" * 999, seq=CDN_ISN + 1284, ack=1028, options=[TIMES], window=0),
    )
    goes_up(session, from_client(session, "A", seq=1028, ack=CDN_ISN + 9, options=[("SAck", (1, 2, 3, 4))]))
    goes_down(session, from_cdn(session, "FA", seq=CDN_ISN + 2283, ack=1028))
    goes_up(session, from_client(session, "FA", seq=1028, ack=CDN_ISN + 2284))
    goes_down(session, from_cdn(session, "A", seq=CDN_ISN + 2284, ack=1029))


def test_every_step_is_counted_once_for_its_cdn(session: Session) -> None:
    with session.path.counting("aurora") as counted:
        session.open()
        session.up(PSH | ACK, payload=b"x" * 100)
        session.down(PSH | ACK, payload=b"y" * 1000)
    assert counted == {
        "to_cdn_packets": 3,
        "to_cdn_bytes": 3 * 54 + 100,
        "from_cdn_packets": 2,
        "from_cdn_bytes": 2 * 54 + 1000,
        "new_flows": 1,
        "handshakes": 1,
        "promoted": 1,
        "segments_to": 1,
        "segments_from": 1,
        "requests": 1,
    }


def test_where_the_state_is_at_each_step(session: Session) -> None:
    session.syn()
    assert (session.slot.state, session.slot.isn) == (
        SlotState.SYN_SENT,
        int.from_bytes((1000).to_bytes(4, "big"), "little"),
    )
    assert session.slot.link == session.path.links.ids[CLIENTS]
    assert bytes(session.slot.router).hex(":") == ROUTER_MAC
    assert session.half_open is not None
    assert session.half_open.slot == session.slot_index
    assert session.established is None
    session.syn_ack()
    assert session.slot.state == SlotState.SYN_RECV
    assert FlowFlag.SYNACK in FlowFlag(session.half_open.flags)
    session.ack()
    assert session.slot.state == SlotState.ESTABLISHED
    assert session.half_open is None
    assert session.established is not None
    assert session.established.slot == session.slot_index
    session.up(FIN | ACK)
    assert session.slot.state == SlotState.ESTABLISHED
    session.down(FIN | ACK)
    assert session.slot.state == SlotState.CLOSING


# -- handshakes that go otherwise --


def test_a_syn_sent_again_goes_the_same_way(session: Session) -> None:
    first = session.syn()
    with session.path.counting("aurora") as counted:
        again = session.syn()
        forwarded(again)
        session.syn_ack()
        replied(session.syn_ack())  # the CDN answers each
        forwarded(session.ack())
    assert again.frame == first.frame
    assert "new_flows" not in counted
    assert "handshakes" not in counted, "which SYN was answered is unknown: no sample (Karn)"


def test_a_syn_with_another_number_begins_anew_on_the_same_port(session: Session) -> None:
    session.syn()
    before = session.slot_index
    session.isn = 999_999
    forwarded(session.syn())
    assert session.slot_index == before
    reset_to_cdn(session, from_cdn(session, "SA", seq=5, ack=1001), flags="R", seq=1001)
    replied(session.syn_ack())
    forwarded(session.ack())


def at_aurora(path: DataPath) -> Session:
    """A handshake with aurora, though the service has others."""
    for _ in range(40):
        session = Session(path, "www")
        session.syn()
        if session.cdn == "aurora":
            return session
    raise AssertionError("weights are not kept")


def take_aurora_out(path: DataPath) -> None:
    path.change_health("aurora", state=abi.Breaker.OUT, out_until_ns=2**62, reserved_weight=100)


def test_a_handshake_given_up_long_ago_does_not_bind_the_next(path: DataPath) -> None:
    session = at_aurora(path)
    take_aurora_out(path)
    session.isn += 1
    session.syn()
    assert session.cdn == "aurora", "it may still be answered"
    session.age(8_001)
    session.isn += 1
    forwarded(session.syn())
    assert session.cdn != "aurora"
    replied(session.syn_ack())
    forwarded(session.ack())
    assert session.established is not None
    assert session.established.slot == session.slot_index


def test_nor_does_one_that_was_refused(path: DataPath) -> None:
    session = at_aurora(path)
    replied(session.refuse())
    take_aurora_out(path)
    session.isn += 1
    forwarded(session.syn())
    assert session.cdn != "aurora"
    replied(session.syn_ack())
    forwarded(session.ack())


def test_isn_at_the_end_of_its_range(path: DataPath) -> None:
    session = Session(path, isn=0xFFFF_FFFF)
    session.cdn_isn = 0xFFFF_FFFF
    session.syn()
    replied(session.down(Flag.SYN | ACK, seq=0xFFFF_FFFF, ack=0))
    forwarded(session.up(ACK, seq=0, ack=0))
    assert session.established is not None


def test_a_refused_connect_reaches_its_client(session: Session) -> None:
    session.syn()
    replied(session.refuse())
    assert session.slot.state == SlotState.CLOSING
    assert session.path.health("aurora").refused == 1


def test_a_refusal_of_something_else_is_nobodys(session: Session) -> None:
    session.syn()
    dropped(session.down(RST | ACK, seq=0, ack=5), Verdict.STALE_REPLY)
    dropped(session.down(RST, seq=0), Verdict.STALE_REPLY)
    assert session.slot.state == SlotState.SYN_SENT
    assert session.path.health("aurora").refused == 0


@pytest.mark.parametrize(
    ("flags", "fields", "answer"),
    [
        ("SA", {"seq": 9, "ack": 70_000}, {"flags": "R", "seq": 70_000}),
        ("A", {"seq": 9, "ack": 1001}, {"flags": "R", "seq": 1001}),
        ("PA", {"seq": 9, "ack": 0xFFFF_FFFF}, {"flags": "R", "seq": 0xFFFF_FFFF}),
        ("FA", {"seq": 9, "ack": 1001}, {"flags": "R", "seq": 1001}),
        ("S", {"seq": 0xFFFF_FFFF}, {"flags": "RA", "seq": 0, "ack": 0}),
        ("S", {"seq": 4}, {"flags": "RA", "seq": 0, "ack": 5}),
    ],
)
def test_an_older_connection_on_the_port_is_reset_so_that_ours_begins(
    session: Session, flags: str, fields: dict[str, int], answer: dict[str, int | str]
) -> None:
    session.syn()
    reset_to_cdn(session, from_cdn(session, flags, b"" if flags == "S" else b"old data", **fields), **answer)
    replied(session.syn_ack())
    forwarded(session.ack())


# -- established --


def test_a_syn_on_a_live_session_is_the_cdns_to_judge(opened: Session) -> None:
    goes_up(opened, from_client(opened, "S", seq=424242))
    replied(opened.down(ACK, payload=b"challenge"))
    assert opened.established is not None


def test_a_reset_of_an_established_session_is_no_refusal(path: DataPath) -> None:
    for _ in range(6):
        Session(path).open().down(RST | ACK)
    assert path.health("aurora").refused == 0
    assert path.health("aurora").state == abi.Breaker.IN


def test_the_same_port_again_after_the_end_is_a_new_session(opened: Session) -> None:
    opened.close()
    old = opened.slot_index
    opened.isn, opened.cdn_isn = 5_000_000, 0x1234_5678
    forwarded(opened.syn())
    assert opened.slot_index != old, "the closed port rests"
    replied(opened.syn_ack())
    seen = opened.ack()
    forwarded(seen)
    assert Ends(seen.frame).source == opened.snat, "the answer must not go by the old session's port"
    assert opened.established is not None
    assert opened.established.slot == opened.slot_index
    goes_down(opened, from_cdn(opened, "PA", b"hello", seq=0x1234_5679, ack=5_000_001))
