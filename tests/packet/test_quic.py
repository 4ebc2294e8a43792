"""QUIC: a client whose port changes keeps its endpoint, by another port of ours; nobody else gains by it."""

from __future__ import annotations

import pytest
from harness import CDNS, MS, DataPath
from quic import V1, V2, Connection, Kind, learn, long_header, short_header, some_id
from segments import End, Ends, datagram
from session import link_of, macs_from

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Breaker, FlowFlag, OutReason, SlotState, Verdict

CLIENTS = {"quic": ("10.1.0.7", "10.2.0.8"), "quic6": ("2001:db8:c1::7", "2001:db8:c2::8")}
OTHERS = 24
"""Ports that a client moves to, in turn: by chance they would not all lead to one CDN of three."""


@pytest.fixture(params=CLIENTS)
def service(request: pytest.FixtureRequest) -> str:
    """Over each family."""
    return str(request.param)


@pytest.fixture
def connection(path: DataPath, service: str) -> Connection:
    """One with its handshake behind it."""
    return Connection(path, service).open()


def to(connection: Connection) -> End:
    """Where a reply on the connection's present flow goes."""
    seen = connection.hear()
    assert seen.verdict is Verdict.REPLIED, seen
    assert Ends(seen.frame).source == connection.service
    return Ends(seen.frame).target


def cdns_of(connection: Connection, many: int = OTHERS) -> set[str]:
    """CDNs that the connection goes to from so many other ports."""
    moved = [connection.moved() for _ in range(many)]
    for each in moved:
        assert each.say().verdict is Verdict.FORWARDED
    return {each.cdn for each in moved}


