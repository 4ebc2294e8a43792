"""What the agent makes of the kernel's counts for the shield, and of an operator's word."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdnctl import config
from cdnctl.config import ShieldConfig
from cdnctl.datapath import abi
from cdnctl.datapath.abi import Budget, Verdict
from cdnctl.engine import shield
from cdnctl.engine.changes import command_line
from cdnctl.engine.window import NO_CDN_TOTALS, Snapshot
from cdnctl.model import LEVELS, SetShield

TCP = {0: True, 1: False}


def snapshot(
    at_s: float, promoted: int = 0, services: dict[int, int] | None = None, **counted: int
) -> Snapshot:
    """Totals of one moment."""
    verdicts = {each: (counted.get(each.name.lower(), 0), 0) for each in Verdict}
    cdns = {"aurora": NO_CDN_TOTALS._replace(promoted=promoted)}
    return Snapshot(int(at_s * 1e9), abi.Mode(0), verdicts, cdns, {}, {}, services or {}, {}, 0, 0)


BEFORE = snapshot(10.0, services={0: 0, 1: 0})


def test_who_opens_and_proves_himself_is_one_flow() -> None:
    came = shield.offered(BEFORE, snapshot(12.0, 100, {0: 100, 1: 0}), TCP)
    assert (came.flows, came.by_tcp, came.unverified_share) == (100, 100, 0.0)
    assert came.seconds == 2.0


def test_so_is_who_is_challenged_first() -> None:
    now = snapshot(12.0, 100, {0: 100, 1: 0}, challenged=100, proved=100)
    assert shield.offered(BEFORE, now, TCP)[:3] == (100, 100, 100)


def test_a_spoofed_flood_in_siege_is_offered_and_unverified() -> None:
    now = snapshot(12.0, 100, {0: 100, 1: 0}, challenged=10_000, proved=100, shed_region=50, unverified=50)
    came = shield.offered(BEFORE, now, TCP)
    assert came.flows == 100 + 9_900 + 100
    assert came.unverified_share == pytest.approx(0.99, abs=0.001)
    assert (came.shed, came.challenged, came.proved) == (50, 10_000, 100)


def test_questions_by_udp_are_flows_and_prove_nothing() -> None:
    came = shield.offered(BEFORE, snapshot(12.0, 0, {0: 0, 1: 5_000}), TCP)
    assert (came.flows, came.by_tcp, came.unverified_share) == (5_000, 0, 0.0)


def test_a_service_or_cdn_that_is_new_begins_at_nothing() -> None:
    now = snapshot(12.0, 100, {0: 100, 1: 0, 2: 7_000})
    assert shield.offered(BEFORE, now, TCP).flows == 100


def test_each_level_asks_more_of_the_unverified() -> None:
    found = [shield.budgets(ShieldConfig(), shield._TIMES[level]) for level in LEVELS]
    assert found[0] == {}, "at calm nothing is asked"
    for budget in Budget:
        rates = [each[budget] for each in found[1:]]
        assert rates == sorted(rates, reverse=True)
    assert all(each[Budget.SOURCE] < each[Budget.NETWORK] < each[Budget.REGION] for each in found[1:])
    assert found[2][Budget.SOURCE] == ShieldConfig().source_flows_per_s
    assert found[3][Budget.VERIFIED] == ShieldConfig().verified_flows_per_s, (
        "who has proved himself keeps his"
    )


def test_links_that_face_the_internet_are_bits() -> None:
    assert (
        shield.outside_bits(("eth0", "eth3", "eth0", "gone"), {"eth0": 0, "eth1": 1, "eth3": 63})
        == 1 | 1 << 63
    )


def test_the_command_line_that_does_the_same() -> None:
    assert (
        command_line(SetShield(level="siege", reason="it hurts")) == "cdnctl shield siege --reason 'it hurts'"
    )


def test_what_it_costs_is_said() -> None:
    edge = config.parse(
        """
[edge]
name = "test"
interfaces = ["eth0"]
snat = ["203.0.113.10"]
[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:80"]
[[service]]
name = "www"
vip = "203.0.113.80"
port = 80
""",
        Path("test.toml"),
    )
    said = [shield.cost(edge, level) for level in LEVELS]
    assert said[0] == "nothing"
    assert "20 flows/s" in said[2]
    assert "round trip" in said[3]
