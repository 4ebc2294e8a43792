"""The wanted block list: sources, lifetimes, and what the kernel is told."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cdnctl.defence.blocklist import Blocklist, Delta, Network, covers, parse_prefix, show_prefix
from cdnctl.model import Block

NET = IPv4Network("198.51.100.0/24")
SIX = IPv6Network("2001:db8:5::/48")


def block(prefix: str = str(NET), source: str = "manual", expires_ns: int = 0, created_ns: int = 0) -> Block:
    return Block(prefix=prefix, source=source, expires_ns=expires_ns, created_ns=created_ns)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("198.51.100.7", "198.51.100.7/32"),
        (" 198.51.100.0/24\n", "198.51.100.0/24"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.66.0.0/255.255.0.0", "10.66.0.0/16"),
        ("2001:DB8:0::7", "2001:db8::7/128"),
        ("2001:db8:5::/48", "2001:db8:5::/48"),
        ("2400::/16", "2400::/16"),
        ("fe80::1", "fe80::1/128"),
        ("::ffff:198.51.100.7", "198.51.100.7/32"),
        ("::ffff:198.51.100.0/120", "198.51.100.0/24"),
        ("::ffff:a00:0/104", "10.0.0.0/8"),
    ],
)
def test_prefixes(text: str, network: str) -> None:
    assert parse_prefix(text) == ip_network(network)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("198.51.100.7/24", "198.51.100.0/24 for the prefix or 198.51.100.7 for the one address"),
        ("example.net", "neither an address nor a prefix"),
        ("", "neither an address nor a prefix"),
        ("1.2.3.4/33", "neither an address nor a prefix"),
        ("0.0.0.0/0", "of IPv4 a /8 is the most"),
        ("64.0.0.0/7", "of IPv4 a /8 is the most"),
        ("2001:db8::7/64", "2001:db8::/64 for the prefix or 2001:db8::7 for the one address"),
        ("2001:db8::/129", "neither an address nor a prefix"),
        ("2000::/3", "of IPv6 a /16 is the most"),
        ("2400::/15", "of IPv6 a /16 is the most"),
        ("::/0", "all of IPv4"),
        ("::/16", "all of IPv4"),
        ("::ffff:0:0/96", "of IPv4 a /8 is the most"),
        ("::ffff:0:0/103", "of IPv4 a /8 is the most"),
        ("fe80::1%eth0", "names a link"),
        ("fe80::%eth0/64", "names a link"),
    ],
)
def test_what_is_no_prefix_to_block(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        parse_prefix(text)


def test_a_single_address_is_shown_as_one() -> None:
    wanted = Blocklist()
    wanted.add(block("198.51.100.7/32"))
    wanted.add(block("2001:DB8::7/128"))
    assert [each.prefix for each in wanted] == ["198.51.100.7", "2001:db8::7"]
    assert show_prefix(NET) == "198.51.100.0/24"
    assert show_prefix(SIX) == "2001:db8:5::/48"


def test_a_prefix_is_one_however_it_is_written() -> None:
    wanted = Blocklist()
    wanted.add(block("2001:0DB8:0005:0000::/48", "feed"))
    wanted.add(block("2001:db8:5::/48"))
    wanted.add(block("::ffff:198.51.100.0/120"))
    assert wanted.kernel_view() == {SIX: 0, NET: 0}
    assert len(wanted.find("2001:db8:5:0::/48")) == 2
    assert wanted.remove(str(NET), "manual") == Delta(removed=(NET,))


def test_the_longest_lifetime_of_all_sources_wins() -> None:
    wanted = Blocklist()
    assert wanted.add(block(expires_ns=100)) == Delta(added={NET: 100})
    assert wanted.add(block(source="feed", expires_ns=50)) == Delta()
    assert wanted.add(block(source="feed", expires_ns=200)) == Delta(changed={NET: 200})
    assert wanted.add(block(source="partner")) == Delta(changed={NET: 0})
    assert wanted.remove(str(NET), "partner") == Delta(changed={NET: 200})
    assert wanted.remove(str(NET), "feed") == Delta(changed={NET: 100})
    assert wanted.remove(str(NET), "manual") == Delta(removed=(NET,))
    assert not wanted.kernel_view()


def test_expiry() -> None:
    wanted = Blocklist()
    wanted.add(block(expires_ns=100))
    wanted.add(block(source="feed", expires_ns=200))
    wanted.add(block("198.51.100.7", expires_ns=100))
    assert wanted.expire(99) == ([], Delta())
    gone, delta = wanted.expire(100)
    assert {(each.prefix, each.source) for each in gone} == {
        ("198.51.100.0/24", "manual"),
        ("198.51.100.7", "manual"),
    }
    assert delta == Delta(removed=(IPv4Network("198.51.100.7"),))
    assert wanted.kernel_view() == {NET: 200}
    assert wanted.expire(10**18)[1] == Delta(removed=(NET,))
    assert len(wanted) == 0


def test_a_prolonged_block_outlives_its_first_end() -> None:
    wanted = Blocklist()
    wanted.add(block(expires_ns=100))
    wanted.add(block(expires_ns=300))
    assert wanted.expire(200) == ([], Delta())
    wanted.add(block(expires_ns=0))
    assert wanted.expire(400) == ([], Delta())


def test_a_block_made_again_after_its_end_cuts_live_flows() -> None:
    wanted = Blocklist()
    wanted.add(block(expires_ns=100))
    assert wanted.add(block(created_ns=100, expires_ns=200)) == Delta(added={NET: 200})


def test_removing_what_is_not_there_says_what_is() -> None:
    wanted = Blocklist()
    with pytest.raises(ValueError, match="cdnctl blocks"):
        wanted.remove("198.51.100.7", "manual")
    wanted.add(block())
    with pytest.raises(ValueError, match=r"198\.51\.100\.0/24 is, which covers it"):
        wanted.remove("198.51.100.7", "manual")
    wanted.add(block("198.51.100.7", source="feed"))
    with pytest.raises(ValueError, match="not blocked by manual but by feed"):
        wanted.remove("198.51.100.7", "manual")
    with pytest.raises(ValueError, match="cdnctl blocks"):
        wanted.remove("2001:db8:5::7", "manual")
    wanted.add(block("2001:db8::/32"))
    wanted.add(block(str(SIX)))
    with pytest.raises(ValueError, match=r"; 2001:db8::/32, 2001:db8:5::/48 is, which covers it"):
        wanted.remove("2001:db8:5::7", "manual")


def test_finding_and_newest() -> None:
    wanted = Blocklist()
    for number in range(5):
        wanted.add(block(f"198.51.100.{number}", created_ns=number))
    assert [each.created_ns for each in wanted.newest(2)] == [4, 3]
    assert len(wanted.find("198.51.100.3")) == 1
    assert not wanted.find("198.51.100.9")


ADDRESS_TEXT = st.text("0123456789abcdef:./%", max_size=24)


@given(st.text(max_size=20) | ADDRESS_TEXT)
def test_any_text_is_a_prefix_or_an_error(text: str) -> None:
    try:
        assert parse_prefix(show_prefix(parse_prefix(text))) == parse_prefix(text)
    except ValueError as error:
        assert str(error)


@given(st.integers(0, 2**128 - 1) | st.integers(0xFFFF << 32, (0x10000 << 32) - 1), st.integers(0, 128))
def test_nothing_that_may_be_blocked_of_one_family_covers_the_other(first: int, length: int) -> None:
    """In the kernel's trie both live in one space."""
    meant = IPv6Network((IPv6Address(first), length), strict=False)
    try:
        network = parse_prefix(str(meant))
    except ValueError:
        return
    mapped = IPv6Network("::ffff:0:0/96")
    assert isinstance(network, IPv4Network) == meant.subnet_of(mapped)
    assert isinstance(network, IPv4Network) or not network.overlaps(mapped)


