"""The block list as packets meet it."""

from __future__ import annotations

import errno
import os
import threading
import time
from ipaddress import IPv4Address, IPv4Network

import pytest
from harness import SNAT, VIP, Action, DataPath, Seen
from hypothesis import given
from hypothesis import strategies as st
from netbox import CLIENTS
from segments import Flag, segment
from session import Session

from cdnctl.datapath import abi, kernel, panic
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.blocks import Bits, KernelBlocks
from cdnctl.datapath.kernel import Map
from cdnctl.defence.blocklist import Blocklist, Delta
from cdnctl.model import Block

HOUR_NS = 3_600_000_000_000
ELSEWHERE = "198.18.0.1"


class Guarded:
    """Wanted blocks and the kernel's, joined as the engine joins them."""

    def __init__(self, path: DataPath) -> None:
        self.path = path
        self.wanted = Blocklist()

    def block(self, prefix: str, lifetime_ns: int = 0, source: str = "manual") -> None:
        now = time.time_ns()
        ends = now + lifetime_ns if lifetime_ns else 0
        self.write(
            self.wanted.add(Block(prefix=prefix, source=source, created_ns=now, expires_ns=ends)), bump=True
        )

    def unblock(self, prefix: str, source: str = "manual") -> None:
        self.write(self.wanted.remove(prefix, source), bump=True)

    def write(self, delta: Delta, *, bump: bool) -> None:
        for prefix in delta.removed:
            self.path.blocks.remove(prefix)
        written = {**delta.changed, **delta.added}
        freed = [self.path.blocks.put(prefix, expires_ns) for prefix, expires_ns in written.items()]
        if bump and any(freed):
            self.path.tables.bump_generation()

    def expire_now(self, prefix: str) -> None:
        """Its time is over in the kernel; nobody tells the agent."""
        network = IPv4Network(prefix)
        self.path.blocks.put(network, 1)
        assert self.held(prefix)

    def held(self, prefix: str) -> bool:
        """Does the kernel have exactly this one?"""
        network = IPv4Network(prefix)
        if network.prefixlen == 32:
            return self.path.map("block_exact").get(network.network_address.packed) is not None
        keys = set(self.path.map("block_prefix").keys())
        return network.prefixlen.to_bytes(4, "little") + network.network_address.packed in keys


@pytest.fixture
def guarded(path: DataPath) -> Guarded:
    return Guarded(path)


def packet(path: DataPath, source: str, target: tuple[str, int] = (ELSEWHERE, 9)) -> Seen:
    """A SYN to a host that is none of ours, or to another target."""
    return path.run(segment((source, 40000), target, Flag.SYN))


def is_blocked(path: DataPath, source: str) -> bool:
    """Judged by a packet that leaves no state."""
    seen = packet(path, source)
    assert seen.verdict in (Verdict.BLOCKED, Verdict.PASSED), seen
    assert seen.action == (Action.DROP if seen.verdict is Verdict.BLOCKED else Action.PASS), seen
    return seen.verdict is Verdict.BLOCKED


# -- what a prefix covers --


@pytest.mark.parametrize(
    "prefix",
    [
        "10.9.8.7/32",
        "10.9.8.6/31",
        "10.9.8.128/25",
        "10.9.8.0/24",
        "10.9.8.0/23",
        "10.9.0.0/16",
        "10.8.0.0/13",
        "10.0.0.0/8",
    ],
)
def test_a_prefix_blocks_what_is_in_it_and_nothing_else(guarded: Guarded, prefix: str) -> None:
    network = IPv4Network(prefix)
    guarded.block(prefix)
    first, last = network.network_address, network.broadcast_address
    assert is_blocked(guarded.path, str(first))
    assert is_blocked(guarded.path, str(last))
    assert not is_blocked(guarded.path, str(first - 1))
    assert not is_blocked(guarded.path, str(last + 1))
    guarded.unblock(prefix)
    assert not is_blocked(guarded.path, str(first))
    assert not guarded.held(prefix)


