"""Siege: who opens a TCP connection proves first that he is where he says."""

from __future__ import annotations

import random
import struct
from ipaddress import ip_network

import pytest
from blocking import Guarded, Names
from harness import SERVICES, TRUST_NS, VIP, Action, DataPath, Runner, Seen
from netbox import CLIENTS
from scapy.compat import raw
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from segments import Flag, seal, segment
from session import CLIENT, CLIENT6, Datagrams, Session
from shielded import SECOND_MS, Shielded, challenge_in, proof, shielded
from steps import dropped, untouched, verdict_of
from table import up

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Budget, Level, Mode, Verdict
from cdnctl.datapath.clients import Client

BOTH = pytest.mark.parametrize(("client", "service"), [(CLIENT, "solo"), (CLIENT6, "solo6")])
OPTIONS = [("MSS", 1380), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)]


@pytest.fixture
def siege(path: DataPath) -> Shielded:
    """Without budgets."""
    made = shielded(path)
    made.level(Level.SIEGE)
    return made


def challenged(seen: Seen) -> int:
    """The number in the challenge."""
    verdict_of(seen, Verdict.CHALLENGED, Action.TX)
    return challenge_in(seen)


def proved(seen: Seen) -> None:
    """It was consumed."""
    verdict_of(seen, Verdict.PROVED, Action.DROP)


# -- SipHash-2-4, from its paper, for a second opinion --


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & 0xFFFF_FFFF_FFFF_FFFF


def _rounds(v: list[int], count: int) -> None:
    mask = 0xFFFF_FFFF_FFFF_FFFF
    for _ in range(count):
        v[0] = (v[0] + v[1]) & mask
        v[1] = _rotate(v[1], 13) ^ v[0]
        v[0] = _rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & mask
        v[3] = _rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & mask
        v[3] = _rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & mask
        v[1] = _rotate(v[1], 17) ^ v[2]
        v[2] = _rotate(v[2], 32)


def siphash(key: bytes, message: bytes) -> int:
    """64 bits."""
    k = struct.unpack("<2Q", key)
    v = [
        k[0] ^ 0x736F6D6570736575,
        k[1] ^ 0x646F72616E646F6D,
        k[0] ^ 0x6C7967656E657261,
        k[1] ^ 0x7465646279746573,
    ]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        _rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    _rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_second_opinion_is_siphash() -> None:
    """By the vector of the paper's appendix."""
    assert siphash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