class TestLearning:
    def test_an_id_that_its_client_repeats_is_learned(self, path: DataPath, service: str) -> None:
        connection = Connection(path, service)
        connection.ask()
        with path.counting(connection.cdn) as counted:
            connection.answer()
            assert (connection.knows(offered=True), connection.knows()) == (True, False)
            assert connection.half_open is not None
            connection.answer(Kind.HANDSHAKE)
            connection.finish()
        assert connection.knows()
        assert counted["ids_learned"] == counted["promoted"] == 1
        assert (connection.half_open, connection.slot.state) == (None, SlotState.ESTABLISHED)
        health = path.health(connection.cdn, connection.pool)
        assert connection.heard.id_lengths == health.id_lengths == 1 << 8

    def test_once(self, connection: Connection) -> None:
        with connection.path.counting(connection.cdn) as counted:
            connection.answer(Kind.HANDSHAKE)
            connection.answer(Kind.HANDSHAKE)
        assert counted.keys() == {"from_cdn_packets", "from_cdn_bytes"}

    def test_what_a_client_does_not_repeat_is_no_proof(self, path: DataPath) -> None:
        """Its second datagram may be of its first flight; or its address is not its own."""
        connection = Connection(path)
        connection.ask()
        connection.answer()
        for seen in (connection.ask(), connection.ask(Kind.ZERO_RTT), connection.up(short_header(some_id()))):
            assert seen.verdict is Verdict.FORWARDED
            assert Ends(seen.frame).source == connection.snat
        assert (connection.established, connection.knows()) == (None, False)
        assert connection.finish().verdict is Verdict.FORWARDED
        assert connection.established is not None

    def test_an_id_that_can_be_guessed_is_no_proof(self, path: DataPath) -> None:
        connection = Connection(path, id_length=3).open()
        assert connection.established is None
        assert connection.datagrams is not None
        connection.answer(Kind.HANDSHAKE)
        assert connection.datagrams.cdn_isn == 0, "and there is nothing to wait for"

    def test_an_id_that_is_named_late(self, path: DataPath) -> None:
        """After a first answer that named none, as when a server only says which versions it knows."""
        connection = Connection(path)
        connection.ask()
        connection.down(long_header(Kind.INITIAL, b"c" * 8, b"s" * 8, version=0))
        with path.counting(connection.cdn) as counted:
            connection.ask()
            assert connection.datagrams is not None
            connection.answer()
            assert (connection.knows(offered=True), connection.knows()) == (True, False)
            connection.say()
            assert connection.established is None, "a short header says nothing of the kind"
            connection.finish()
        assert (connection.datagrams, connection.knows()) == (None, True)
        assert connection.established is not None
        assert (counted["promoted"], counted["ids_learned"]) == (1, 1)
        for _ in range(2):
            assert connection.say().verdict is Verdict.FORWARDED
            assert connection.hear().verdict is Verdict.REPLIED

    def test_a_flood_of_first_packets_pushes_no_id_out(self, path: DataPath) -> None:
        known = Connection(path).open()
        for n in range(1500):  # more than the table of offers holds
            spoofed = Connection(path, client=f"10.66.{n // 250}.{n % 250 + 1}", port=1024 + n)
            spoofed.ask()
            spoofed.answer()
        assert known.knows()
        assert sum(1 for _ in path.map("quic_ids").keys()) == 1

    @pytest.mark.parametrize("version", [V1, V2])
    def test_either_version(self, path: DataPath, version: int) -> None:
        assert Connection(path, version=version).open().knows()

    def test_a_client_may_grease_the_fixed_bit(self, path: DataPath) -> None:
        connection = Connection(path)
        connection.ask()
        connection.answer()
        connection.finish(fixed=False)  # RFC 9287
        assert connection.knows()
        assert cdns_of(connection) == {connection.cdn}
        moved = connection.moved()
        moved.say(fixed=False)
        assert moved.cdn == connection.cdn

    def test_after_a_retry_the_second_id_counts(self, path: DataPath) -> None:
        connection = Connection(path)
        connection.ask()
        token_id, last = some_id(), connection.its
        connection.its = token_id
        connection.answer(Kind.RETRY)
        connection.chosen = token_id
        connection.ask()
        connection.its = last
        connection.answer()
        connection.answer(Kind.HANDSHAKE)
        connection.finish()
        assert connection.knows(last)
        assert cdns_of(connection) == {connection.cdn}

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(long_header(Kind.INITIAL, b"c" * 8, b"s" * 8, version=0), id="version negotiation"),
            pytest.param(long_header(Kind.INITIAL, b"c" * 8, b"s" * 8, version=0xFF00001D), id="a draft"),
            pytest.param(long_header(Kind.INITIAL, b"c" * 21, b"s" * 8), id="the client's id is too long"),
            pytest.param(long_header(Kind.INITIAL, b"c" * 8, b"s" * 21), id="its own id is too long"),
            pytest.param(long_header(Kind.INITIAL, b"c" * 8, b"s" * 8, fixed=False), id="no fixed bit"),
            pytest.param(short_header(b"s" * 8), id="short"),
            pytest.param(b"\xc0", id="a byte"),
            pytest.param(b"", id="empty"),
        ],
    )
    def test_what_names_no_id(self, path: DataPath, payload: bytes) -> None:
        connection = Connection(path)
        connection.ask()
        assert connection.down(payload).verdict is Verdict.REPLIED
        assert connection.heard.id_lengths == 0
        assert not list(path.map("quic_offers").keys())
        connection.say()
        assert connection.datagrams is not None, "what is not known to be QUIC is UDP like any"

    def test_a_header_cut_short_at_any_byte_teaches_nothing(self, path: DataPath) -> None:
        whole = long_header(Kind.HANDSHAKE, b"c" * 8, b"s" * 20, size=60)
        connection = Connection(path)
        connection.ask()
        for length in range(35):
            assert connection.down(whole[:length]).verdict is Verdict.REPLIED
            assert not list(path.map("quic_offers").keys()), length
        connection.down(whole[:35])
        assert connection.knows(b"s" * 20, offered=True)

    def test_padding_of_the_frame_is_not_read(self, path: DataPath) -> None:
        connection = Connection(path)
        connection.ask()
        cut = datagram(
            connection.endpoint,
            connection.snat,
            long_header(Kind.HANDSHAKE, b"", b"s" * 8, size=15),
            macs=macs_from(connection.cdn),
        )
        assert path.run(cut + bytes(32), link_of(connection.cdn)).verdict is Verdict.REPLIED
        assert not list(path.map("quic_offers").keys())

    def test_a_port_that_is_nobodys_teaches_nothing(self, connection: Connection) -> None:
        connection.snat = connection.snat[0], connection.snat[1] ^ 1
        connection.its = some_id()
        assert connection.answer().verdict is Verdict.NO_OWNER
        assert not connection.knows(offered=True)
        assert not connection.knows()