def test_a_slash_24_without_a_mark_looks_at_no_table(guarded: Guarded) -> None:
    entry = bytes(abi.Block(length=32))
    guarded.path.map("block_exact").put(IPv4Address("10.1.2.3").packed, entry)
    try:
        assert not is_blocked(guarded.path, "10.1.2.3")
        guarded.block("10.1.2.4")  # marks the /24
        assert is_blocked(guarded.path, "10.1.2.3")
    finally:
        guarded.path.map("block_exact").delete(IPv4Address("10.1.2.3").packed)


def test_one_of_two_in_a_slash_24_stays(guarded: Guarded) -> None:
    for prefix in ("10.1.2.3", "10.1.2.4", "10.1.2.128/25", "10.1.2.0/26"):
        guarded.block(prefix)
    guarded.unblock("10.1.2.3")
    guarded.unblock("10.1.2.0/26")
    assert [is_blocked(guarded.path, f"10.1.2.{n}") for n in (3, 4, 9, 130)] == [False, True, False, True]


def test_hits_are_counted_by_sample(guarded: Guarded) -> None:
    guarded.block("10.1.2.0/24")
    frame = segment(("10.1.2.3", 1), (VIP, 80), Flag.SYN)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        for _ in range(640):
            kernel.test_run(guarded.path.fd, frame, ifindex=guarded.path.indexes[CLIENTS])
    finally:
        os.sched_setaffinity(0, cpus)
    assert abs(guarded.path.blocks.hits(IPv4Network("10.1.2.0/24")) - 640) <= 128


# -- lifetimes --


@pytest.mark.parametrize("prefix", ["10.1.2.3/32", "10.1.2.0/24"])
def test_a_block_ends_on_time_with_nobody_there_to_lift_it(guarded: Guarded, prefix: str) -> None:
    guarded.block(prefix, lifetime_ns=150_000_000)
    assert is_blocked(guarded.path, "10.1.2.3")
    time.sleep(0.17)
    assert not is_blocked(guarded.path, "10.1.2.3")
    assert not guarded.held(prefix)


def test_an_expired_prefix_does_not_unblock_the_one_around_it(guarded: Guarded) -> None:
    guarded.block("10.1.0.0/16")
    guarded.block("10.1.2.0/24", HOUR_NS)
    guarded.expire_now("10.1.2.0/24")
    assert is_blocked(guarded.path, "10.1.2.3")
    assert not guarded.held("10.1.2.0/24")
    assert guarded.held("10.1.0.0/16")


def test_four_expired_prefixes_in_a_row_do_not_either(guarded: Guarded) -> None:
    inner = ["10.1.2.0/24", "10.1.2.0/25", "10.1.2.0/26", "10.1.2.0/27"]
    for prefix in ["10.1.0.0/16", *inner]:
        guarded.block(prefix, HOUR_NS)
    for prefix in inner:
        guarded.expire_now(prefix)
    assert is_blocked(guarded.path, "10.1.2.3"), "not even one packet may get through"
    assert not any(map(guarded.held, inner))


def test_an_expired_address_does_not_unblock_the_prefix_around_it(guarded: Guarded) -> None:
    guarded.block("10.1.2.0/24")
    guarded.block("10.1.2.3", HOUR_NS)
    guarded.expire_now("10.1.2.3/32")
    assert is_blocked(guarded.path, "10.1.2.3")
    assert not guarded.held("10.1.2.3/32")


def test_what_the_kernel_expired_can_be_blocked_again(guarded: Guarded) -> None:
    guarded.block("10.1.2.0/24", 1)
    time.sleep(0.01)
    assert not is_blocked(guarded.path, "10.1.2.3")
    guarded.block("10.1.2.0/24", HOUR_NS)
    assert is_blocked(guarded.path, "10.1.2.3")


def test_a_renewal_after_the_end_cuts_what_got_in_between(guarded: Guarded) -> None:
    """The kernel ended it before the agent's clock said so; for the agent it is only a renewal."""
    session = Session(guarded.path)
    guarded.block(session.client[0], HOUR_NS)
    guarded.expire_now(f"{session.client[0]}/32")
    session.open()
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    guarded.block(session.client[0], 2 * HOUR_NS)
    assert session.up(Flag.ACK).verdict is Verdict.BLOCKED


