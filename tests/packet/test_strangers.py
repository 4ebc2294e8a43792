"""What strangers send must not cost others anything; and what others send is not taken for strangers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from blocking import Guarded
from connects import PATIENCE_MS, client, is_out, learn
from errors import one_cpu
from harness import AURORA, CDNS, MS, SNAT, VIP, Action, DataPath
from scapy.compat import raw
from scapy.layers.inet import IP, TCP, IPOption
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from segments import Flag, segment
from session import CLIENT, Datagrams, Session
from table import behind, but, up

from cdnctl.datapath import abi
from cdnctl.datapath.abi import SlotState, Verdict

ACK, RST, SYN = Flag.ACK, Flag.RST, Flag.SYN
NOW = 10**15


OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)]
Junk = Callable[[Session], bytes]


def stranger(path: DataPath, service: str, n: int) -> Session:
    """Of the n-th network."""
    return Session(path, service, f"2001:db8:{n + 1:x}::7" if service.endswith("6") else client(n))


def first(session: Session, payload: bytes = b"", said: str = "S", **fields: object) -> bytes:
    """A client's SYN."""
    return raw(up(said, payload, **fields)(session))


def _bad_header(session: Session) -> bytes:
    packet = up("S")(session)
    if IPv6 in packet:  # which has no sum of its own
        packet[TCP].chksum = 1
    else:
        packet[IP].chksum = 1
    return raw(packet)


def _behind_options(session: Session) -> bytes:
    make = up("S")
    if IPv6 in make(session):
        return raw(behind(make, IPv6ExtHdrDestOpt())(session))
    return raw(but(make, options=[IPOption(b"\x01" * 4)])(session))


JUNK: dict[str, Junk] = {
    "a wrong checksum": lambda session: first(session, chksum=1),
    "a wrong one behind options": lambda session: first(session, chksum=1, options=OPTIONS),
    "no checksum": lambda session: first(session, chksum=0),
    "a header with a wrong sum": _bad_header,
    "data, which is not summed up": lambda session: first(session, b"fast open"),
    "odd flags": lambda session: first(session, said="SPU"),
    "options before it": _behind_options,
}


@pytest.fixture
def clocked(path: DataPath) -> DataPath:
    """Time stands still until it is told."""
    path.clock(NOW)
    return path


class TestObserving:
    def test_nothing_was_sent_so_nobody_was_silent(self, clocked: DataPath) -> None:
        """What would have been connects is no evidence on the day that the edge begins in earnest."""
        path = clocked
        path.tables.mode = abi.Mode.OBSERVE
        for n in range(30):
            frame = segment((client(n), 1234), (VIP, 80), SYN, seq=1)
            assert path.run(frame).action is Action.PASS
            path.clock(NOW + n * 100 * MS)
        path.tables.mode = abi.Mode(0)
        path.clock(NOW + 10_000 * MS)
        for n in range(12):
            Session(path, "www", client=client(100 + n)).open()
        assert not any(is_out(path, cdn) for cdn in CDNS)


class TestResets:
    """Of a client whose handshake is under way: only one that can be its own ends that."""

    def test_a_blind_one(self, session: Session) -> None:
        session.syn()
        session.up(RST, seq=session.isn + 77777)
        assert session.syn_ack().verdict is Verdict.REPLIED
        assert session.ack().verdict is Verdict.FORWARDED
        assert session.slot.state == SlotState.ESTABLISHED

    def test_its_own(self, session: Session) -> None:
        session.syn()
        session.syn_ack()
        assert session.up(RST).verdict is Verdict.FORWARDED
        assert session.slot.state == SlotState.CLOSING


class TestAnswers:
    """There are only so many a second; each kind has its own."""

    def test_neither_pings_nor_stray_segments_silence_errors(self, clocked: DataPath) -> None:
        ping = Ether(dst=b"\2\0\0\0\0\1") / IP(src=CLIENT, dst=VIP, proto=1) / (b"\x08\0\xf7\xff" + bytes(4))
        frame = raw(ping)
        stray = segment((CLIENT, 1234), (VIP, 80), ACK, seq=1, ack=1)
        with one_cpu():
            assert [clocked.run(frame).verdict for _ in range(1001)][-1] is Verdict.UNRELATED
            verdicts = [clocked.run(stray).verdict for _ in range(1001)]
            assert verdicts == [Verdict.RESET_CLIENT] * 1000 + [Verdict.UNKNOWN_FLOW]
            assert Session(clocked).syn(ttl=1).verdict is Verdict.SAID_TOO_LATE


