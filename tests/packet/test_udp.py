"""UDP flows: how they begin, how long they live, and when another CDN gets them. QUIC's ids: test_quic.py."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable

import pytest
from harness import CDNS, MS, SERVICES, SNAT, Action, DataPath
from quic import Connection, Kind, learn
from rawmaps import Feeder
from segments import Ends, datagram, l4_offset, payload_of
from session import Datagrams, Session, link_of, macs_from

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Breaker, EventKind, OutReason, SlotState, Verdict

NOW = 10**12
SECOND = 1000 * MS
POOL = abi.Pool.UDP4
USUAL_US = 10_000


@pytest.fixture
def at(path: DataPath) -> Callable[[float], None]:
    """Let it be so many milliseconds after the beginning."""

    def at(ms: float) -> None:
        path.clock(NOW + int(ms * MS))

    at(0)
    return at


def known(path: DataPath, pool: abi.Pool = POOL) -> None:
    """Every CDN's usual time is known, and short."""
    for cdn in CDNS:
        path.change_health(cdn, pool, samples=20, baseline_us=USUAL_US, ewma_us=USUAL_US)


@pytest.fixture
def answering(path: DataPath, at: Callable[[float], None]) -> DataPath:
    """A DNS service of which an answer was seen."""
    Datagrams(path, "dns").open()
    known(path)
    return path


@pytest.fixture
def speaking(path: DataPath, at: Callable[[float], None]) -> DataPath:
    """A QUIC service that is known for one."""
    learn(path)
    known(path)
    return path


def other(path: DataPath, n: int, service: str = "dns") -> Datagrams:
    """A client of the n-th /24."""
    return Datagrams(path, service, f"10.{20 + n // 250}.{n % 250}.7")


def first_bytes(path: DataPath, cdn: str) -> tuple[int, ...]:
    """A CDN's histogram of them, of interactive traffic."""
    return path.tables.counters.first_bytes(path.layout.cdns[cdn], abi.TrafficClass.INTERACTIVE)


class TestBeginning:
    def test_what_comes_before_the_answer_goes_the_same_way(self, answering: DataPath) -> None:
        flow = Datagrams(answering)
        first = Ends(flow.up().frame).source
        for _ in range(5):
            assert Ends(flow.up().frame).source == first
        assert flow.under_way is None
        flow.down()
        assert flow.under_way is None
        flow.up()
        assert flow.datagrams is not None
        assert flow.slot.state == SlotState.ESTABLISHED

    def test_the_first_of_a_flight_is_timed(self, answering: DataPath, at: Callable[[float], None]) -> None:
        flow = Datagrams(answering)
        flow.up()
        at(2)
        flow.up()
        at(12)
        before = first_bytes(answering, flow.cdn)
        with answering.counting(flow.cdn) as counted:
            flow.down()
        assert counted["handshakes"] == counted["requests"] == 1
        assert answering.health(flow.cdn, POOL).ewma_us == 12_000
        after = first_bytes(answering, flow.cdn)
        (bucket,) = (n for n, count in enumerate(before) if after[n] != count)
        low, high = abi.bucket_limits_us(bucket)
        assert low <= 12_000 < high, "and it is a first byte"

    def test_one_that_was_sent_again_is_not(self, answering: DataPath, at: Callable[[float], None]) -> None:
        flow = Datagrams(answering)
        flow.up()
        at(50)
        flow.up()
        at(62)
        with answering.counting(flow.cdn) as counted:
            flow.down()
        assert not {"handshakes", "requests"} & counted.keys()

    def test_many_answers_to_one_question(self, answering: DataPath) -> None:
        flow = Datagrams(answering)
        flow.up()
        with answering.counting(flow.cdn) as counted:
            for _ in range(5):
                assert flow.down().verdict is Verdict.REPLIED
        assert counted["handshakes"] == 1

    def test_no_answer_from_another_port_or_to_another(self, answering: DataPath) -> None:
        flow = Datagrams(answering)
        flow.up()
        wrong = (flow.endpoint[0], flow.endpoint[1] + 1)
        frame = datagram(wrong, flow.snat, b"!", macs=macs_from(flow.cdn))
        assert answering.run(frame, link_of(flow.cdn)).verdict is Verdict.NO_OWNER
        flow.snat = flow.snat[0], flow.snat[1] ^ 1
        assert flow.down().verdict is Verdict.NO_OWNER


