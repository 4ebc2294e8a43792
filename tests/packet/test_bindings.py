"""Bindings of ports, told for a log: of flows that got under way, once each, and only where it is wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from harness import SNAT, SNAT6, DataPath
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.perf import Binding


@pytest.fixture
def told(path: DataPath) -> Iterator[DataPath]:
    path.reader.take_bindings()
    path.change(log_bindings=1)
    yield path
    path.change(log_bindings=0)


def bindings(path: DataPath, count: int, timeout_s: float = 2.0) -> list[Binding]:
    """At least so many, or what came in time."""
    found: list[Binding] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < deadline:
        found += path.reader.take_bindings()
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("service", ["solo", "solo6"])
def test_a_flow_is_told_when_it_is_under_way(told: DataPath, service: str) -> None:
    session = Session(told, service)
    session.syn()
    session.syn_ack()
    assert not bindings(told, 1, 0.3), "who only sends SYNs has proved nothing"
    session.ack()
    (found,) = bindings(told, 1)
    flow = session.established
    assert flow is not None
    assert found.client == abi.packed(session.client[0])
    assert abi.show_port(found.client_port) == session.client[1]
    assert (found.snat, found.snat_port) == (flow.snat, flow.snat_port)
    assert (found.endpoint, found.service) == (flow.endpoint, flow.service)
    assert found.protocol == 6
    assert abs(found.at_ns - time.monotonic_ns()) < 5_000_000_000
    assert found.snat < len(SNAT6 if service == "solo6" else SNAT)
    session.ack()
    assert not bindings(told, 1, 0.3), "once"


def test_nothing_is_told_that_nobody_wants(path: DataPath) -> None:
    path.reader.take_bindings()
    session = Session(path)
    session.syn()
    session.syn_ack()
    session.ack()
    assert session.established is not None
    assert not bindings(path, 1, 0.3)
