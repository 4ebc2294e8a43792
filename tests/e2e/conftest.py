"""Every test here builds network namespaces, so each needs root; a failed one shows its agent's log.

A module that wants an edge under traffic takes `lab`, `kernel` and `traffic`; it may say how:

    CONFIG = {"service": {"policy": "weighted"}}      tables of the edge's configuration, as for `Lab`
    CLIENTS = {"rate": 400, "share6": 0.5}            of the honest clients, as for `Lab.start_clients`
    WARM = 60                                         flows that each CDN has had before the first test
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from labs import Labs
from live import Figure, Kernel, warm_up

from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Traffic

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


@pytest.fixture(scope="session")
def labs(request: pytest.FixtureRequest) -> Iterator[Labs]:
    """Whoever wants the lab in another state than a module's own asks here."""
    labs = Labs(request.session)
    yield labs
    labs.close()


@pytest.fixture(scope="module")
def lab(labs: Labs, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab with its agent, for this module alone."""
    lab = labs.fresh(**getattr(request.module, "CONFIG", {}))
    yield lab
    lab.quiet()


@pytest.fixture(scope="module")
def kernel(lab: Lab) -> Kernel:
    """The tables of its edge."""
    return Kernel(lab)


@pytest.fixture(scope="module")
def traffic(lab: Lab, kernel: Kernel, request: pytest.FixtureRequest) -> Traffic:
    """Honest clients, from when every CDN knows its usual handshake."""
    clients = getattr(request.module, "CLIENTS", {})
    traffic = lab.start_clients(**clients)
    warm_up(kernel, traffic, flows=getattr(request.module, "WARM", 30), six="share6" in clients)
    return traffic


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(lab, Lab) and lab.left is None:
        report.sections.append(("agent", lab.log("agent")))
    return report
