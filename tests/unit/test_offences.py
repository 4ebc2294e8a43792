"""Who is over a threshold, as far as samples tell."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator

import pytest

from cdnctl.config import BanLimits
from cdnctl.defence.offences import ANSWERED, FOLLOWS, OPENS, READINGS, Offence, Offences, Seen

EVERY_S = 0.5
SOURCE = BanLimits(pps=10_000, mbit=100, flows_per_s=500, failed_per_s=100)
NETWORK = BanLimits(pps=30_000, mbit=400, flows_per_s=2_000, failed_per_s=400)
LEFT = OPENS | ANSWERED


def raw(address: str) -> bytes:
    """As the kernel has it."""
    found = ipaddress.ip_address(address)
    return found.packed if found.version == 6 else bytes(10) + b"\xff\xff" + found.packed


def sampled(
    address: str, pps: float, *, length: int = 64, one_in: int = 1, kind: int = 0, seed: int = 1
) -> list[Seen]:
    """Samples of a reading in which somebody sends so much, drawn as the kernel draws them."""
    rng, packets = random.Random(seed), round(pps * EVERY_S)
    drawn = packets if one_in == 1 else sum(rng.random() < 1 / one_in for _ in range(packets))
    return [(raw(address), length, one_in, kind)] * drawn


def read(*readings: list[Seen], source: BanLimits = SOURCE) -> list[list[Offence]]:
    """What each of them leads to."""
    offences = Offences()
    return [offences.read(each, EVERY_S, source, NETWORK) for each in readings]


def lasting(seen: list[Seen]) -> list[Offence]:
    """Of so much, again and again."""
    return read(*[seen] * 4)[-1]


def prefixes(found: list[Offence]) -> list[str]:
    """Whose they are."""
    return [str(each.network) for each in found]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (sampled("192.0.2.7", 12_000), "12,000 packets/s, over 10,000"),
        (sampled("192.0.2.7", 9_000, length=1500), "108 Mbit/s, over 100"),
        (sampled("192.0.2.7", 600, kind=OPENS), "600 new flows/s, over 500"),
        (sampled("192.0.2.7", 120, kind=LEFT), "120 failed handshakes/s, over 100"),
    ],
)
def test_each_threshold_makes_an_offence_and_says_so(seen: list[Seen], why: str) -> None:
    (found,) = lasting(seen)
    assert (str(found.network), found.why) == ("192.0.2.7/32", why)
    assert lasting(seen[: int(len(seen) * 0.8)]) == [], "below it there is none"


def test_the_worst_of_several_is_told_and_comes_first() -> None:
    seen = sampled("192.0.2.7", 11_000) + sampled("192.0.2.8", 2_000, kind=OPENS)
    assert [each.why for each in lasting(seen)] == [
        "2,000 new flows/s, over 500",
        "11,000 packets/s, over 10,000",
    ]


def test_it_takes_a_second() -> None:
    seen = sampled("192.0.2.7", 30_000)
    found = read([], seen, seen, seen)
    assert [len(each) for each in found] == [0, 0, 1, 1]
    assert READINGS * EVERY_S <= 1.0


def test_one_burst_is_no_offence() -> None:
    burst = sampled("192.0.2.7", 19_000)
    assert not any(read([], [], burst, [], [], [], burst, [], []))


def test_who_stops_is_none_any_more() -> None:
    seen = sampled("192.0.2.7", 30_000)
    assert [len(each) for each in read(seen, seen, seen, [], [], [])][-1] == 0


@pytest.mark.parametrize("one_in", [2, 16, 128])
def test_samples_stand_for_what_they_were_drawn_from(one_in: int) -> None:
    seen = sampled("192.0.2.7", 60_000, one_in=one_in)
    (found,) = lasting(seen)
    assert found.pps == pytest.approx(60_000, rel=0.15)


def test_by_chance_nobody_is_over_a_threshold() -> None:
    """Ten thousand sources at half of one, of which the luckiest shows twice as often as it should."""
    rng = random.Random(7)
    addresses = [f"10.{n >> 8 & 255}.{n & 255}.1" for n in range(10_000)]

    def reading() -> Iterator[Seen]:
        for address in addresses:
            for _ in range(sum(rng.random() < 1 / 64 for _ in range(125))):
                yield raw(address), 64, 64, LEFT

    offences = Offences()
    limits = BanLimits(flows_per_s=500, failed_per_s=500)
    for _ in range(6):
        assert offences.read(list(reading()), EVERY_S, limits, BanLimits()) == []


def test_a_single_sample_proves_nothing() -> None:
    assert lasting([(raw("192.0.2.7"), 1500, 1 << 16, LEFT)]) == []


def test_a_network_is_what_its_sources_do_that_are_none_themselves() -> None:
    quiet = [seen for n in range(40) for seen in sampled(f"192.0.2.{n}", 1_000, seed=n)]
    assert prefixes(lasting(quiet)) == ["192.0.2.0/24"]
    loud = sampled("192.0.2.200", 40_000)
    assert prefixes(lasting(loud)) == ["192.0.2.200/32"], "not its whole network for one"
    assert prefixes(lasting(loud + quiet[: len(quiet) // 2])) == ["192.0.2.200/32"]
    assert sorted(prefixes(lasting(loud + quiet))) == ["192.0.2.0/24", "192.0.2.200/32"]


def test_of_ipv6_a_source_is_a_64_and_a_network_a_48() -> None:
    hosts = [seen for n in range(40) for seen in sampled(f"2001:db8:1:2::{n:x}", 500)]
    assert prefixes(lasting(hosts)) == ["2001:db8:1:2::/64"]
    subnets = [seen for n in range(40) for seen in sampled(f"2001:db8:1:{n:x}::1", 1_000)]
    assert prefixes(lasting(subnets)) == ["2001:db8:1::/48"]


def test_who_uses_the_connections_that_he_opens_fails_none() -> None:
    opened = sampled("192.0.2.7", 400, kind=LEFT)
    assert prefixes(lasting(opened)) == ["192.0.2.7/32"]
    assert lasting(opened + sampled("192.0.2.7", 400, kind=FOLLOWS)) == []


def test_nor_does_who_was_not_answered() -> None:
    """A dark CDN's clients send SYN after SYN, and are not to blame."""
    assert lasting(sampled("192.0.2.7", 400, kind=OPENS)) == []


def test_without_a_threshold_there_is_no_offence() -> None:
    limits = BanLimits(pps=None, mbit=None, flows_per_s=None, failed_per_s=None)
    assert lasting_with(sampled("192.0.2.7", 25_000), limits) == []


def lasting_with(seen: list[Seen], source: BanLimits) -> list[Offence]:
    """By other thresholds of a source."""
    return read(*[seen] * 4, source=source)[-1]
