"""The suite `failover`: its arithmetic, what it takes for a new flow, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cdnctl.lab import record
from cdnctl.lab.traffic import Request
from tests.bench.decisions import packets
from tests.bench.failover import rows
from tests.bench.failover.rows import EDGE, PROXY, STOPPED
from tests.bench.failover.suite import NAME
from tests.bench.failover.syns import only_syns, sender
from tests.bench.failover.trial import DARK, LOSSY, SLOW, Seen, hit

ROOT = Path(__file__).resolve().parents[2]
CLIENT, PORT_AT = packets.number("10.1.2.3"), {packets.TCP4: 34, packets.TCP6: 54}


def seen(**figures: float) -> Seen:
    """A trial that went well, but for some figures."""
    usual = {
        "interval_ms": 6.0, "last_ms": 40.0, "looked_ms": 1600.0, "flows": 7, "quiet_flows": 3,
        "share": 0.01, "requests": 800, "late": 12, "held_up": 12,
    }  # fmt: skip
    return Seen(**{**usual, **figures})  # type: ignore[arg-type]


def found(fault: Any, **trials: Seen) -> dict[str, Any]:
    names = {"edge": EDGE, "stopped": STOPPED, "proxy": PROXY}
    made = rows.rows(fault, {names[who]: [trial] for who, trial in trials.items()})
    return {row.name: row for row in made}


class TestDark:
    def test_allowed_is_the_floor_and_six_intervals(self) -> None:
        assert rows.allowed_ms(seen(interval_ms=6.0)) == 100 + 6 * 6

    @pytest.mark.parametrize(("last_ms", "holds"), [(136.0, True), (137.0, False)])
    def test_a_late_last_flow_fails_the_bench(self, last_ms: float, holds: bool) -> None:
        row = found(DARK, edge=seen(last_ms=last_ms), proxy=seen())[
            "dark, 500 flows/s: fault to last new flow / allowed"
        ]
        assert row.gate
        assert row.holds is holds

    @pytest.mark.parametrize(("flows", "holds"), [(6, True), (7, False)])
    def test_a_seventh_seldom_flow_fails_the_bench(self, flows: int, holds: bool) -> None:
        row = found(DARK, edge=seen(quiet_flows=flows), proxy=seen())[
            "dark, 2 flows/s: flows after the fault / 6"
        ]
        assert row.gate
        assert row.holds is holds

    def test_with_the_agent_stopped_it_is_the_same_and_gates_too(self) -> None:
        table = found(DARK, edge=seen(), stopped=seen(last_ms=500), proxy=seen())
        missed = [name for name, row in table.items() if row.gate and not row.holds]
        assert missed == ["dark, 500 flows/s, agent stopped: fault to last new flow / allowed"]

    def test_nothing_of_haproxys_counts_as_one(self) -> None:
        row = found(DARK, edge=seen(quiet_flows=3), proxy=seen(quiet_flows=0))[
            "dark, 2 flows/s: flows after the fault / HAProxy"
        ]
        assert (row.ours, row.peer, row.ratio, row.bound) == (3, 1, 3, None)


def test_one_that_never_notices_gives_a_lower_limit() -> None:
    table = found(SLOW, edge=seen(), proxy=seen(last_ms=3997.0, looked_ms=4000.0, share=1 / 3))
    name = f"{SLOW.name}: fault to last new flow / HAProxy (>= 4,000 ms: it goes on)"
    assert table[name].peer == 3997


def test_of_loss_only_the_share_is_told() -> None:
    table = found(LOSSY, edge=seen(share=0.05), proxy=seen(share=0.1))
    assert table[f"{LOSSY.name}: its share of new flows after 1 s / HAProxy"].ratio == pytest.approx(0.5)
    assert not any("last new flow" in name for name in table)


def test_who_was_hit() -> None:
    def request(total_ms: float, outcome: str = "ok") -> Request:
        return Request(0, "new", 0, 1, 10.0, total_ms, outcome, "aurora", "10.1.1.1")

    assert hit([request(30), request(300), request(1040), request(12, "refused")], 200) == 3
    assert hit([request(30), request(300), request(1040), request(12, "refused")], 1000) == 2


@pytest.mark.parametrize("carrier", [packets.TCP4, packets.TCP6])
def test_only_opening_segments_of_the_service_count(carrier: packets.Carrier) -> None:
    def to(flags: int, port: int) -> bytes:
        frame, at = bytearray(packets.frame(carrier, flags)), PORT_AT[carrier]
        frame[at : at + 4] = (40_000).to_bytes(2, "big") + port.to_bytes(2, "big")
        return bytes(frame)

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        only_syns(ours)
        for frame in (to(packets.ACK, 80), to(packets.SYN, 8080), to(packets.SYN, 80)):
            theirs.send(frame)
        passed = ours.recv(2048)
        assert passed == to(packets.SYN, 80)[: len(passed)]
        with pytest.raises(BlockingIOError):
            ours.recv(2048)
    assert sender(passed) == sender(to(packets.SYN, 80))
    assert sender(passed)[-6:-4] == (40_000).to_bytes(2, "big")


def start(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench", "failover", "--quick"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )


def under_way(run: subprocess.Popen[bytes]) -> record.Record:
    """What the run's lab has made, once it does more than to build."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and run.poll() is None:
        made = record.load(NAME)
        if made and made.owner.pid == run.pid and len(made.processes) > 6:
            time.sleep(2)
            return record.load(NAME) or made
        time.sleep(0.05)
    raise AssertionError(f"the bench does not get on ({run.poll()})")


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("haproxy"), reason="a lab, with HAProxy")
class TestNothingIsLeft:
    def test_by_a_whole_run_after_a_killed_one(self, tmp_path: Path) -> None:
        killed = start(tmp_path)
        made = under_way(killed)
        killed.kill()
        killed.communicate()
        assert made.leftovers()

        run = start(tmp_path)
        printed, _ = run.communicate(timeout=120)
        assert run.returncode == 0, printed.decode()
        assert made.leftovers() == []
        assert not record.record_path(NAME).exists()
        lines: list[dict[str, Any]] = json.loads((tmp_path / "bench.json").read_text())
        assert sum(line["gate"] for line in lines) == 2
        assert all(line["ours"] > 0 and line["peer"] > 0 for line in lines)

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_by_an_ended_run(self, tmp_path: Path, how: signal.Signals) -> None:
        run = start(tmp_path)
        made = under_way(run)
        run.send_signal(how)
        run.communicate(timeout=30)
        assert run.returncode != 0
        assert made.leftovers() == []
        assert not record.record_path(NAME).exists()