NETWORKS = st.builds(
    lambda six, bits, length: (
        IPv6Network((bits << 120, min(length, 128)), strict=False)
        if six
        else IPv4Network((bits << 24, min(length, 32)), strict=False)
    ),
    st.booleans(),
    st.integers(0, 255),
    st.integers(0, 12),
)


@given(NETWORKS, NETWORKS)
def test_covering_is_having_every_address(wider: Network, network: Network) -> None:
    same = wider.version == network.version
    inside = network.network_address in wider and network.broadcast_address in wider
    assert covers(wider, network) == (same and inside)


PREFIXES = st.sampled_from(
    ["198.51.100.7", "198.51.100.0/24", "198.51.0.0/16", "2001:db8::7", "2001:db8::/64", "2001:DB8::/32"]
)
SOURCES = st.sampled_from(["manual", "feed"])


class DeltasKeepTheKernelRight(RuleBasedStateMachine):
    """A kernel that is only ever told deltas holds what `kernel_view` says, whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Blocklist()
        self.kernel: dict[Network, int] = {}
        self.now = 0

    def tell(self, delta: Delta) -> None:
        for network in delta.removed:
            del self.kernel[network]
        assert not delta.changed.keys() - self.kernel.keys()
        self.kernel |= delta.added | delta.changed

    @rule(prefix=PREFIXES, source=SOURCES, lifetime=st.integers(0, 5))
    def add(self, prefix: str, source: str, lifetime: int) -> None:
        end = self.now + lifetime if lifetime else 0
        self.tell(self.wanted.add(block(prefix, source, end, self.now)))

    @rule(prefix=PREFIXES, source=SOURCES)
    def remove(self, prefix: str, source: str) -> None:
        if any(each.source == source for each in self.wanted.find(prefix)):
            self.tell(self.wanted.remove(prefix, source))
        else:
            with pytest.raises(ValueError, match="not blocked"):
                self.wanted.remove(prefix, source)

    @rule(passed=st.integers(0, 4))
    def expire(self, passed: int) -> None:
        self.now += passed
        gone, delta = self.wanted.expire(self.now)
        assert not delta.added
        assert all(each.expires_ns <= self.now for each in gone)
        assert all(not each.expires_ns or each.expires_ns > self.now for each in self.wanted)
        self.tell(delta)

    @invariant()
    def agree(self) -> None:
        assert self.kernel == self.wanted.kernel_view()
        assert len(self.wanted) == len(list(self.wanted))


TestDeltasKeepTheKernelRight = DeltasKeepTheKernelRight.TestCase


def test_blocks_are_counted_by_who_wants_them() -> None:
    """Prefixes once, however many want them; whoever wants none any more is not named."""
    wanted = Blocklist()
    for prefix, source in (("10.1.0.0/16", "manual"), ("10.1.0.0/16", "feed"), ("10.2.0.0/16", "feed")):
        wanted.add(Block(prefix=prefix, source=source, created_ns=1, expires_ns=100))
    wanted.add(Block(prefix="10.1.0.0/16", source="feed", created_ns=2, expires_ns=200))
    assert (dict(wanted.by_source), wanted.prefix_count, len(wanted)) == ({"manual": 1, "feed": 2}, 2, 3)
    wanted.remove("10.1.0.0/16", "manual")
    assert (dict(wanted.by_source), wanted.prefix_count) == ({"feed": 2}, 2)
    wanted.expire(150)
    assert (dict(wanted.by_source), wanted.prefix_count) == ({"feed": 1}, 1)
    wanted.expire(300)
    assert (dict(wanted.by_source), wanted.prefix_count, len(wanted)) == ({}, 0, 0)


@given(
    st.lists(
        st.builds(
            Block,
            prefix=st.sampled_from(
                [
                    "10.0.0.1",
                    " 10.0.0.1",
                    "10.0.0.0/24",
                    "::ffff:10.0.0.1",
                    "2001:DB8::1",
                    "2001:db8::/48",
                    "10.0.0.1/32",
                ]
            ),
            source=st.sampled_from(["manual", "feed"]),
            expires_ns=st.sampled_from([0, 50, 90]),
        ),
        max_size=8,
    )
)
def test_filled_is_as_added(blocks: list[Block]) -> None:
    filled, added = Blocklist(), Blocklist()
    filled.fill(blocks)
    for block in blocks:
        added.add(block)
    assert sorted(filled, key=repr) == sorted(added, key=repr)
    assert (len(filled), filled.kernel_view()) == (len(added), added.kernel_view())
    assert sorted(filled.expire(60)[0], key=repr) == sorted(added.expire(60)[0], key=repr)