# -- what the kernel holds --


def test_the_count_is_of_what_the_kernel_enforces(guarded: Guarded) -> None:
    guarded.block("10.1.2.3")
    guarded.block("10.1.2.4", HOUR_NS)
    guarded.block("10.1.3.0/24", 40_000_000)
    assert guarded.path.blocks.count() == 3
    time.sleep(0.05)
    assert guarded.path.blocks.count() == 2
    guarded.block("10.1.3.0/24", HOUR_NS)
    assert guarded.path.blocks.count() == 3
    guarded.unblock("10.1.3.0/24")
    guarded.unblock("10.1.2.4")
    assert guarded.path.blocks.count() == 1


def test_a_full_table_refuses_and_changes_nothing(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.block("10.1.2.3", HOUR_NS)
    before = bytes(guarded.path.map("block_bits").memory())

    def full(table: Map, key: bytes, value: bytes) -> None:
        raise OSError(errno.E2BIG, "bpf_map_update_elem")

    monkeypatch.setattr(Map, "put", full)
    for prefix in ("10.1.2.3/32", "10.1.2.4/32", "10.2.0.0/16", "10.2.0.0/24"):
        with pytest.raises(OSError, match="bpf_map_update_elem"):
            guarded.path.blocks.put(IPv4Network(prefix), 0)
    monkeypatch.undo()
    assert bytes(guarded.path.map("block_bits").memory()) == before
    assert guarded.path.blocks.count() == 1
    assert is_blocked(guarded.path, "10.1.2.3")


# -- an agent that starts again --


def test_what_stays_blocked_is_blocked_at_every_moment_of_a_restart(guarded: Guarded) -> None:
    """Packets all through several starts, which each find other lists before them."""
    staying = {IPv4Network("10.1.2.3/32"): 0, IPv4Network("10.2.0.0/16"): time.time_ns() + HOUR_NS}
    inner = IPv4Network("10.2.3.0/24")
    many = {IPv4Network((0x0A300000 + n, 32)): 0 for n in range(2000)}
    guarded.path.blocks.load(staying)
    frames = [segment((source, 1), (ELSEWHERE, 9), Flag.SYN) for source in ("10.1.2.3", "10.2.3.4")]
    ifindex, through, runs, over = guarded.path.indexes[CLIENTS], 0, 0, threading.Event()

    def send() -> None:
        nonlocal through, runs
        while not over.is_set():
            for frame in frames:
                through += kernel.test_run(guarded.path.fd, frame, ifindex=ifindex).action != Action.DROP
                runs += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for extra in (many, {inner: 0}, {}, many, {inner: 0}):
            guarded.path.blocks = KernelBlocks(guarded.path.program.pins)
            guarded.path.blocks.load({**staying, **extra})
    finally:
        over.set()
        thread.join()
    assert runs > 200
    assert through == 0
    assert not is_blocked(guarded.path, "10.48.0.1"), "what left the list is free"
    assert guarded.path.blocks.count() == 3


def test_a_start_keeps_hits_and_finds_room_that_the_stale_take_up(guarded: Guarded) -> None:
    room = guarded.path.config.limits.block_entries
    kept, hits = IPv4Network("10.1.2.3/32"), 77
    guarded.path.blocks.load({kept: 0, **{IPv4Network((0x0A300000 + n, 32)): 0 for n in range(room - 1)}})
    guarded.path.map("block_exact").put(kept.network_address.packed, bytes(abi.Block(hits=hits, length=32)))
    guarded.path.blocks.load({kept: 0, **{IPv4Network((0x0A400000 + n, 32)): 0 for n in range(room - 1)}})
    assert guarded.path.blocks.hits(kept) == hits
    assert guarded.path.blocks.count() == room
    assert is_blocked(guarded.path, "10.64.0.1")
    assert not is_blocked(guarded.path, "10.48.0.1")


# -- several sources --


def test_a_prefix_two_sources_want_is_blocked_until_both_let_go(guarded: Guarded) -> None:
    guarded.block("10.1.2.0/24", HOUR_NS)
    guarded.block("10.1.2.0/24", 2 * HOUR_NS, source="feed")
    guarded.unblock("10.1.2.0/24")
    assert is_blocked(guarded.path, "10.1.2.3")
    guarded.unblock("10.1.2.0/24", source="feed")
    assert not is_blocked(guarded.path, "10.1.2.3")


def test_the_longest_lifetime_holds_in_the_kernel(guarded: Guarded) -> None:
    guarded.block("10.1.2.0/24", HOUR_NS)
    guarded.block("10.1.2.0/24", 40_000_000, source="feed")
    time.sleep(0.06)
    assert is_blocked(guarded.path, "10.1.2.3"), "the shorter one of another source must not end it"
    guarded.unblock("10.1.2.0/24")
    assert not is_blocked(guarded.path, "10.1.2.3"), "what is left ended long ago"


# -- live flows --


def test_a_block_cuts_a_live_session_both_ways_and_unblock_mends_it(guarded: Guarded) -> None:
    session = Session(guarded.path).open()
    guarded.block("10.1.0.0/24")
    for _ in range(2):
        assert session.up(Flag.ACK).verdict is Verdict.BLOCKED
        assert session.down(Flag.ACK, payload=b"x").verdict is Verdict.BLOCKED
    guarded.unblock("10.1.0.0/24")
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK, payload=b"x").verdict is Verdict.REPLIED