class TestCookie:
    @BOTH
    def test_it_is_siphash_of_both_ends(self, siege: Shielded, client: str, service: str) -> None:
        session, seen = siege.syn(client, service)
        shield, ports = siege.path.tables.shield.now, (session.client[1], session.service[1])
        key = struct.pack("<2Q", *shield.key[shield.key_now])
        ends = struct.pack("!2H", *ports) + struct.pack("<HH", siege.path.layout.vips[session.service[0]], 0)
        hashed = siphash(key, abi.packed(client) + ends) & 0xFFFF_FFFF
        assert challenged(seen) == int.from_bytes(struct.pack("<I", hashed), "big")

    def test_others_have_others(self, siege: Shielded) -> None:
        numbers = {challenged(siege.syn(f"10.1.0.{n}")[1]) for n in range(1, 65)}
        assert len(numbers) == 64

    def test_one_key_back_it_is_good_and_two_keys_back_it_is_not(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        number = challenged(seen)
        siege.path.tables.shield.change_key()
        assert challenged(session.syn()) != number
        proved(proof(session, number))
        other, seen = siege.syn("10.9.0.1")
        number = challenged(seen)
        siege.path.tables.shield.change_key()
        siege.path.tables.shield.change_key()
        dropped(proof(other, number), Verdict.UNKNOWN_FLOW)
        assert siege.verified() == {CLIENT}


class TestTheAnswer:
    """Every byte, as scapy has it."""

    @BOTH
    @pytest.mark.parametrize("options", [[], OPTIONS], ids=["none", "as Linux"])
    def test_it_is_an_ack_of_our_own(
        self, siege: Shielded, client: str, service: str, options: list[tuple[str, object]]
    ) -> None:
        session = Session(siege.path, service, client=client)
        packet = up("S", options=options)(session)
        seen = siege.path.run(raw(packet))
        number = challenged(seen)
        layer: type[IP] | type[IPv6] = IPv6 if ":" in client else IP
        ends = {"src": packet[layer].dst, "dst": packet[layer].src}
        head = IPv6(hlim=64, **ends) if layer is IPv6 else IP(ttl=64, id=0, flags="DF", **ends)
        expected = (
            Ether(src=packet[Ether].dst, dst=packet[Ether].src)
            / head
            / TCP(
                sport=packet[TCP].dport,
                dport=packet[TCP].sport,
                flags="A",
                seq=0,
                ack=number,
                window=0,
            )
        )
        assert seen.frame == raw(expected)
        assert len(seen.frame) <= len(seen.sent), "nothing is to be had by reflecting"

    @pytest.mark.parametrize("source", ["224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "ff02::1"])
    def test_nobody_who_is_no_single_host_gets_one(self, siege: Shielded, source: str) -> None:
        service = "solo6" if ":" in source else "solo"
        dropped(siege.syn(source, service)[1], Verdict.SPOOFED)

    def test_nor_does_a_frame_to_many(self, siege: Shielded) -> None:
        frame = segment(
            (CLIENT, 1234), SERVICES["solo"], Flag.SYN, seq=1, macs=("02:00:00:00:00:09", "ff:ff:ff:ff:ff:ff")
        )
        dropped(siege.path.run(frame), Verdict.UNVERIFIED)

    def test_nor_a_fragment(self, siege: Shielded) -> None:
        packet = up("S", bytes(8))(Session(siege.path))
        packet[IP].flags = "MF"
        dropped(siege.path.run(raw(packet)), Verdict.UNVERIFIED)

    def test_a_flood_gets_as_many(self, siege: Shielded) -> None:
        frame = segment((CLIENT, 1234), SERVICES["solo"], Flag.SYN, seq=1)
        runner = Runner(siege.path.fd, len(frame), siege.path.indexes[CLIENTS])
        for n in range(3000):  # other answers are limited to a thousand
            runner.frame.raw = frame
            struct.pack_into("!I", runner.frame, 26, 0x0B00_0000 + n)
            seal(runner.frame)
            assert runner.run() == Action.TX


class TestProof:
    @BOTH
    def test_with_it_a_client_gets_in(self, siege: Shielded, client: str, service: str) -> None:
        session, seen = siege.syn(client, service)
        number = challenged(seen)
        assert session.half_open is None, "it costs no memory before"
        proved(proof(session, number))
        session.open()
        Session(siege.path, service, client=client).open()  # and again, from another port, at once

    def test_windows_may_acknowledge_in_its_reset(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        proved(proof(session, challenged(seen), Flag.RST | Flag.ACK))

    @pytest.mark.parametrize("off", [1, -1, 1 << 31, 0x0100_0000])
    def test_another_number_proves_nothing(self, siege: Shielded, off: int) -> None:
        session, seen = siege.syn()
        dropped(proof(session, challenged(seen) + off & 0xFFFF_FFFF), Verdict.UNKNOWN_FLOW)
        assert not siege.verified()
        challenged(session.syn())

    def test_nor_does_it_for_another_port_or_address(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        number = challenged(seen)
        for thief in (
            Session(siege.path, client=CLIENT),
            Session(siege.path, client="10.1.0.8", port=session.client[1]),
            Session(siege.path, "duo", client=CLIENT, port=session.client[1]),
        ):
            dropped(proof(thief, number), Verdict.UNKNOWN_FLOW)
        assert not siege.verified()

    def test_it_is_good_for_its_time(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        proved(proof(session, challenged(seen)))
        siege.clock.sleep(TRUST_NS / 1e6 - 1)
        assert siege.opens() is Verdict.FORWARDED
        siege.clock.sleep(2)
        assert siege.opens() is Verdict.CHALLENGED

    def test_of_ipv6_a_64_is_verified(self, siege: Shielded) -> None:
        session, seen = siege.syn("2001:db8:c1::7", "solo6")
        proved(proof(session, challenged(seen)))
        assert siege.opens("2001:db8:c1::dead:beef", "solo6") is Verdict.FORWARDED
        assert siege.opens("2001:db8:c1:1::7", "solo6") is Verdict.CHALLENGED

    @pytest.mark.parametrize("level", [Level.CALM, Level.BUSY, Level.SHEDDING])
    def test_below_siege_nobody_is_asked(self, siege: Shielded, level: Level) -> None:
        session, seen = siege.syn()
        number = challenged(seen)
        siege.level(level)
        assert siege.opens() is Verdict.FORWARDED
        dropped(proof(session, number), Verdict.UNKNOWN_FLOW)


class TestWhoIsNotAsked:
    def test_flows_under_way(self, path: DataPath) -> None:
        session, made = Session(path).open(), shielded(path)
        made.level(Level.SIEGE)
        assert session.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.FORWARDED
        assert session.down(Flag.ACK, payload=b"200").verdict is Verdict.REPLIED
        session.close()

    def test_who_is_in_its_handshake_when_it_begins(self, path: DataPath) -> None:
        session, made = Session(path), shielded(path)
        session.syn()
        session.syn_ack()
        made.level(Level.SIEGE)
        assert session.ack().verdict is Verdict.FORWARDED
        assert session.established

    def test_who_has_finished_a_handshake_of_late(self, path: DataPath) -> None:
        made = shielded(path)
        Session(path, client=CLIENT).open()
        made.level(Level.SIEGE)
        assert made.verified() == {CLIENT}
        assert made.opens() is Verdict.FORWARDED

    def test_who_is_allowed(self, siege: Shielded) -> None:
        siege.path.tables.clients.load({ip_network("10.1.0.0/24"): Client(flags=abi.ClientFlag.ALLOWED)})
        assert siege.opens() is Verdict.FORWARDED
        assert siege.opens("10.1.1.1") is Verdict.CHALLENGED

    def test_udp(self, siege: Shielded) -> None:
        Datagrams(siege.path).open()

    @pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.DISARMED | Mode.OBSERVE])
    def test_anybody_when_it_is_disarmed(self, siege: Shielded, mode: Mode) -> None:
        siege.path.tables.mode = mode
        assert siege.opens() is Verdict.FORWARDED

    def test_operators_on_a_port_that_no_service_has(self, siege: Shielded) -> None:
        frame = segment(("192.0.2.7", 40000), (VIP, 22), Flag.SYN, seq=1)
        untouched(siege.path.run(frame))

    def test_and_who_asks_for_such_a_port_is_told(self, siege: Shielded) -> None:
        frame = segment((CLIENT, 40000), (VIP, 22), Flag.SYN, seq=1)
        dropped(siege.path.run(frame), Verdict.NO_SERVICE)

    def test_where_it_only_observes_it_is_counted_and_left(self, siege: Shielded) -> None:
        siege.path.tables.mode = Mode.OBSERVE
        _, seen = siege.syn()
        verdict_of(seen, Verdict.CHALLENGED, Action.PASS)
        assert seen.frame == seen.sent

    def test_who_is_blocked_is_dropped_all_the_same(self, siege: Shielded, at: Names) -> None:
        siege.verify(at.client)
        Guarded(siege.path).block(at.client)
        dropped(siege.syn(at.client, at.service)[1], Verdict.BLOCKED)


class TestSecondTry:
    """Behind a firewall that drops the challenge."""

    @BOTH
    @pytest.mark.parametrize("after_s", [1, 3, 7])
    def test_the_same_syn_after_a_second_gets_in(
        self, siege: Shielded, client: str, service: str, after_s: int
    ) -> None:
        session, seen = siege.syn(client, service)
        challenged(seen)
        siege.clock.sleep(after_s * SECOND_MS)
        session.open()
        assert siege.verified(), "its handshake is a proof"

    def test_before_it_does_not(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        for _ in range(8):
            challenged(seen)
            siege.clock.sleep(100)
            seen = session.syn()
        challenged(seen)
        siege.clock.sleep(150)
        assert session.syn().verdict is Verdict.FORWARDED, "counted from the first one"

    def test_nor_with_another_number_or_from_another_port(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        challenged(seen)
        siege.clock.sleep(SECOND_MS)
        challenged(Session(siege.path, client=CLIENT, port=session.client[1], isn=session.isn + 1).syn())
        challenged(Session(siege.path, client=CLIENT, isn=session.isn).syn())
        challenged(Session(siege.path, client="10.1.0.8", port=session.client[1], isn=session.isn).syn())

    def test_nor_when_it_was_long_ago(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        challenged(seen)
        siege.clock.sleep(9 * SECOND_MS)
        challenged(session.syn())

    def test_within_the_budgets_of_the_unverified(self, siege: Shielded) -> None:
        siege.level(Level.SIEGE, {Budget.NETWORK: 10}, burst_ms=200)
        sessions = [siege.syn(f"10.1.0.{n + 1}")[0] for n in range(20)]
        other = siege.syn("10.1.1.1")[0]
        siege.clock.sleep(SECOND_MS)
        seen = [session.syn().verdict for session in sessions]
        assert seen == [Verdict.FORWARDED] * 3 + [Verdict.SHED_NETWORK] * 17
        assert other.syn().verdict is Verdict.FORWARDED, "a noisy network starves only itself"

    def test_a_flood_does_not_make_it_forget(self, siege: Shielded) -> None:
        session, seen = siege.syn()
        challenged(seen)
        flood(siege, 50_000)
        siege.clock.sleep(SECOND_MS)
        assert session.syn().verdict is Verdict.FORWARDED


def flood(siege: Shielded, count: int, flags: Flag = Flag.SYN) -> set[int]:
    """So many segments, each from an address and with numbers of its own; what XDP did with them."""
    frame = segment((CLIENT, 1234), SERVICES["solo"], flags, seq=1, ack=1)
    runner, chance = Runner(siege.path.fd, len(frame), siege.path.indexes[CLIENTS]), random.Random(5)
    actions = set()
    for _ in range(count):
        runner.frame.raw = frame
        struct.pack_into("!I", runner.frame, 26, chance.randrange(0x0B00_0000, 0x1000_0000))
        struct.pack_into("!II", runner.frame, 38, chance.getrandbits(32), chance.getrandbits(32))
        actions.add(runner.run())
    return actions


class TestFlood:
    def test_of_spoofed_syns_no_cdn_hears_and_nothing_is_evicted(self, siege: Shielded) -> None:
        siege.level(Level.CALM)
        sessions = [Session(siege.path, client=f"10.2.{n}.1").open() for n in range(32)]
        siege.level(Level.SIEGE)
        verified = siege.verified()
        assert flood(siege, 20_000) == {Action.TX}, "not one was redirected to a CDN"
        assert len(list(siege.path.tables.half_open.keys())) == 0
        assert siege.verified() == verified
        for session in sessions:
            assert session.up(Flag.ACK, payload=b"GET").verdict is Verdict.FORWARDED

    @pytest.mark.parametrize("flags", [Flag.SYN | Flag.ACK, Flag.ACK, Flag.RST])
    def test_of_other_segments_promotes_and_verifies_nothing(self, siege: Shielded, flags: Flag) -> None:
        flood(siege, 10_000, flags)
        tables = siege.path.tables
        assert not list(tables.established.keys())
        assert not list(tables.half_open.keys())
        assert not siege.verified()

    def test_a_direct_return_proves_nothing(self, siege: Shielded) -> None:
        """The SYN-ACK does not come by here: the acknowledgement of one who never got it looks the same."""
        siege.level(Level.CALM)
        siege.path.change_endpoint("aurora", transport=abi.Transport.IPIP)
        session = Session(siege.path, client="10.8.8.8")
        session.up(Flag.SYN, seq=session.isn)
        session.up(Flag.ACK, ack=12345)
        assert session.established
        assert not siege.verified()


def test_a_reset_of_a_handshake_still_ends_it(siege: Shielded) -> None:
    siege.verify(CLIENT)
    session, seen = siege.syn()
    assert seen.verdict is Verdict.FORWARDED
    verdict_of(session.up(Flag.RST, seq=session.isn + 1), Verdict.FORWARDED, Action.REDIRECT)
    assert session.slot.state == abi.SlotState.CLOSING