class TestProof:
    """Whoever spoofs a source speaks twice as easily as once."""

    def test_who_only_goes_on_is_not_established(self, answering: DataPath) -> None:
        flow = Datagrams(answering).open()
        for _ in range(3):
            flow.up()
            flow.down()
        assert (flow.half_open, flow.established) == (None, None)
        assert flow.datagrams is not None
        assert flow.datagrams.slot == flow.slot_index

    def test_a_flood_that_is_answered_evicts_nobody(self, path: DataPath) -> None:
        sessions = [Session(path, client=f"10.9.0.{n}").open() for n in range(1, 100)]
        connections = [Connection(path, client=f"10.9.1.{n}").open() for n in range(1, 100)]
        path.change_endpoint("aurora", POOL, transport=abi.Transport.IPIP)  # which needs no ports of ours
        feeder, device = Feeder(path.fd), path.indexes["clients"]
        for n in range(2 * path.config.limits.flows):
            spoofed = datagram((f"10.66.{n // 250}.{n % 250 + 1}", 1024), SERVICES["dns"], b"?")
            for _ in range(2):
                assert feeder.run(spoofed, device) == Action.REDIRECT
        assert all(flow.established for flow in (*sessions, *connections))

    def test_where_replies_are_direct_nothing_proves_it(self, path: DataPath) -> None:
        path.change_endpoint("aurora", POOL, transport=abi.Transport.IPIP)
        flow = Datagrams(path)
        for _ in range(3):
            path.run(datagram(flow.client, flow.service, b"?"))
        assert flow.established is None
        assert flow.datagrams is not None

    def test_what_was_evicted_is_rebuilt_where_it_was(self, answering: DataPath) -> None:
        flow = Datagrams(answering).open()
        before = flow.slot_index
        assert answering.tables.datagrams.delete(flow.key)
        slot = flow.slot
        slot.seen_s -= 1  # the second is over in which replies do not look
        answering.put_slot(before, slot)
        flow.down()
        assert flow.established is None
        assert flow.datagrams is not None
        assert flow.datagrams.slot == before
        port = flow.snat
        flow.up()
        assert flow.snat == port


class TestChecksum:
    def test_none_over_ipv4_stays_none(self, answering: DataPath) -> None:
        flow = Datagrams(answering)
        flow.up()
        for frame, device in (
            (datagram(flow.client, flow.service, b"?"), "clients"),
            (datagram(flow.endpoint, flow.snat, b"!", macs=macs_from(flow.cdn)), link_of(flow.cdn)),
        ):
            bare = bytearray(frame)
            bare[40:42] = bytes(2)
            seen = answering.run(bytes(bare), device)
            assert seen.verdict in (Verdict.FORWARDED, Verdict.REPLIED)
            assert seen.frame[40:42] == bytes(2)

    def test_none_over_ipv6_is_refused(self, path: DataPath) -> None:
        flow = Datagrams(path, "dns6").open()
        for frame, device in (
            (datagram(flow.client, flow.service, b"?"), "clients"),
            (datagram(flow.endpoint, flow.snat, b"!", macs=macs_from(flow.cdn)), link_of(flow.cdn)),
        ):
            at = l4_offset(frame) + 6
            bare = frame[:at] + bytes(2) + frame[at + 2 :]
            assert path.run(bare, device).verdict is Verdict.NO_CHECKSUM

    @pytest.mark.parametrize("service", ["dns", "dns6"])
    def test_one_that_comes_out_as_none_is_its_other_zero(self, path: DataPath, service: str) -> None:
        flow = Datagrams(path, service)
        seen = flow.up(b"\0\0ab")
        at = l4_offset(seen.frame) + 6
        (check,) = struct.unpack_from("!H", seen.frame, at)
        # what is added to the payload is taken from the checksum, which is 0 then
        seen = flow.up(struct.pack("!H", check) + b"ab")
        assert seen.frame[at : at + 2] == b"\xff\xff"
        assert payload_of(seen.frame)[2:] == b"ab"


