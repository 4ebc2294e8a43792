"""The bench itself: what it states, and that it leaves nothing behind."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cdnctl.paths import pin_dir
from tests.bench import report
from tests.bench.decisions import packets
from tests.bench.decisions.packets import TCP4, TCP6, UDP4, Carrier, Ends
from tests.bench.decisions.rounds import result
from tests.bench.decisions.rows import Row
from tests.bench.decisions.shim import Stream
from tests.bench.decisions.subjects import Packets

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="loads programs and makes network namespaces")


def subject(program: str) -> Packets:
    return Packets(program, Stream(0, 1), packets.frame(TCP4, packets.SYN), 1, 1, None, 1, 1)


@pytest.mark.parametrize("carrier", [TCP4, UDP4])
def test_frame_and_stream_agree_on_where_the_ends_are(carrier: Carrier) -> None:
    frame = packets.frame(carrier, packets.SYN)
    ends = Ends(packets.number("10.1.2.3"), packets.number("203.0.113.80"), 40_000, 80)
    packed = packets.pack([ends])
    assert len(frame) == packets.FRAME_BYTES
    assert len(packed) == 16
    assert packets.ends_of(frame[:26] + packed[:12] + frame[38:]) == ends


def test_frame_of_ipv6() -> None:
    frame = packets.frame(TCP6, packets.ACK)
    ends = Ends(packets.number("10.1.2.3"), packets.number("203.0.113.80"), 40_000, 80)
    packed = packets.pack([ends])
    filled = frame[:34] + packed[:4] + frame[38:50] + packed[4:12] + frame[58:]
    assert len(frame) == packets.FRAME_BYTES
    assert packets.ends_of(filled) == ends
    assert str(ipaddress.IPv6Address(filled[22:38])) == packets.six("10.1.2.3")


def test_clients_differ_and_are_the_same_in_every_run() -> None:
    target = Ends(0, 1, 0, 80)
    clients = packets.clients(1000, "10.0.0.0/8", target, seed=1)
    assert len({client.source for client in clients}) == 1000
    assert clients == packets.clients(1000, "10.0.0.0/8", target, seed=1)


def test_ratio_is_of_rounds_not_of_medians() -> None:
    ours, peer = subject("edge"), subject("look_up_flow")
    row = Row("a row", ours, peer, bound=1.5, gate=True)
    # a busy spell doubles both: the ratio knows nothing of it
    found = result(row, {id(ours): [10, 20, 10, 20, 20], id(peer): [10, 20, 10, 20, 10]})
    assert found.ratio == 1.0
    assert found.holds
    line = report.line(found)
    assert (line.name, line.ours, line.peer, line.unit, line.gate) == ("a row", 20, 10, "ns", True)


def test_bound_above_a_floor() -> None:
    ours, peer, floor = subject("edge"), subject("look_up_stranger"), subject("parse_only")
    row = Row("a row", ours, peer, bound=1.5, floor=floor)
    # 4 for parsing, 20 for look-ups: up to 4 + 1.5 x 20 = 34 are allowed, over a peer of 24
    found = result(row, {id(ours): [34.0] * 5, id(peer): [24.0] * 5, id(floor): [4.0] * 5})
    assert found.bound == pytest.approx(34 / 24)
    assert found.holds


def leftovers() -> list[str]:
    namespaces = [str(path) for path in Path("/run/netns").glob("cdnctl-bench-*")]
    places = [str(path) for path in (pin_dir("cdnctl-bench"), Path("/run/cdnctl-bench")) if path.exists()]
    return namespaces + places


def start(directory: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
    )


@needs_root
@pytest.mark.soak
def test_whole_run_after_a_killed_one(tmp_path: Path) -> None:
    killed = start(tmp_path, "decisions")
    deadline = time.monotonic() + 60
    while not pin_dir("cdnctl-bench").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)
    killed.kill()
    killed.communicate()
    assert leftovers()

    run = start(tmp_path, "decisions", "--quick")
    printed, _ = run.communicate(timeout=240)
    assert run.returncode == 0
    assert leftovers() == []
    lines: list[dict[str, Any]] = json.loads((tmp_path / "bench.json").read_text())
    assert {tuple(line) for line in lines} == {
        ("name", "ours", "peer", "unit", "ratio", "bound", "holds", "gate")
    }
    kinds = {line["name"].partition(",")[0].partition(" (")[0] for line in lines}
    assert kinds >= {"established", "reply", "blocked", "new flow", "not ours", "generation storm"}
    assert all(line["ours"] > 0 and line["peer"] > 0 for line in lines)
    assert all(line["name"] in printed.decode() for line in lines)


@needs_root
@pytest.mark.soak
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_ended_run_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    run = start(tmp_path, "decisions")
    deadline = time.monotonic() + 60
    while not pin_dir("cdnctl-bench").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)
    run.send_signal(how)
    run.communicate(timeout=30)
    assert run.returncode != 0
    assert leftovers() == []
    assert not (tmp_path / "bench.json").exists()


@needs_root
@pytest.mark.soak
@pytest.mark.parametrize("suite", ["drops", "control"])
def test_a_suite_leaves_nothing_also_after_a_killed_one(tmp_path: Path, suite: str) -> None:
    killed = start(tmp_path, suite, "--quick")
    deadline = time.monotonic() + 60
    while not pin_dir("cdnctl-bench").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)
    killed.kill()
    killed.communicate()
    assert leftovers()

    run = start(tmp_path, suite, "--quick")
    printed, _ = run.communicate(timeout=120)
    assert run.returncode in (0, 1), "a busy box may miss a gate; then there is a table all the same"
    assert leftovers() == []
    lines: list[dict[str, Any]] = json.loads((tmp_path / "bench.json").read_text())
    assert lines
    assert all(line["name"] in printed.decode() for line in lines)
