"""The histogram that frames carry, from the kernel's finer one."""

from __future__ import annotations

from cdnctl.datapath import abi
from cdnctl.engine.window import coarse
from cdnctl.model import HISTOGRAM_STEPS, histogram_limits_ms


def test_every_handshake_is_in_the_step_of_its_time() -> None:
    for bucket in range(23 * 8):
        low_us, high_us = abi.bucket_limits_us(bucket)
        buckets = [0] * (bucket + 1)
        buckets[bucket] = 3
        steps = coarse(buckets)
        assert len(steps) == HISTOGRAM_STEPS
        assert sum(steps) == 3
        step = steps.index(3)
        low_ms, high_ms = histogram_limits_ms(step)
        middle_ms = (low_us + high_us) / 2000
        assert step == 0 or low_ms <= middle_ms
        assert step == HISTOGRAM_STEPS - 1 or middle_ms <= high_ms


def test_of_no_handshakes_there_is_none() -> None:
    assert coarse([0] * 200) == []


def test_steps_follow_each_other_two_an_octave() -> None:
    for step in range(HISTOGRAM_STEPS - 1):
        assert histogram_limits_ms(step)[1] == histogram_limits_ms(step + 1)[0]
    assert histogram_limits_ms(2)[0] == 2 * histogram_limits_ms(0)[0]
