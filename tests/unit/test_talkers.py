"""Top talkers: the right names, the right rates, an honest error, bounded memory."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.defence import talkers as module
from cdnctl.defence.talkers import Sample, Talkers


def ip(text: str, offset: int = 0) -> bytes:
    """An address, or one so far from it, as samples have it."""
    address = ip_address(text) + offset
    return bytes(10) + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed


def of(
    source: str, count: int, *, size: int = 100, one_in: int = 1, drop: bool = False, cdn: int = -1
) -> list[Sample]:
    return [(ip(source), size, one_in, drop, cdn)] * count


def filled(batches: list[list[Sample]], lost: int = 0) -> Talkers:
    """Each batch in a half second of its own."""
    talkers = Talkers()
    for number, batch in enumerate(batches, 1):
        talkers.add_batch(batch)
        talkers.roll(number * 0.5, lost)
    return talkers


def test_nothing_is_nothing() -> None:
    assert Talkers().top() == []
    assert filled([[]]).top() == []


def test_rates_of_one_source() -> None:
    (talker,) = filled([of("198.51.100.7", 100, one_in=8, cdn=1)] * 4).top(10, {1: "aurora"})
    assert talker.prefix == "198.51.100.7"
    assert talker.pps == pytest.approx(100 * 8 / 0.5)
    assert talker.bps == pytest.approx(100 * 8 * 100 * 8 / 0.5)
    assert talker.drop_share == 0
    assert talker.cdn == "aurora"
    assert talker.samples == 400
    assert talker.error == pytest.approx(sqrt(400 * 7 / 8) / 400)


def test_every_packet_sampled_is_no_estimate() -> None:
    (talker,) = filled([of("198.51.100.7", 50)]).top()
    assert talker.error == 0


def test_losses_are_made_up_for() -> None:
    (talker,) = filled([of("198.51.100.7", 75)] * 2, lost=25).top()
    assert talker.pps == pytest.approx(200)
    assert talker.samples == 150


def test_the_main_service_counts_dropped_packets_too_and_the_main_cdn_does_not() -> None:
    api, www = module.way(1), module.way(2, 0)
    batch = of("198.51.100.7", 60, drop=True, cdn=api) + of("198.51.100.7", 40, cdn=www | 7)
    (talker,) = filled([batch, of("198.51.100.7", 3)]).top(10, {7: "aurora"}, {1: "api", 2: "www"})
    assert (talker.service, talker.cdn) == ("api", "aurora")
    (stranger,) = filled([of("198.51.100.8", 9)]).top(10, {7: "aurora"}, {1: "api"})
    assert (stranger.service, stranger.cdn) == ("", "")


def test_drops_and_the_main_cdn() -> None:
    batch = of("198.51.100.7", 30, drop=True) + of("198.51.100.7", 60, cdn=2) + of("198.51.100.7", 10, cdn=1)
    (talker,) = filled([batch]).top(10, {1: "aurora", 2: "borealis"})
    assert talker.drop_share == pytest.approx(0.3)
    assert talker.cdn == "borealis"


def test_a_spread_flood_is_one_line_and_a_single_source_beside_it_another() -> None:
    rng = random.Random(1)
    flood: list[Sample] = [(ip("10.66.0.0", rng.randrange(65536)), 60, 64, True, -1) for _ in range(5000)]
    batch = flood + of("10.66.1.1", 1000, one_in=64) + of("10.1.0.1", 500, one_in=64)
    top = filled([batch] * 3).top(3)
    assert [talker.prefix for talker in top] == ["10.66.0.0/16", "10.66.1.1", "10.1.0.1"]
    # What is shown by itself is not counted in its prefix again.
    assert top[0].pps == pytest.approx(5000 * 64 / 0.5, rel=0.01)
    assert top[0].drop_share > 0.99


def test_a_24_stands_for_its_small_sources_only() -> None:
    crowd = [each for n in range(1, 51) for each in of(f"192.0.2.{n}", 4)]
    others = [each for n in range(200) for each in of(f"10.{n}.0.1", 4)]
    top = filled([crowd + others] * 2).top(4)
    assert top[0].prefix == "192.0.2.0/24"
    assert top[0].samples == 400
    assert all("/" not in talker.prefix for talker in top[1:])


def test_remaining_lines_do_not_repeat_what_is_covered() -> None:
    crowd = [each for n in range(1, 51) for each in of(f"192.0.2.{n}", 10)]
    top = filled([crowd + of("10.0.0.1", 2) + of("10.0.0.2", 1)]).top(10)
    assert [talker.prefix for talker in top] == ["192.0.2.0/24", "10.0.0.1", "10.0.0.2"]


def test_what_left_the_window_is_forgotten() -> None:
    talkers = filled([of("198.51.100.7", 50)] * 20)
    assert talkers.top()[0].pps == pytest.approx(100)
    for number in range(21, 31):
        talkers.roll(number * 0.5)
    assert talkers.top() == []


def test_a_source_that_is_dropped_by_now_has_no_cdn() -> None:
    talkers = Talkers(window_s=1.0)
    for number in range(4):
        # A factor that no float holds exactly: taking a bucket away again leaves a trace of it.
        talkers.add_batch(of("198.51.100.7", 70, drop=number > 1, cdn=1))
        talkers.roll(0.5 * number, lost=3)
    (talker,) = talkers.top(10, {1: "aurora"})
    assert talker.drop_share == pytest.approx(1)
    assert talker.cdn == ""


def test_rates_use_the_time_that_passed() -> None:
    """A late round makes a longer bucket, not a higher rate."""
    talkers = filled([of("198.51.100.7", 50)])
    talkers.add_batch(of("198.51.100.7", 250))
    talkers.roll(0.5 + 2.5)
    assert talkers.top()[0].pps == pytest.approx(100)


def test_known_senders_within_their_error() -> None:
    rng = random.Random(7)
    rates = {f"10.0.{n}.{n}": 2000 * (n + 2) for n in range(12)}
    talkers = Talkers()
    for number in range(1, 11):
        batch: list[Sample] = [
            (ip(source), 500, 16, False, 0)
            for source, pps in rates.items()
            for _ in range(sum(rng.random() < 1 / 16 for _ in range(pps // 2)))
        ]
        talkers.add_batch(batch)
        talkers.roll(number * 0.5)
    top = talkers.top(10)
    assert [talker.prefix for talker in top] == sorted(rates, key=rates.__getitem__, reverse=True)[:10]
    for talker in top:
        true = rates[talker.prefix]
        assert abs(talker.pps - true) / true < max(4 * talker.error, 0.02)
        assert abs(talker.pps - true) / true < 0.1


@pytest.mark.parametrize(
    ("spread", "line"), [(64, "2001:db8:5:6::/64"), (80, "2001:db8:5::/48"), (96, "2001:db8::/32")]
)
def test_a_flood_of_ipv6_folds_into_the_narrowest_prefix_that_has_it(spread: int, line: str) -> None:
    rng = random.Random(2)
    flood: list[Sample] = [
        (ip(line.partition("/")[0], rng.getrandbits(spread)), 60, 64, True, -1) for _ in range(5000)
    ]
    batch = flood + of("2001:db8:5:6::7", 1000, one_in=64) + of("2400::1", 500, one_in=64)
    top = filled([batch] * 3).top(3)
    assert [talker.prefix for talker in top] == [line, "2001:db8:5:6::7", "2400::1"]
    assert top[0].pps == pytest.approx(5000 * 64 / 0.5, rel=0.01)


def test_hosts_of_one_subnet_and_what_is_left_around_them() -> None:
    """A busy /64 in a busy /48 in a busy /32: a line each, of what the finer ones leave."""
    rng = random.Random(3)
    crowds = [("2001:db8:5:6::", 64, 3000), ("2001:db8:5::", 80, 2000), ("2001:db8::", 96, 1000)]
    batch: list[Sample] = [
        (ip(around, rng.getrandbits(bits)), 60, 1, False, 0)
        for around, bits, count in crowds
        for _ in range(count)
    ]
    top = filled([batch]).top(3)
    assert [talker.prefix for talker in top] == ["2001:db8:5:6::/64", "2001:db8:5::/48", "2001:db8::/32"]
    assert [talker.samples for talker in top] == [3000, 2000, 1000]


def test_the_families_do_not_mix() -> None:
    """IPv4 lies in ::/32, as the kernel has it; nothing of it is counted there."""
    four: list[Sample] = [(ip("192.0.2.0", n), 60, 1, True, -1) for n in range(200)]
    six: list[Sample] = [(ip("::1:0:0", n), 60, 1, False, -1) for n in range(200)]
    top = filled([four + six]).top(2)
    assert {(talker.prefix, talker.samples) for talker in top} == {("192.0.2.0/24", 200), ("::/64", 200)}


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (lambda n: ip("10.66.0.0", n * 13), "10.66.0.0/16"),
        (lambda n: ip("10.66.1.0", n % 256), "10.66.1.0/24"),
        (lambda n: ip("2001:db8:5:6::", n), "2001:db8:5:6::/64"),
        (lambda n: ip("2001:db8:5::", n << 64), "2001:db8:5::/48"),
        (lambda n: ip("2001:db8::", n << 80), "2001:db8::/32"),
    ],
)
def test_memory_is_bounded_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, source: Callable[[int], bytes], line: str
) -> None:
    monkeypatch.setattr(module, "ROOM", 100)
    batch: list[Sample] = [(source(n), 60, 1, True, -1) for n in range(5000)]
    talkers = Talkers()
    talkers.add_batch(batch)
    assert all(len(level) <= 100 for level in talkers._open.values())
    talkers.roll(0.5)
    (talker, *_) = talkers.top()
    assert talker.prefix == line
    assert talker.pps == pytest.approx(5000 / 0.5)


def test_a_flood_from_everywhere_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 100)
    rng = random.Random(4)
    talkers = Talkers()
    talkers.add_batch([(rng.randbytes(16), 60, 1, True, -1) for _ in range(5000)])
    talkers.add_batch(of("198.51.100.7", 5000))
    talkers.roll(0.5)
    assert sum(len(level) for level in talkers._sums.values()) <= 11 * 100
    (talker, *_) = talkers.top()
    assert talker.prefix == "198.51.100.0/24", "there was no room for itself"
    assert talker.pps == pytest.approx(5000 / 0.5)


KNOWN = [
    *("10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "192.0.2.1"),
    *("::1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:1::1", "2400::1"),
]
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from([ip(text) for text in KNOWN]),
        st.integers(60, 1500),
        st.sampled_from([1, 4, 64]),
        st.booleans(),
        st.integers(-1, 2),
    ),
    max_size=200,
)


@given(st.lists(SAMPLES, min_size=1, max_size=25), st.integers(0, 10))
def test_no_packet_is_counted_twice(batches: list[list[Sample]], lost: int) -> None:
    talkers = filled(batches, lost)
    window = batches[-10:]
    total = sum(
        one_in * (len(batch) + lost) / len(batch) for batch in window for _, _, one_in, _, _ in batch
    ) / (0.5 * len(window))
    top = talkers.top(100)
    assert sum(talker.pps for talker in top) <= total * (1 + 1e-9) + 1e-6
    assert [talker.pps for talker in top] == sorted((talker.pps for talker in top), reverse=True)
    assert all(0 <= talker.drop_share <= 1 and 0 <= talker.error <= 1 for talker in top)


def in_mapped_form(prefix: str) -> IPv6Network:
    """So that prefixes of both families can be compared."""
    network = ip_network(prefix)
    return IPv6Network((ip(str(network.network_address)), 128 - network.max_prefixlen + network.prefixlen))


@given(SAMPLES)
def test_every_line_is_what_its_prefix_sent_less_the_finer_lines_in_it(batch: list[Sample]) -> None:
    top = filled([batch]).top(100)
    lines = {in_mapped_form(talker.prefix): talker.samples for talker in top}
    assert len(lines) == len(top)
    for network, samples in lines.items():
        sent = sum(IPv6Address(source) in network for source, *_ in batch)
        finer = [other for other in lines if other != network and other.subnet_of(network)]
        assert samples == sent - sum(lines[other] for other in finer)


@pytest.mark.parametrize("family", [4, 6])
def test_costs_little_per_sample(family: int) -> None:
    rng = random.Random(3)
    prefix = ip("0.0.0.0")[:12] if family == 4 else b""
    batch: list[Sample] = [
        (prefix + rng.randbytes(16 - len(prefix)), 60, 64, False, 1) for _ in range(20_000)
    ]
    talkers = Talkers()
    start = time.thread_time()
    talkers.add_batch(batch)
    assert (time.thread_time() - start) / len(batch) < 100e-6  # about 1 µs; catches a change of order
