"""Lists in every format, right and broken: taken as a whole, or not at all."""

from __future__ import annotations

import contextlib
import time
from ipaddress import ip_network

import pytest
from feed_samples import HTML, SAMPLES, Sample
from hypothesis import example, given
from hypothesis import strategies as st

from cdnctl.defence.feeds.entries import Entries, FeedError
from cdnctl.defence.feeds.formats import parse
from cdnctl.defence.feeds.prefixes import network_of


def said(entries: Entries) -> dict[int | None, set[str]]:
    return {
        lifetime_s: {str(network_of(each.version, each.code)) for each in group}
        for lifetime_s, group in entries.groups.items()
        if len(group)
    }


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_format(sample: Sample) -> None:
    entries = parse(sample.text.encode())
    wanted = {None: sample.prefixes, **sample.timed}
    assert said(entries) == {
        key: {str(ip_network(each)) for each in all_} for key, all_ in wanted.items() if all_
    }
    assert entries.kind == sample.kind


def test_what_is_no_ban_of_an_address_is_counted() -> None:
    crowdsec = next(sample for sample in SAMPLES if sample.name == "crowdsec")
    assert parse(crowdsec.text.encode()).passed_over == {
        "decisions other than bans": 1,
        "decisions about other things than addresses": 1,
        "deleted again": 1,
    }
    services = next(sample for sample in SAMPLES if sample.name == "services")
    assert sum(parse(services.text.encode()).passed_over.values()) == 1


def test_bytes_in_front_and_ends_of_lines() -> None:
    assert len(parse(b"\xef\xbb\xbf192.0.2.1\r\n198.51.100.7\r203.0.113.1")) == 3


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        (b"192.0.2.1\n\n192.0.2.300\n", 3, "write 198.51.100.7"),
        (b"192.0.2.1\n192.0.2.7/24\n", 2, "write 192.0.2.0/24 for the prefix or 192.0.2.7"),
        (b"192.0.2.1\n192.0.2.7/\n", 2, "neither an address nor a prefix"),
        (b"# x\nfe80::1%eth0\n", 2, "leave out the %"),
        (b"192.0.2.1\nexample.net\n", 2, "neither an address nor a prefix"),
        (b"192.0.2.1\n192.0.2.2 evil\n", 2, "neither an address nor a prefix"),
        (b"192.0.2.1\n\xff\n", 2, "is not UTF-8"),
        (b"", 0, "an empty list is never taken"),
        (b" \n \n", 0, "an empty list is never taken"),
        (HTML.encode(), 1, "this is an HTML page"),
        (b"\n\n<?xml version='1.0'?><Error/>", 3, "this is XML"),
        (b"\x1f\x8b\x08\x00", 0, "packed with gzip"),
        (b'{"addresses":["192.0.2.1",\n"192.0.2.300"]}', 2, "neither an address nor a prefix"),
        (b'{"addresses":["192.0.2.1",\n7]}', 1, "write addresses in quotes"),
        (b'{"addresses":"192.0.2.1"}', 1, "a list of addresses is expected"),
        (b'{"addresses":["192.0.2.1"],\n"ipv6_addresses":["2001:db8::/32"]', 2, "is malformed"),
        (b'{"error":"not found"}', 1, "none of the keys that lists have, but error"),
        (b'{"prefixes":[{"ipv4Prefix":"192.0.2.0/24"},\n{"scope":"x"}]}', 1, "has no prefix"),
        (b"[" * 100_000, 1, "JSON"),
        (b"7", 1, "neither an address"),
        (b'{"cidr":"192.0.2.0/24"}\n{"cidr":"192.0.2.0/24"\n', 2, "malformed JSON"),
        (b'{"cidr":"192.0.2.0/24"}\n{"cird":"192.0.2.0/24"}\n', 2, "has no cidr"),
        (b'{"new":[{"value":"192.0.2.1","duration":"soon","scope":"Ip"}],"deleted":null}', 1, "3h59m58.5s"),
        (b'{"new":7}', 1, "a list of objects is expected"),
        (b"create a hash:net family inet\nadd a 192.0.2.0/24 timeout soon\n", 2, "write whole seconds"),
        (b"create a hash:ip,port family inet\nadd a 192.0.2.0,tcp:80\n", 1, "hash:ip or hash:net"),
        (b"add a 192.0.2.0/24\nad a 192.0.2.0/24\n", 2, "no line of `ipset save`"),
        (b"add a 192.0.2.0/24 nomatch\n", 1, "an exception"),
        (b"add a 192.0.2.9-192.0.2.1\n", 1, "the lower address"),
        (b"set a {\n elements = { 192.0.2.1,\n 192.0.2.2", 2, "no closing brace"),
        (b"set a {\n elements = { 192.0.2.1,\n 192.0.2.2 timeout soon }\n}", 3, "write it as 1d2h"),
        (b"set a {\n elements = { 192.0.2.1,\n 192.0.2.2 . 80 }\n}", 3, "nothing that an element"),
        (b"table inet a {\n}\n", 1, "nft list set"),
    ],
)
def test_mistakes_name_line_and_remedy(text: bytes, line: int, remedy: str) -> None:
    with pytest.raises(FeedError) as error:
        parse(text, "bad.txt")
    assert remedy in str(error.value)
    assert error.value.remedy
    if line:
        assert f"line {line}:" in error.value.message


