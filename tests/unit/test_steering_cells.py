"""Weights in a single region and class: those in force times what the planner leaves there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.engine.steering import Steering
from cdnctl.steering.planner import Cell
from cdnctl.steering.planner import shares as arithmetic

EU, VIDEO = Cell("eu", "interactive"), Cell("eu", "video")
WEIGHTS = {"aurora": 60, "borealis": 30, "cirrus": 10}


def shares(weights: Mapping[str, int], *cdns: str) -> dict[str, float]:
    return arithmetic.normal({cdn: float(weights[cdn]) for cdn in cdns or WEIGHTS})


def test_another_cell_s_weights_are_those_in_force() -> None:
    wanted = Steering(WEIGHTS, cells={EU: {"aurora": 0.5}})
    assert wanted.in_cell(VIDEO, "weighted", WEIGHTS, WEIGHTS, 0.5) is WEIGHTS
    assert wanted.in_cell(EU, "weighted", WEIGHTS, ["borealis", "cirrus"], 0.5) is WEIGHTS, "nobody of these"
    found = shares(wanted.in_cell(EU, "weighted", WEIGHTS, WEIGHTS, 0.5))
    assert found == pytest.approx({"aurora": 3 / 7, "borealis": 3 / 7, "cirrus": 1 / 7}, abs=1e-3)


def test_of_who_serves_no_more_than_half_goes_elsewhere() -> None:
    wanted = Steering(WEIGHTS, cells={EU: {"aurora": 0.01, "borealis": 0.9}})
    found = shares(wanted.in_cell(EU, "weighted", WEIGHTS, ["aurora", "cirrus"], 0.5), "aurora", "cirrus")
    assert found["aurora"] == pytest.approx(60 / 70 - 0.5, abs=1e-3)


def test_video_that_leaves_by_latency_leaves_once() -> None:
    wanted = Steering(WEIGHTS, video_kept={"aurora": 0.8, "borealis": 0.9}, cells={VIDEO: {"aurora": 0.5}})
    in_force = wanted.in_force(WEIGHTS, "video", "latency")
    found = shares(wanted.in_cell(VIDEO, "latency", in_force, WEIGHTS, 0.5))
    assert found == pytest.approx(arithmetic.normal({"aurora": 30, "borealis": 27, "cirrus": 10}), abs=1e-3)
    in_force = wanted.in_force(WEIGHTS, "video", "weighted")
    found = shares(wanted.in_cell(VIDEO, "weighted", in_force, WEIGHTS, 0.5))
    assert found == pytest.approx(arithmetic.normal({"aurora": 30, "borealis": 30, "cirrus": 10}), abs=1e-3)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 1000), min_size=1),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1)),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 1)),
)
def test_whatever_is_kept(weights: dict[str, int], kept: dict[str, float], video: dict[str, float]) -> None:
    wanted = Steering(weights, video_kept=video, cells={VIDEO: kept})
    in_force = wanted.in_force(weights, "video", "latency")
    found = wanted.in_cell(VIDEO, "latency", in_force, weights, 0.5)
    assert all(found[cdn] > 0 for cdn in weights), "nobody leaves wholly"
    asked = arithmetic.normal({cdn: float(weight) for cdn, weight in weights.items()})
    assert arithmetic.moved(asked, shares(found, *weights)) <= 0.5 + 1e-3
