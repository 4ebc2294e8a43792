"""The wanted block list: sources, lifetimes, and what the kernel is told."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cdnctl.defence.blocklist import Blocklist, Delta, parse_prefix, show_prefix
from cdnctl.model import Block

NET = IPv4Network("198.51.100.0/24")


def block(prefix: str = str(NET), source: str = "manual", expires_ns: int = 0, created_ns: int = 0) -> Block:
    return Block(prefix=prefix, source=source, expires_ns=expires_ns, created_ns=created_ns)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("198.51.100.7", "198.51.100.7/32"),
        (" 198.51.100.0/24\n", "198.51.100.0/24"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.66.0.0/255.255.0.0", "10.66.0.0/16"),
    ],
)
def test_prefixes(text: str, network: str) -> None:
    assert parse_prefix(text) == IPv4Network(network)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("198.51.100.7/24", "198.51.100.0/24 for the prefix or 198.51.100.7 for the one address"),
        ("example.net", "neither an address nor a prefix"),
        ("", "neither an address nor a prefix"),
        ("1.2.3.4/33", "neither an address nor a prefix"),
        ("0.0.0.0/0", "/8 is the most"),
        ("64.0.0.0/7", "/8 is the most"),
        ("2001:db8::/32", "IPv6"),
    ],
)
def test_what_is_no_prefix_to_block(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        parse_prefix(text)


def test_a_single_address_is_shown_as_one() -> None:
    wanted = Blocklist()
    wanted.add(block("198.51.100.7/32"))
    assert [each.prefix for each in wanted] == ["198.51.100.7"]
    assert show_prefix(NET) == "198.51.100.0/24"


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


def test_finding_and_newest() -> None:
    wanted = Blocklist()
    for number in range(5):
        wanted.add(block(f"198.51.100.{number}", created_ns=number))
    assert [each.created_ns for each in wanted.newest(2)] == [4, 3]
    assert len(wanted.find("198.51.100.3")) == 1
    assert not wanted.find("198.51.100.9")


@given(st.text(max_size=20))
def test_any_text_is_a_prefix_or_an_error(text: str) -> None:
    try:
        assert parse_prefix(show_prefix(parse_prefix(text))) == parse_prefix(text)
    except ValueError as error:
        assert str(error)


PREFIXES = st.sampled_from(["198.51.100.7", "198.51.100.0/24", "198.51.0.0/16"])
SOURCES = st.sampled_from(["manual", "feed"])


class DeltasKeepTheKernelRight(RuleBasedStateMachine):
    """A kernel that is only ever told deltas holds what `kernel_view` says, whatever happens."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Blocklist()
        self.kernel: dict[IPv4Network, int] = {}
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
