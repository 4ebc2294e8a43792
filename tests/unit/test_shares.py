from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.steering.shares import shares, split


def test_shares_of_weights_and_drains() -> None:
    assert shares({"a": 60, "b": 30, "c": 10}) == {"a": 0.6, "b": 0.3, "c": 0.1}
    assert shares({"a": 60, "b": 30, "c": 10}, {"a"}) == {"a": 0.0, "b": 0.75, "c": 0.25}
    assert shares({"a": 60, "b": 0}, ["a"]) == {"a": 0.0, "b": 0.0}


def test_endpoints_share_their_cdns_weight() -> None:
    result = split({"a": 100, "b": 100}, (), {"a": [1], "b": [2, 3, 4]})
    assert result.weights[1] == result.weights[2] + result.weights[3] + result.weights[4]
    assert result.weights[2] == result.weights[3] == result.weights[4]
    assert result.shares == {"a": 0.5, "b": 0.5}


def test_a_cdn_without_endpoints_gets_nothing() -> None:
    assert split({"a": 50, "b": 50}, (), {"a": ["x"], "b": []}).shares == {"a": 1.0, "b": 0.0}


NAMES = st.sampled_from("abcdef")


@given(
    st.dictionaries(NAMES, st.tuples(st.integers(0, 1000), st.integers(1, 5)), min_size=1),
    st.sets(NAMES),
)
def test_weights_and_shares_agree(cdns: dict[str, tuple[int, int]], drained: set[str]) -> None:
    weights = {name: weight for name, (weight, _) in cdns.items()}
    endpoints = {name: [(name, n) for n in range(count)] for name, (_, count) in cdns.items()}
    result = split(weights, drained, endpoints)
    total = sum(result.weights.values())
    assert sum(result.shares.values()) == pytest.approx(1 if total else 0)
    for name, group in endpoints.items():
        own = sum(result.weights[endpoint] for endpoint in group)
        assert result.shares[name] == pytest.approx(own / total if total else 0)
        if name in drained:
            assert own == 0


def test_weights_fit_the_kernels_numbers_whatever_the_counts() -> None:
    """CDNs with 1 to 15 endpoints: a common multiple would be 360,360, and their sum take 33 bits."""
    endpoints = {f"c{count}": [(count, n) for n in range(count)] for count in range(1, 16)}
    weights = dict.fromkeys(endpoints, 1000) | {"c15": 1}
    result = split(weights, (), endpoints)
    total = sum(result.weights.values())
    assert total < 2**32
    for cdn, group in endpoints.items():
        own = [result.weights[endpoint] for endpoint in group]
        assert min(own) > 0
        assert sum(own) / total == pytest.approx(result.shares[cdn], rel=1e-4)
