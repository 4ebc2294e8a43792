"""Every test here builds network namespaces, so each needs root; a failed one shows its agent's log."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from live import Figure

from cdnctl.lab.lab import Lab

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deadlines of milliseconds on a machine with neighbours: one that is missed gets a second chance.

    A fault of ours misses it twice; `-ra` lists what was run again.
    """
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="network namespaces need root"))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Note a measured value; `pytest -rP` shows them, and a failed test does."""
    return lambda name, value: print(f"{request.node.name}: {name}: {value}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(lab, Lab) and lab.left is None:
        report.sections.append(("agent", lab.log("agent")))
    return report