def test_a_block_cuts_a_handshake(guarded: Guarded) -> None:
    session = Session(guarded.path)
    session.syn()
    guarded.block(session.client[0])
    assert session.syn_ack().verdict is Verdict.BLOCKED
    assert session.syn().verdict is Verdict.BLOCKED
    assert session.ack().verdict is Verdict.BLOCKED


def test_a_block_stops_what_belongs_to_no_session(guarded: Guarded) -> None:
    guarded.block("10.1.0.0/24")
    assert Session(guarded.path).syn().verdict is Verdict.BLOCKED
    assert Session(guarded.path).up(Flag.ACK).verdict is Verdict.BLOCKED  # no reset for it either
    assert not list(guarded.path.tables.half_open.keys())


def test_a_steady_flow_asks_again_only_when_the_policy_changed(guarded: Guarded) -> None:
    session = Session(guarded.path).open()
    now = time.time_ns()
    guarded.write(guarded.wanted.add(Block(prefix=session.client[0], created_ns=now)), bump=False)
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    guarded.path.tables.bump_generation()
    assert session.up(Flag.ACK).verdict is Verdict.BLOCKED
    assert session.down(Flag.ACK).verdict is Verdict.BLOCKED


def test_others_sessions_go_on(guarded: Guarded) -> None:
    session = Session(guarded.path, client="10.1.1.7").open()
    guarded.block("10.1.0.0/24")
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK).verdict is Verdict.REPLIED
    assert session.established is not None
    assert session.established.generation == guarded.path.tables.settings.generation
    assert session.slot.generation == guarded.path.tables.settings.generation


# -- the guard --


def test_the_operators_way_in_stays_open(guarded: Guarded) -> None:
    manager = "192.0.2.7"  # in [edge] management
    guarded.block("192.0.2.0/24")
    assert packet(guarded.path, manager, (ELSEWHERE, 22)).verdict is Verdict.PASSED
    assert packet(guarded.path, manager, (SNAT[0], 22)).verdict is Verdict.PASSED
    assert packet(guarded.path, manager, (VIP, 80)).verdict is Verdict.BLOCKED


def test_anybody_elses_does_not(guarded: Guarded) -> None:
    guarded.block("10.1.2.3")
    for target in ((ELSEWHERE, 22), (SNAT[0], 22), (VIP, 80)):
        assert packet(guarded.path, "10.1.2.3", target).verdict is Verdict.BLOCKED


# -- panic --