def test_many_mistakes_are_counted_and_the_first_shown() -> None:
    with pytest.raises(FeedError) as error:
        parse(b"nonsense\n" * 5000, "bad.txt")
    assert error.value.message.count("\n") == 11
    assert "and 4990 more" in error.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\n" * 2_000_000,
        b"{" + b'"cidr":\n' * 1_000_000,
        b'["192.0.2.1\\/32"' + b',\n"\\u0031\\u0030.0.0.1"' * 200_000 + b"]",
        b"set a {\n" + b"elements = { 192.0.2.1 }\n" * 200_000 + b"}",
        b'{"cidr":"x"}\n' * 1_000_000,
        b"[" + b"[" * 1_000_000,
    ],
    ids=["nonsense", "open", "escaped", "sets", "wrong", "nested"],
)
def test_no_text_takes_long(data: bytes) -> None:
    """What was made to be hard to read is done with, one way or the other."""
    before = time.process_time()
    with contextlib.suppress(FeedError):
        parse(data)
    assert time.process_time() - before < 3


def test_slashes_may_be_escaped() -> None:
    with pytest.raises(FeedError, match="line 2: 192.0.2.7/24"):
        parse(rb"""{"addresses":["192.0.2.0\/24",
"192.0.2.7\/24"]}""")


def test_what_is_shown_of_a_list_is_printable_and_short() -> None:
    with pytest.raises(FeedError) as error:
        parse(b"192.0.2.1\n\x1b[2J\xe2\x80\xae" + b"x" * 10_000, "bad.txt")
    assert error.value.message.replace("\n", "").isprintable()
    assert len(error.value.message) < 500


def test_prefixes_that_are_too_wide_are_for_the_screen_to_name() -> None:
    entries = parse(b"0.0.0.0/0\n::/0\n64.0.0.0/7\n::ffff:64.0.0.0/98\n::ffff:0:0/96\n")
    assert said(entries)[None] == {"0.0.0.0/0", "::/0", "64.0.0.0/7", "64.0.0.0/2"}


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "insert", "repeat", "drop", "html"]),
        st.integers(0, 10_000),
        st.integers(1, 255),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    for how, where, what in changes:
        at = where % (len(data) + 1)
        match how:
            case "cut":
                data = data[:at]
            case "flip":
                data = data[:at] + bytes([data[at] ^ what]) + data[at + 1 :] if at < len(data) else data
            case "insert":
                data = data[:at] + bytes([what]) + data[at:]
            case "repeat":
                data = data[:at] + data[max(0, at - what) : at] + data[at:]
            case "drop":
                data = data[:at] + data[at + what % 16 :]
            case "html":
                data = data[:at] + HTML.encode() + data[at:]
    return data


@given(st.sampled_from(SAMPLES), MUTATIONS)
@example(SAMPLES[0], [("html", 0, 1)])
@example(SAMPLES[3], [("html", 5, 1)])
def test_a_broken_list_is_refused_or_right_in_every_entry(
    sample: Sample, changes: list[tuple[str, int, int]]
) -> None:
    """Never anything but a FeedError with a remedy; and of what is taken no line was left out silently."""
    data = mutated(sample.text.encode(), changes)
    try:
        entries = parse(data, "x")
    except FeedError as error:
        assert error.remedy
        assert error.message
        return
    assert not entries.mistakes
    for group in entries.groups.values():
        for each in group:
            network_of(each.version, each.code)  # raises for bits beyond its length
            assert 1 <= each.line <= data.replace(b"\r", b"\n").count(b"\n") + 1


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_refusal(data: bytes) -> None:
    try:
        parse(data)
    except FeedError as error:
        assert error.remedy


@given(
    st.sampled_from([sample for sample in SAMPLES if sample.name in ("cidr", "comments", "ipset", "ndjson")])
)
def test_an_error_page_in_the_middle_is_never_half_a_list(sample: Sample) -> None:
    lines = sample.text.split("\n")
    for at in range(len(lines)):
        with pytest.raises(FeedError):
            parse("\n".join([*lines[:at], HTML, *lines[at:]]).encode())
