"""A million prefixes from a file, in the kernel in time and within memory; and a thousand of them changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.bench.control import a_million
from tests.bench.decisions.rig import Rig

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root"),
    pytest.mark.flaky(reruns=1),
]


def test_a_million_prefixes_are_enforced_within_ten_seconds_and_400_mb(tmp_path: Path) -> None:
    with Rig():
        found = a_million.run(tmp_path)
    print(found)
    assert found["entries"] == a_million.COUNT
    assert found["changed"] >= a_million.CHANGED
    assert found["desired"] == found["enforced"] > 0.99 * a_million.COUNT
    assert found["whole_s"] < a_million.WHOLE_S
    assert found["change_s"] < a_million.CHANGE_S
    assert found["peak_mb"] < a_million.MOST_MB
