"""New versions of a list by what has changed: exactly as if they were read as a whole."""

from __future__ import annotations

import random
import time
from ipaddress import ip_network

import pytest
from feed_samples import HTML, SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.defence.feeds import screen
from cdnctl.defence.feeds.entries import FeedError
from cdnctl.defence.feeds.following import Version, begin, follow
from cdnctl.defence.feeds.formats import parse
from cdnctl.defence.feeds.prefixes import difference
from cdnctl.defence.protected import Protected

GUARDED = [Protected(ip_network("20.0.7.0/24"), "ours"), Protected(ip_network("2001:db8:7::/48"), "ours")]


def whole(data: bytes) -> Version:
    entries = parse(data)
    brought = screen.screen(entries, GUARDED)
    version = begin(data, entries, GUARDED, brought.whole())
    assert version is not None
    return version


# Few and near each other, so that halves are joined, across the borders of a /16 and a /32 as well.
LINE = st.one_of(
    st.builds(
        lambda number, length: str(ip_network((20 << 24 | number << 12, length), strict=False)),
        st.integers(0, 63),
        st.sampled_from([8, 14, 15, 16, 17, 18, 20, 24]),
    ),
    st.builds(
        lambda number, length: str(ip_network((0x20010DB0 + number << 96, length), strict=False)),
        st.integers(0, 7),
        st.sampled_from([16, 31, 32, 33, 48]),
    ),
    st.sampled_from(["# a comment", "", "20.0.7.9", "0.0.0.0/0", "2001:db8:7::1", "20.0.0.0/17 ; SBL1"]),
)
LINES = st.lists(LINE, max_size=12)


@given(LINES, st.lists(LINES, min_size=1, max_size=4))
def test_as_read_as_a_whole(first: list[str], others: list[list[str]]) -> None:
    fill = [f"192.0.2.{n}" for n in range(0, 200, 3)]  # so that little has changed
    version = whole("\n".join([*first, *fill]).encode())
    for lines in others:
        for data in ("\n".join([*lines, *fill]).encode(), "\n".join([*fill, *lines, "192.0.2.1"]).encode()):
            done = follow(version, data, GUARDED)
            wanted = whole(data)
            if done is None:
                version = wanted
                continue
            assert done.version == wanted
            assert done.change == difference(version.prefixes, wanted.prefixes)
            version = done.version


def test_much_that_changes_is_left_to_the_whole_reading() -> None:
    version = whole("\n".join(f"20.1.{n}.1" for n in range(200)).encode())
    assert follow(version, "\n".join(f"20.2.{n}.1" for n in range(200)).encode(), GUARDED) is None
    assert follow(version, version.data, GUARDED[:1]) is None
    assert follow(version, SAMPLES[4].text.encode(), GUARDED) is None
    assert follow(version, HTML.encode(), GUARDED) is None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_other_formats_are_not_followed(sample: object) -> None:
    data = sample.text.encode()  # type: ignore[attr-defined]
    entries = parse(data)
    is_plain = entries.format == "a prefix a line"
    assert (begin(data, entries, GUARDED, screen.screen(entries, GUARDED).whole()) is not None) == is_plain


def test_a_mistake_in_what_is_new_is_named_by_its_line() -> None:
    lines = [f"20.1.{n}.1" for n in range(200)]
    version = whole("\n".join(lines).encode())
    for at in (0, 100, 200):
        data = "\n".join([*lines[:at], "example.net", *lines[at:]]).encode()
        with pytest.raises(FeedError, match=f"line {at + 1}:"):
            follow(version, data, GUARDED)
    done = follow(version, "\n".join([*lines, "20.0.7.7"]).encode(), GUARDED)
    assert done is not None
    assert [(each.prefix, each.line) for each in done.skipped] == [("20.0.7.7", 201)]
    assert not done.change


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_change_of_a_thousand(count: int) -> None:
    chance = random.Random(3)
    lines = [f"{n * 5 // 65536 + 20}.{n * 5 // 256 % 256}.{n * 5 % 256}.{n % 251}" for n in range(count)]
    chance.shuffle(lines)
    version = whole("\n".join(lines).encode())
    for _ in range(500):
        del lines[chance.randrange(len(lines))]
        lines.insert(chance.randrange(len(lines)), f"150.{chance.randrange(256)}.{chance.randrange(256)}.7")
    data = "\n".join(lines).encode()
    before = time.process_time()
    done = follow(version, data, GUARDED)
    took_s = time.process_time() - before
    assert done is not None
    print(f"{count:,}: {took_s:.2f} s; {len(done.change.added)} added, {len(done.change.removed)} removed")
    assert took_s < 0.5
    assert done.version.prefixes == screen.screen(parse(data), GUARDED).whole()
    assert len(done.change.removed) >= 490