class TestLife:
    def test_one_question_and_one_answer_from_many_ports(
        self, answering: DataPath, at: Callable[[float], None]
    ) -> None:
        answering.change(ports=23)
        for round_number in range(4):
            at(9000.0 * (round_number + 1))
            questions = [Datagrams(answering) for _ in range(60)]
            asked = [flow for flow in questions if flow.up().verdict is Verdict.FORWARDED]
            # a port is looked for a bounded number of times: some find none where few are left
            assert 23 * len(SNAT) * 0.7 < len(asked) <= 23 * len(SNAT)
            assert {flow.down().verdict for flow in asked} == {Verdict.REPLIED}

    def test_the_collector_finds_them_too(self, answering: DataPath, at: Callable[[float], None]) -> None:
        flows = [Datagrams(answering) for _ in range(30)]
        for flow in flows:
            flow.up()
            flow.down()
        for ms, state in ((7000, SlotState.SYN_RECV), (9000, SlotState.FREE)):
            at(ms)
            answering.sweep()
            assert {flow.slot.state for flow in flows} == {state}
        assert {flow.half_open for flow in flows} == {None}

    def test_one_way_it_lives_while_it_is_used(self, path: DataPath, at: Callable[[float], None]) -> None:
        flow = Datagrams(path)
        flow.up()
        port = flow.snat
        for second in range(5, 65, 5):
            at(second * 1000)
            path.sweep()
            flow.up()
            assert (flow.snat, flow.slot.state) == (port, SlotState.SYN_SENT)
        at(70_000)
        path.sweep()
        assert flow.slot.state == SlotState.FREE

    def test_what_only_the_cdn_goes_on_with_lives_too(
        self, answering: DataPath, at: Callable[[float], None]
    ) -> None:
        flow = Datagrams(answering)
        flow.up()
        for second in range(0, 60, 5):
            at(second * 1000)
            answering.sweep()
            assert flow.down().verdict is Verdict.REPLIED
        at(65_000)
        answering.sweep()
        assert flow.slot.state == SlotState.FREE

    def test_so_does_a_handshake_of_quic_that_takes_its_time(
        self, path: DataPath, at: Callable[[float], None]
    ) -> None:
        connection = Connection(path)
        connection.ask()
        connection.answer()
        for second in range(5, 30, 5):
            at(second * 1000)
            path.sweep()
            connection.ask()
        assert connection.finish().verdict is Verdict.FORWARDED
        assert connection.established is not None

    def test_an_idle_one_is_over_after_udp_s(self, answering: DataPath, at: Callable[[float], None]) -> None:
        answering.change(ports=1, snat_count=1)
        flow = Datagrams(answering).open()
        for seconds, verdict in ((170, Verdict.NO_PORT), (200, Verdict.FORWARDED)):
            at(seconds * 1000)
            assert Datagrams(answering).up().verdict is verdict
        assert flow.under_way is None
        assert flow.down().verdict is not Verdict.NO_OWNER, "the port is the new one's"

    def test_an_answer_keeps_it_as_a_question_does(
        self, answering: DataPath, at: Callable[[float], None]
    ) -> None:
        answering.change(ports=1, snat_count=1)
        flow = Datagrams(answering).open()
        for seconds in range(0, 400, 100):
            at(seconds * 1000)
            assert flow.down().verdict is Verdict.REPLIED
            assert Datagrams(answering).up().verdict is Verdict.NO_PORT


class TestRescue:
    def test_an_initial_sent_again_goes_to_another_cdn(
        self, speaking: DataPath, at: Callable[[float], None]
    ) -> None:
        connection = Connection(speaking)
        connection.ask()
        first, old = connection.cdn, copy.copy(connection)
        at(210)
        speaking.events(0, 0)
        with speaking.counting(first) as counted:
            connection.ask()
        assert connection.cdn != first
        assert counted == {"rescued_from": 1}
        (event,) = speaking.events(1)
        assert event.kind == EventKind.RESCUE
        connection.ask(Kind.ZERO_RTT)
        assert connection.cdn != first, "the rest of the flight follows"
        assert [connection.answer().verdict, connection.finish().verdict] == [
            Verdict.REPLIED,
            Verdict.FORWARDED,
        ]
        assert connection.knows()
        assert old.down(b"\xc0").verdict is Verdict.STALE_REPLY

    def test_not_before_it_has_waited(self, speaking: DataPath, at: Callable[[float], None]) -> None:
        connection = Connection(speaking)
        connection.ask()
        first = connection.cdn
        for ms in (0, 1, 30, 190):
            at(ms)
            connection.ask()
            assert connection.cdn == first

    def test_what_is_no_beginning_moves_nothing(
        self, speaking: DataPath, at: Callable[[float], None]
    ) -> None:
        connection = Connection(speaking)
        connection.ask()
        first = connection.cdn
        at(500)
        connection.ask(Kind.ZERO_RTT)
        connection.ask(Kind.HANDSHAKE)
        connection.ask(size=300)
        connection.say()
        assert connection.cdn == first

    def test_not_after_an_answer(self, speaking: DataPath, at: Callable[[float], None]) -> None:
        connection = Connection(speaking)
        connection.ask()
        connection.answer()
        first = connection.cdn
        at(5000)
        connection.ask()
        assert connection.cdn == first

    def test_a_question_asked_again(self, path: DataPath, at: Callable[[float], None]) -> None:
        flow = asked_in_vain(path)
        first = flow.cdn
        at(400)
        flow.up()
        assert flow.cdn != first

    def test_what_streams_on_asks_nothing(self, path: DataPath, at: Callable[[float], None]) -> None:
        flow = asked_in_vain(path)
        first = flow.cdn
        for ms in range(20, 2000, 50):
            at(ms)
            flow.up()
            assert flow.cdn == first

    def test_where_nobody_ever_answers_nobody_is_silent(
        self, path: DataPath, at: Callable[[float], None]
    ) -> None:
        known(path)
        flow = Datagrams(path, "quic")
        flow.up()
        first = flow.cdn
        for ms in (500, 2000, 7000):
            at(ms)
            flow.up()
            assert flow.cdn == first
        assert path.health(first, POOL).unanswered == 0

    def test_a_late_answer_is_timed_once(self, path: DataPath, at: Callable[[float], None]) -> None:
        flow = asked_in_vain(path)
        old = copy.copy(flow)
        at(400)
        flow.up()
        at(450)
        with path.counting(old.cdn) as counted:
            assert [old.down().verdict for _ in range(3)] == [Verdict.STALE_REPLY] * 3
        assert counted == {"handshakes": 1}