class TestMoving:
    def test_from_another_port_it_keeps_its_endpoint(self, connection: Connection) -> None:
        path, pool = connection.path, connection.pool
        path.change_health(connection.cdn, pool, last_new_flow_ns=1)
        before = path.health(connection.cdn, pool).unanswered
        with path.counting(connection.cdn) as counted:
            assert cdns_of(connection) == {connection.cdn}
        assert counted["rebound"] == OTHERS
        assert "new_flows" not in counted, "it is no new one"
        health = path.health(connection.cdn, pool)
        assert (health.unanswered, health.last_new_flow_ns) == (before, 1), "nor a connect"

    def test_on_another_port_of_ours(self, connection: Connection) -> None:
        moved = connection.moved()
        moved.say()
        assert moved.snat != connection.snat
        assert moved.half_open is not None
        assert moved.half_open.flags & FlowFlag.REBOUND
        assert (to(moved), to(connection)) == (moved.client, connection.client)
        moved.hear()
        moved.say()
        assert moved.established is None, "the id was told to the other address"
        assert moved.datagrams is not None

    def test_an_id_that_is_not_ones_own_diverts_nothing(self, connection: Connection, service: str) -> None:
        spoofer = connection.moved(CLIENTS[service][1])
        spoofer.say()
        assert spoofer.cdn == connection.cdn
        assert spoofer.snat != connection.snat
        assert (to(spoofer), to(connection)) == (spoofer.client, connection.client)
        assert connection.say().verdict is Verdict.FORWARDED
        assert to(connection) == connection.client
        again = connection.moved()
        again.say()
        assert again.cdn == connection.cdn

    @pytest.mark.parametrize("length", range(4, 21))
    def test_whatever_the_length_of_its_id(self, path: DataPath, length: int) -> None:
        connection = Connection(path, id_length=length).open()
        assert connection.heard.id_lengths == 1 << length
        assert cdns_of(connection, 10) == {connection.cdn}

    def test_servers_with_ids_of_different_lengths(self, path: DataPath) -> None:
        connections = [Connection(path, id_length=length).open() for length in (4, 8, 12, 20)]
        assert connections[0].heard.id_lengths == 1 << 4 | 1 << 8 | 1 << 12 | 1 << 20
        for connection in connections:
            assert cdns_of(connection, 10) == {connection.cdn}

    def test_before_its_client_has_repeated_the_id(self, path: DataPath) -> None:
        connection = Connection(path)
        connection.ask()
        connection.answer()
        for _ in range(10):
            moved = connection.moved()
            moved.finish()
            assert moved.cdn == connection.cdn
            moved.answer(Kind.HANDSHAKE)
            moved.finish()
            assert moved.established is not None
            assert moved.knows()

    def test_when_the_edge_has_forgotten_the_flow(self, connection: Connection) -> None:
        tables = connection.path.tables
        for _ in range(10):
            tables.established.delete_all(list(tables.established.keys()))
            before = connection.cdn
            assert connection.say().verdict is Verdict.FORWARDED
            assert connection.cdn == before

    def test_it_is_not_rescued(self, path: DataPath) -> None:
        """The others know nothing of it."""
        path.clock(10**12)
        connection = Connection(path).open()
        moved = connection.moved()
        moved.say()
        for ms in (300, 2000, 4000):
            path.clock(10**12 + ms * MS)
            moved.say()
            moved.ask()
            assert moved.cdn == connection.cdn

    def test_what_it_takes_to_answer_is_no_handshake(self, connection: Connection) -> None:
        moved = connection.moved()
        moved.say()
        with connection.path.counting(connection.cdn) as counted:
            moved.hear()
        assert "handshakes" not in counted

    def test_an_id_is_of_one_service(self, path: DataPath) -> None:
        learn(path, "quic6")
        connection = Connection(path).open()
        others = [connection.moved(CLIENTS["quic6"][0]) for _ in range(OTHERS)]
        for other in others:
            other.service = ("2001:db8:203::80", 443)
            other.say()
        assert {other.cdn for other in others} == set(CDNS)


