"""A saved state that cannot be put into force as it is never keeps an edge from starting."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import convert
from msgspec.structs import asdict, replace

from cdnctl import config
from cdnctl.config.schema import MAX_ALLOWED
from cdnctl.engine import steering
from cdnctl.engine.restore import clean
from cdnctl.model import Allowed, Block
from cdnctl.state import CustomerLimit, State

CONFIG = config.parse(
    """
[edge]
name = "ams1"
interfaces = ["eth0"]
snat = ["203.0.113.10", "203.0.113.11"]

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:80"]

[[cdn]]
name = "borealis"
endpoints = ["198.51.100.20:80"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 80

[[service]]
name = "solo"
vip = "203.0.113.81"
port = 80
cdns = ["aurora"]
""",
    Path("test.toml"),
)


def can_start(state: State) -> bool:
    """Whether the engine would put it into the kernel."""
    weights = {cdn.name: state.weights.get(cdn.name, cdn.weight) for cdn in CONFIG.cdns}
    steering.check(CONFIG, weights, state.drained)
    return all(0 <= weight <= 1000 for weight in weights.values())


def test_what_is_right_stays() -> None:
    block = Block(prefix="198.51.100.0/24", created_ns=1, expires_ns=2**62)
    state = State(weights={"aurora": 60, "borealis": 0}, drained=["borealis"], blocks=[block])
    assert clean(state, CONFIG) == []
    assert state == State(weights={"aurora": 60, "borealis": 0}, drained=["borealis"], blocks=[block])


@pytest.mark.parametrize("weight", [-1, 1001, 2**40, -(2**63)])
def test_a_weight_out_of_range_is_left_out_with_a_warning(weight: int) -> None:
    state = State(weights={"aurora": weight, "borealis": 7})
    (warning,) = clean(state, CONFIG)
    assert "aurora" in warning
    assert str(weight) in warning
    assert state.weights == {"borealis": 7}
    assert can_start(state)


@pytest.mark.parametrize(
    ("block", "word"),
    [
        (Block(prefix="2000::/12"), "/16"),
        (Block(prefix="2001:db8::1/32"), "2001:db8::/32"),
        (Block(prefix="10.0.0.1/8"), "10.0.0.0/8"),
        (Block(prefix="0.0.0.0/0"), "/8"),
        (Block(prefix="nonsense"), "nonsense"),
        (Block(prefix="10.1.0.0/16", expires_ns=-5), "time"),
        (Block(prefix="10.1.0.0/16", expires_ns=2**70), "time"),
    ],
)
def test_a_block_that_cannot_be_is_left_out_with_a_warning(block: Block, word: str) -> None:
    good = Block(prefix="198.51.100.7")
    state = State(blocks=[block, good])
    (warning,) = clean(state, CONFIG)
    assert word in warning
    assert state.blocks == [good]


def test_a_thousand_wrong_blocks_are_told_in_a_few_lines() -> None:
    state = State(blocks=[Block(prefix="2001:db8::/8")] * 1000)
    warnings = clean(state, CONFIG)
    assert len(warnings) == 6
    assert warnings[-1].startswith("995 more")


def test_limits_that_cannot_be_are_left_out_and_those_of_others_kept() -> None:
    limits = {
        "acme": CustomerLimit(pps=1000, mbit=0.5),
        "beta": CustomerLimit(pps=-1),
        "gamma": CustomerLimit(flows_per_s=float("nan")),
        "gone": CustomerLimit(),
    }
    state = State(limits=dict(limits))
    acme, gone = config.CustomerConfig(name="acme", prefixes=("10.0.0.0/8",)), limits["gone"]
    known = tuple(replace(acme, name=name) for name in ("acme", "beta", "gamma"))
    warnings = clean(state, replace(CONFIG, customers=known))
    assert ["customer gone" in warnings[0], "beta" in warnings[1], "gamma" in warnings[2]] == [True] * 3
    assert state.limits == {"acme": limits["acme"], "gone": gone}


def test_allowed_prefixes_that_cannot_be_are_left_out() -> None:
    good = [Allowed(prefix="2001:db8::/32"), Allowed(prefix="10.0.0.1")]
    state = State(allowed=[good[0], Allowed(prefix="10.0.0.1/8"), Allowed(prefix="x"), good[1]])
    warnings = clean(state, CONFIG)
    assert len(warnings) == 2
    assert state.allowed == good
    state = State(allowed=[Allowed(prefix=f"10.{n >> 8}.{n & 255}.0/24") for n in range(MAX_ALLOWED + 3)])
    (warning,) = clean(state, CONFIG)
    assert "3 allowed" in warning
    assert len(state.allowed) == MAX_ALLOWED


def test_more_blocks_than_there_is_room_for_are_the_newest() -> None:
    few = convert({**asdict(CONFIG), "limits": config.Limits(block_entries=1024)}, config.Config)
    state = State(blocks=[Block(prefix=f"10.0.{n >> 8}.{n & 255}", created_ns=n) for n in range(1030)])
    (warning,) = clean(state, few)
    assert "6 oldest" in warning
    assert min(block.created_ns for block in state.blocks) == 6
    assert len(state.blocks) == 1024


def test_drains_that_leave_a_service_without_a_cdn_are_ignored_for_its_cdns() -> None:
    state = State(drained=["aurora"])  # the only one of `solo`
    (warning,) = clean(state, CONFIG)
    assert "service solo" in warning
    assert "aurora is not drained" in warning
    assert state.drained == []
    state = State(drained=["borealis", "aurora"])
    assert clean(state, CONFIG)
    assert can_start(state)


def test_weights_that_leave_a_service_without_a_cdn_are_the_configurations_again() -> None:
    state = State(weights={"aurora": 0, "borealis": 5})
    (warning,) = clean(state, CONFIG)
    assert "service solo" in warning
    assert state.weights == {"borealis": 5}
    assert can_start(state)


def test_a_weight_of_nought_and_a_drain_together_do_not_keep_an_edge_down() -> None:
    state = State(weights={"borealis": 0}, drained=["aurora"])
    assert clean(state, CONFIG)
    assert can_start(state)


def test_cdns_that_are_gone_are_told_and_kept() -> None:
    state = State(weights={"gone": 5}, drained=["away"])
    warnings = clean(state, CONFIG)
    assert ["away" in warnings[0], "gone" in warnings[1]] == [True, True]
    assert (state.weights, state.drained) == ({"gone": 5}, ["away"])


def test_shares_are_by_service_where_its_cdns_are_others() -> None:
    weights = {"aurora": 60, "borealis": 20}
    assert steering.by_service(CONFIG, weights, []) == {
        "www": {"aurora": 0.75, "borealis": 0.25},
        "solo": {"aurora": 1.0},
    }
    assert steering.by_service(CONFIG, weights, ["borealis"]) is None, "all go to aurora"