def asked_in_vain(path: DataPath) -> Datagrams:
    """A flow of a service of all three CDNs that is no QUIC; somebody else was answered."""
    Datagrams(path, "quic", "10.5.0.1").open()
    known(path)
    flow = Datagrams(path, "quic")
    flow.up()
    return flow


class TestDark:
    def test_questions_that_nobody_answers(self, path: DataPath, at: Callable[[float], None]) -> None:
        asked_in_vain(path)
        for n in range(30):
            other(path, n, "quic").up()
        at(300)
        for n in range(30, 60):
            other(path, n, "quic").up()
        out = [cdn for cdn in CDNS if path.health(cdn, POOL).state == Breaker.OUT]
        assert len(out) == 1, "no more than half may go"
        assert path.health(out[0], POOL).reason == OutReason.DARK

    def test_one_way_says_nothing(self, path: DataPath, at: Callable[[float], None]) -> None:
        known(path)
        for ms in (0, 300, 2000):
            at(ms)
            for n in range(20):
                other(path, n, "quic").up()
        assert {path.health(cdn, POOL).state for cdn in CDNS} == {Breaker.IN}

    def test_nor_do_strangers_connections(self, speaking: DataPath, at: Callable[[float], None]) -> None:
        for ms in (0, 300, 2000):
            at(ms)
            for n in range(20):
                Connection(speaking, client=f"10.20.{n}.7").say()
        assert {speaking.health(cdn, POOL).state for cdn in CDNS} == {Breaker.IN}

    def gone(self, flow: Datagrams) -> None:
        """Its CDN is out, for it is dark."""
        flow.path.change_health(
            flow.cdn, POOL, state=Breaker.OUT, reason=OutReason.DARK, out_until_ns=1 << 62
        )

    def test_a_flow_into_the_dark_begins_anew(self, path: DataPath, at: Callable[[float], None]) -> None:
        flow = Datagrams(path, "quic").open()
        first, slot = flow.cdn, flow.slot_index
        self.gone(flow)
        at(1500)
        with path.counting(first) as counted:
            flow.up()
        assert flow.cdn != first
        assert (counted["reset_dark"], counted["closed"]) == (1, 1)
        assert path.slot(slot).state == SlotState.CLOSING
        flow.open()

    def test_unless_its_cdn_does_not_want_that(self, path: DataPath, at: Callable[[float], None]) -> None:
        flow = Datagrams(path, "quic").open()
        first = flow.cdn
        self.gone(flow)
        path.change_endpoint(first, POOL, flags=0)
        at(1500)
        flow.up()
        assert flow.cdn == first

    def test_a_connection_of_quic_waits(self, speaking: DataPath, at: Callable[[float], None]) -> None:
        connection = Connection(speaking).open()
        first = connection.cdn
        self.gone(connection)
        for ms in (1500, 3000, 4500):
            at(ms)
            connection.say()
            assert connection.cdn == first
        at(6000)
        connection.ask()
        assert connection.cdn != first, "but a new one begins elsewhere"

    def test_a_rescue_out_of_the_dark_needs_no_pause(
        self, path: DataPath, at: Callable[[float], None]
    ) -> None:
        flow = asked_in_vain(path)
        first = flow.cdn
        for ms in range(20, 220, 50):
            at(ms)
            flow.up()
        self.gone(flow)
        at(240)
        flow.up()
        assert flow.cdn != first