class TestEvidence:
    def test_what_cannot_arrive_is_no_connect(self, clocked: DataPath) -> None:
        """A SYN whose TTL is over one hop behind the box is answered by nobody."""
        path = clocked
        learn(path)
        for n in range(20):
            assert Session(path, client=client(n)).syn(ttl=3).verdict is Verdict.FORWARDED
        path.clock(NOW + 10 * PATIENCE_MS * MS)
        Session(path).open()
        Session(path).open()
        assert not is_out(path, AURORA)

    @pytest.mark.parametrize("service", ["solo", "solo6"])
    @pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
    def test_what_may_be_dropped_in_silence_is_no_connect(
        self, clocked: DataPath, service: str, junk: Junk
    ) -> None:
        path, pool = clocked, Session(clocked, service).pool
        for n in range(20):
            session = stranger(path, service, n)
            for ms in (0, 1, 2000):  # the last time it has waited in vain for long
                path.clock(NOW + (3000 * n + ms) * MS)
                assert path.run(junk(session)).verdict is Verdict.FORWARDED, "as ever"
        assert path.health(AURORA, pool).unanswered == 0
        stranger(path, service, 30).syn()
        assert path.health(AURORA, pool).unanswered == 1

    @pytest.mark.parametrize("service", ["solo", "solo6"])
    def test_what_may_not_is_one(self, clocked: DataPath, service: str) -> None:
        path = clocked
        sane: dict[str, dict[str, Any]] = {
            "plain": {},
            "with options": {"options": OPTIONS},
            "with all of them": {"options": [("NOP", None)] * 40},
            "asking for ECN": {"said": "SEC"},
        }
        for n, fields in enumerate(sane.values()):
            session = stranger(path, service, n)
            assert session.went(path.run(first(session, **fields))).verdict is Verdict.FORWARDED
            assert path.health(AURORA, session.pool).unanswered == n + 1

    def test_nor_does_it_probe(self, clocked: DataPath) -> None:
        path = clocked
        path.change_health(AURORA, state=abi.Breaker.OUT, out_until_ns=NOW - 1)
        for n in range(20):
            session = stranger(path, "www", n)
            session.went(path.run(first(session, chksum=1)))
        assert path.health(AURORA).probing == 0
        for n in range(20):
            stranger(path, "www", 30 + n).syn()
        assert path.health(AURORA).probing == 1

    def test_a_client_cannot_make_a_datagrams_answer_late(self, clocked: DataPath) -> None:
        """Junk that nobody answers, then a question before a flight is over, from three networks."""
        path = clocked
        now = NOW
        for n in range(30):
            flow = Datagrams(path, client=client(n))
            flow.up()
            now += 24 * MS * (n > 12)
            path.clock(now)
            flow.up()
            now += 1 * MS
            path.clock(now)
            flow.down()
            assert path.health(AURORA, flow.pool).ewma_us < 20_000
        assert path.health(AURORA, flow.pool).state == abi.Breaker.IN


class TestTheHostsOwn:
    """What comes to an address that the host shares with the edge, but not to the edge's ports."""

    def test_operators_get_in_with_pings_and_pieces(self, guarded: Guarded, path: DataPath) -> None:
        """The guard lets them in whatever is blocked, to the host's own addresses."""
        guarded.block("192.0.2.0/24")
        ping = Ether() / IP(src="192.0.2.7", dst=SNAT[0], proto=1) / (b"\x08\0\xf7\xff" + bytes(4))
        assert path.run(raw(ping)).verdict is Verdict.PASSED
        piece = Ether() / IP(src="192.0.2.7", dst=SNAT[0], proto=17, frag=100) / bytes(64)
        assert path.run(raw(piece)).verdict is Verdict.PASSED
        ping[IP].dst = VIP
        del ping[IP].chksum
        assert path.run(raw(ping)).verdict is Verdict.BLOCKED
