"""Regions from files: every mistake by its line, and joined without changing any address's region."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.defence.blocklist import Network
from cdnctl.defence.feeds.regions import RegionError, Regions, parse


def region(found: Regions, address: str) -> str | None:
    """By the longest prefix."""
    best: tuple[int, str | None] = (-1, None)
    for label, networks in found.prefixes.items():
        for network in networks:
            if ip_address(address) in network and network.prefixlen > best[0]:
                best = (network.prefixlen, label)
    return best[1]


def test_a_file() -> None:
    found = parse(
        b'\xef\xbb\xbfnetwork,label\r\n# by hand\r\n192.0.2.0/25,EU\r\n"192.0.2.128/25", eu\r\n'
        b"192.0.2.7,us\r\n\r\n2001:db8::/32,us\r\n2001:db8:1::/48,us\r\n"
    )
    assert found.lines == 5
    assert found.prefixes == {
        "eu": [ip_network("192.0.2.0/24")],
        "us": [ip_network("192.0.2.7/32"), ip_network("2001:db8::/32")],
    }
    assert found.total == 3
    assert region(found, "192.0.2.7") == "us"
    assert region(found, "192.0.2.200") == "eu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"192.0.2.0/24,eu\n192.0.2.7/24,eu\n", "line 2: 192.0.2.7/24 has host bits set"),
        (b"192.0.2.0/24,eu\nexample,eu\n", "line 2: 'example' does not appear"),
        (b"192.0.2.0/24\n", "line 1: 1 fields where"),
        (b"192.0.2.0/24,eu,west\n", "line 1: 3 fields where"),
        (b"192.0.2.0/24,\n", "line 1: '' is no label"),
        (b"192.0.2.0/24,a b\n", "line 1: 'a b' is no label"),
        (b"192.0.2.0/24,eu\n\n192.0.2.0/24,us\n", "line 3: 192.0.2.0/24 is us here and eu above"),
        (b"192.0.2.0/24,eu\n\xff\n", "line 2: this is not UTF-8"),
        (b'192.0.2.0/24,"eu\n', "line 1: this is not CSV"),
        (b"fe80::1%eth0,eu\n", "names a link"),
        (b"", "has no entries"),
        (b"# nothing\nprefix,label\n", "no label"),
        (b"<html>\n", "line 1: 1 fields"),
    ],
)
def test_mistakes(text: bytes, message: str) -> None:
    with pytest.raises(RegionError) as error:
        parse(text, "regions.csv")
    assert message in str(error.value) or "has no entries" in str(error.value)
    assert error.value.remedy


NETWORK = st.builds(
    lambda number, length, six: (
        IPv6Network((number << 100, 28 - (32 - length)), strict=False)
        if six
        else IPv4Network((number, length), strict=False)
    ),
    st.integers(0, 31),
    st.integers(26, 32),
    st.booleans(),
)


@given(st.dictionaries(NETWORK, st.sampled_from(["eu", "us"]), min_size=1, max_size=20))
def test_joining_changes_no_addresss_region(labels: dict[Network, str]) -> None:
    text = "\n".join(f"{network},{label}" for network, label in labels.items())
    found = parse(text.encode())
    plain = Regions({label: [n for n in labels if labels[n] == label] for label in ("eu", "us")}, 0)
    assert found.total <= len(labels)
    for number in range(32):
        for address in (str(ip_address(number)), str(ip_address(number << 100))):
            if ":" in address or number >= 0:
                assert region(found, address) == region(plain, address)


@given(st.binary(max_size=120))
def test_any_bytes(data: bytes) -> None:
    try:
        parse(data)
    except RegionError as error:
        assert error.remedy