class TestNotKept:
    def test_an_id_that_nobody_named(self, path: DataPath) -> None:
        learn(path)
        before = {cdn: path.totals(cdn) for cdn in CDNS}
        strangers = [Connection(path) for _ in range(OTHERS)]
        for stranger in strangers:
            assert stranger.say().verdict is Verdict.FORWARDED
        assert {stranger.cdn for stranger in strangers} == set(CDNS)
        after = {cdn: path.totals(cdn) for cdn in CDNS}
        assert sum(after[cdn].ids_unknown - before[cdn].ids_unknown for cdn in CDNS) == OTHERS
        assert sum(after[cdn].rebound - before[cdn].rebound for cdn in CDNS) == 0
        assert [path.health(cdn, abi.Pool.UDP4).unanswered for cdn in CDNS] == [0, 0, 0], (
            "nobody has to answer what comes in the middle of a connection"
        )

    def test_an_id_of_no_length(self, path: DataPath) -> None:
        connection = Connection(path, id_length=0)
        connection.ask()
        with path.counting(connection.cdn) as counted:
            connection.answer()
            connection.answer(Kind.HANDSHAKE)
            connection.finish()
            connection.answer(Kind.HANDSHAKE)
        assert counted["ids_hidden"] == counted["promoted"] == 1
        assert "ids_learned" not in counted
        assert connection.established is None, "to repeat nothing is no proof"
        assert connection.datagrams is not None
        assert connection.heard.id_lengths == 1
        assert cdns_of(connection) == set(CDNS)

    def test_an_endpoint_that_has_gone_dark(self, connection: Connection) -> None:
        path, pool = connection.path, connection.pool
        path.change_health(
            connection.cdn, pool, state=Breaker.OUT, reason=OutReason.DARK, out_until_ns=1 << 62
        )
        assert cdns_of(connection) == set(CDNS) - {connection.cdn}

    def test_but_one_that_is_slow_stays(self, connection: Connection) -> None:
        path, pool = connection.path, connection.pool
        path.change_health(
            connection.cdn, pool, state=Breaker.OUT, reason=OutReason.SLOW, out_until_ns=1 << 62
        )
        assert cdns_of(connection) == {connection.cdn}

    def test_and_when_disarmed_any(self, connection: Connection) -> None:
        path, pool = connection.path, connection.pool
        path.change_health(
            connection.cdn, pool, state=Breaker.OUT, reason=OutReason.DARK, out_until_ns=1 << 62
        )
        path.tables.mode = abi.Mode.DISARMED
        assert cdns_of(connection) == {connection.cdn}

    def test_an_endpoint_that_serves_the_service_no_more(self, connection: Connection) -> None:
        services = connection.path.map("services")
        key = abi.key(connection.service_id)
        held = services.get(key) or b""
        entry = abi.Service.from_buffer_copy(held)
        gone = connection.path.endpoint_id(connection.cdn, connection.pool)
        assert entry.members[gone // 64] & 1 << gone % 64
        entry.members[gone // 64] &= ~(1 << gone % 64)
        services.put(key, bytes(entry))
        try:
            assert cdns_of(connection) == set(CDNS)
        finally:
            services.put(key, held)

    def test_an_endpoint_whose_number_another_has_now(self, connection: Connection) -> None:
        connection.path.change_endpoint(connection.cdn, connection.pool, port=abi.port(9999))
        moved = [connection.moved() for _ in range(OTHERS)]
        went = {Ends(each.path.run(datagram(each.client, each.service, short_header(each.its))).frame).target
                for each in moved}  # fmt: skip
        assert len(went) == len(CDNS)

    def test_when_nothing_was_named_yet(self, path: DataPath, service: str) -> None:
        strangers = [Connection(path, service) for _ in range(OTHERS)]
        for stranger in strangers:
            stranger.say()
        assert {stranger.cdn for stranger in strangers} == set(CDNS)