def test_disarmed_nothing_is_dropped_and_translation_goes_on(guarded: Guarded) -> None:
    edge = guarded.path.config.edge.name
    session = Session(guarded.path).open()
    guarded.block("10.1.0.0/24")
    assert session.up(Flag.ACK).verdict is Verdict.BLOCKED
    panic.disarm(edge)
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK).verdict is Verdict.REPLIED
    later = Session(guarded.path).open()
    assert not is_blocked(guarded.path, "10.1.0.9")
    panic.arm(edge)
    for live in (session, later):
        assert live.up(Flag.ACK).verdict is Verdict.BLOCKED
        assert live.down(Flag.ACK).verdict is Verdict.BLOCKED
    assert is_blocked(guarded.path, "10.1.0.9")


# -- the bits in front --

_networks = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(int(IPv4Address("10.0.0.0")), int(IPv4Address("10.3.255.255"))),
    st.sampled_from([32, 32, 31, 28, 25, 24, 24, 23, 20, 16, 15]),
)


class _Words:
    """Stands for the mmapped array."""

    def __init__(self) -> None:
        self.words = bytearray(8 * abi.BLOCK_WORDS)

    def memory(self) -> bytearray:
        return self.words


_words = _Words()


@pytest.mark.parametrize(
    "around",
    [
        [IPv4Network((0x0A000000 + (n << 8), 24)) for n in range(2000)],
        [IPv4Network("10.0.0.0/8"), *(IPv4Network((0x0A000000 + (n << 12), 24)) for n in range(200))],
    ],
    ids=["2,000 /24", "a /8 with 200 /24 in it"],
)
def test_many_end_at_once_and_nothing_stands_still(around: list[IPv4Network]) -> None:
    _words.words[:] = bytes(len(_words.words))
    bits = Bits(_words)
    for network in around:
        bits.add(network)
    began = time.process_time()
    for network in around:
        bits.remove(network)
    assert time.process_time() - began < 0.05
    assert not any(_words.words)


def test_a_plan_touches_nothing_and_opening_clears_nothing() -> None:
    _words.words[:] = bytes(len(_words.words))
    bits = Bits(_words)
    bits.add(IPv4Network("10.1.0.0/16"))
    before = bytes(_words.words)
    words = bits.plan([IPv4Network("10.1.2.0/24"), IPv4Network("10.9.9.9/32")])
    assert bytes(_words.words) == before
    bits.open_to(words)
    assert all(new & old == old for new, old in zip(_words.words, before, strict=True))
    bits.close_to(words)
    assert bytes(_words.words) == words.tobytes()
    bits.remove(IPv4Network("10.1.2.0/24"))
    bits.remove(IPv4Network("10.9.9.9/32"))
    assert not any(_words.words)


@given(st.lists(st.tuples(st.booleans(), _networks), max_size=25), st.data())
def test_bits_are_those_of_what_is_held(steps: list[tuple[bool, IPv4Network]], data: st.DataObject) -> None:
    _words.words[:] = bytes(len(_words.words))
    bits, held = Bits(_words), set[IPv4Network]()  # type: ignore[arg-type]
    for add, network in steps:
        if add and network not in held:
            bits.add(network)
            held.add(network)
        elif not add and held:
            gone = data.draw(st.sampled_from(sorted(held)))
            bits.remove(gone)
            held.discard(gone)
    first, last = 10 << 16, (10 << 16) + 0x3FF  # 10.0.0.0/24 to 10.3.255.0/24
    expected = dict.fromkeys(range(first, last + 1), 0)
    for network in held:
        low, high = int(network.network_address) >> 8, int(network.broadcast_address) >> 8
        for prefix in range(low, high + 1):
            expected[prefix] |= abi.BLOCK_EXACT if network.prefixlen == 32 else abi.BLOCK_PREFIX
    words = memoryview(_words.words).cast("Q")
    assert {prefix: words[prefix // 32] >> (prefix % 32 * 2) & 3 for prefix in expected} == expected
    region = slice(first // 32 * 8, (last // 32 + 1) * 8)
    assert not any(_words.words[: region.start])
    assert not any(_words.words[region.stop :])
    del words
