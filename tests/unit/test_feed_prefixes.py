"""Sets of prefixes as numbers, against the standard library's opinion."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cdnctl.defence.blocklist import Network, show_prefix
from cdnctl.defence.feeds.origins import Origins
from cdnctl.defence.feeds.prefixes import Prefixes, code_of, difference, network_of, of_networks, show

# Few addresses, so that neighbours and covers are met often.
V4 = st.builds(
    lambda address, length: IPv4Network((0xC6336400 & ~0xFFFF | address, length), strict=False),
    st.integers(0, 0xFFFF),
    st.integers(9, 32),
)
V6 = st.builds(
    lambda address, length: IPv6Network((0x20010DB8 << 96 | address, length), strict=False),
    st.integers(0, 0x3F),
    st.integers(115, 128),
)
NETWORKS = st.lists(V4 | V6, max_size=40)


def collapsed(networks: list[Network]) -> list[Network]:
    v4 = [each for each in networks if isinstance(each, IPv4Network)]
    v6 = [each for each in networks if isinstance(each, IPv6Network)]
    return [*collapse_addresses(v4), *collapse_addresses(v6)]


@given(NETWORKS)
def test_joined_as_the_standard_library_does(networks: list[Network]) -> None:
    joined = of_networks(networks)
    assert list(joined.networks()) == collapsed(networks)
    assert list(joined.shown()) == [show_prefix(each) for each in collapsed(networks)]
    assert joined.addresses(4) == sum(each.num_addresses for each in collapsed(networks) if each.version == 4)


def test_never_joined_to_what_the_block_list_refuses() -> None:
    halves = [
        ip_network("64.0.0.0/8"),
        ip_network("65.0.0.0/8"),
        ip_network("2400::/16"),
        ip_network("2401::/16"),
    ]
    assert list(of_networks(halves).networks()) == halves


@given(V4 | V6)
def test_codes(network: Network) -> None:
    code = code_of(network)
    assert network_of(network.version, code) == network
    assert show(network.version, code) == show_prefix(network)


@given(NETWORKS, V4 | V6)
def test_what_overlaps(networks: list[Network], asked: Network) -> None:
    found = of_networks(networks).overlapping(asked)
    same = [each for each in collapsed(networks) if each.version == asked.version]
    assert sorted(found) == sorted(code_of(each) for each in same if each.overlaps(asked))


@given(NETWORKS, NETWORKS)
def test_difference(before: list[Network], after: list[Network]) -> None:
    change = difference(of_networks(before), of_networks(after))
    old, new = set(collapsed(before)), set(collapsed(after))
    assert set(change.added.networks()) == new - old
    assert set(change.removed.networks()) == old - new


@given(st.lists(st.tuples(st.sampled_from("abc"), NETWORKS), max_size=12), V4 | V6)
def test_a_feed_takes_along_what_it_alone_brought(
    changes: list[tuple[str, list[Network]]], asked: Network
) -> None:
    origins, kernel = Origins(), set[Network]()
    held: dict[str, set[Network]] = {}
    for feed, networks in [*changes, *((feed, []) for feed in "abc")]:
        change = origins.replace(feed, of_networks(networks))
        added, removed = set(change.added.networks()), set(change.removed.networks())
        assert not added & kernel
        assert removed <= kernel
        kernel = (kernel | added) - removed
        held[feed] = set(collapsed(networks))
        assert kernel == set().union(*held.values())
        assert set(origins.of(asked)) == {each for each, its in held.items() if asked in its}
        assert set(origins.touching(asked)) == {
            each
            for each, its in held.items()
            if any(a.version == asked.version and a.overlaps(asked) for a in its)
        }
    assert not kernel
    assert not list(origins)


def test_empty() -> None:
    assert not Prefixes()
    assert len(Prefixes()) == 0
    assert not Origins().remove("nobody")
