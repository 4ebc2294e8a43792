"""What feeds want blocked: the kernel's edit is that of all feeds together, whoever comes and goes."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from cdnctl.defence.feeds.prefixes import Prefixes, of_networks
from cdnctl.defence.listed import Edit, Listed

PLACES = [ip_network(f"10.{n}.0.0/16") for n in range(0, 12, 2)] + [ip_network("2001:db8::/48")]
groups = st.dictionaries(
    st.sampled_from([0, 5_000, 9_000]), st.sets(st.sampled_from(PLACES), max_size=5), max_size=3
)
steps = st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), groups), max_size=8)


def made(wanted: dict[int, set[object]]) -> dict[int, Prefixes]:
    return {end: of_networks(each) for end, each in wanted.items()}  # type: ignore[arg-type]


def applied(kernel: dict[object, int], edit: Edit) -> dict[object, int]:
    after = dict(kernel)
    for end, prefixes in edit.put.items():
        after.update(dict.fromkeys(prefixes.networks(), end))
    for network in edit.gone.networks():
        assert network in after, "what goes was there"
        del after[network]
    return after


@given(steps)
def test_edits_make_of_the_kernel_what_all_feeds_want(
    played: list[tuple[str, dict[int, set[object]]]],
) -> None:
    listed, kernel = Listed(), dict[object, int]()
    wanted: dict[str, dict[int, set[object]]] = {}
    for feed, each in played:
        wanted[feed] = each
        kernel = applied(kernel, listed.replace(feed, made(each)))
        expected: dict[object, int] = {}
        for its in wanted.values():
            for end, networks in its.items():
                for network in networks:
                    before = expected.get(network, end)
                    expected[network] = max(before, end) if before and end else 0
        assert kernel == expected
        assert len(listed) == len(expected)
    now = applied(kernel, listed.ended(5_000))
    assert now == {network: end for network, end in kernel.items() if end != 5_000}


def test_who_lists_an_address_is_known() -> None:
    listed = Listed()
    listed.replace("drop", {0: of_networks([ip_network("10.2.0.0/16")])})
    listed.replace("own", {7: of_networks([ip_network("10.2.3.0/24")])})
    assert {feed for feed, _, _ in listed.touching(ip_network("10.2.3.4/32"))} == {"drop", "own"}
    assert listed.by_feed() == {"drop": 1, "own": 1}
    assert listed.end(ip_network("10.2.3.0/24")) == 7
    assert listed.end(ip_network("10.2.4.0/24")) is None
