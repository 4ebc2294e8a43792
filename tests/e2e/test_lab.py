"""The lab itself: what it builds works, its faults are what they say, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdnctl import paths
from cdnctl.lab import netns, record
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import LabError, environment
from cdnctl.lab.topology import PORT
from cdnctl.lab.traffic import Traffic, summary

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

NAME = "t-lab"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(NAME) as lab:
        lab.forward_plainly()
        yield lab


@pytest.fixture(scope="module")
def traffic(lab: Lab) -> Traffic:
    """Clients that ask the first CDN itself, past any balancing."""
    traffic = lab.start_clients(target=(lab.sites["aurora"].endpoint, PORT))
    time.sleep(1.0)
    return traffic


def window(traffic: Traffic, seconds: float, settle_s: float = 0.8) -> tuple[int, int]:
    """Let `seconds` pass, and then the answers come in."""
    start = time.monotonic_ns()
    time.sleep(seconds)
    end = time.monotonic_ns()
    time.sleep(settle_s)
    traffic.check()
    return start, end


def test_honest_requests_at_the_ordered_rate(traffic: Traffic) -> None:
    requests = traffic.begun(*window(traffic, 2.0))
    figures = summary(requests)
    assert figures.outcomes == {"ok": figures.sent}
    assert figures.sent == pytest.approx(2 * 260, rel=0.02)
    kept = sum(request.kind == "keepalive" for request in requests)
    assert kept == pytest.approx(figures.sent / 2, rel=0.02)
    assert len({request.source.rsplit(".", 1)[0] for request in requests}) >= 60
    assert figures.by_cdn == {"aurora": figures.sent}


def test_a_link_delays_as_told(lab: Lab, traffic: Traffic) -> None:
    near = summary(traffic.begun(*window(traffic, 1.0))).connect_p50_ms
    lab.slow("aurora", 150)
    time.sleep(0.4)
    far = summary(traffic.begun(*window(traffic, 1.0))).connect_p50_ms
    lab.heal("aurora")
    time.sleep(0.4)
    again = summary(traffic.begun(*window(traffic, 1.0))).connect_p50_ms
    assert near is not None
    assert far is not None
    assert again is not None
    assert near == pytest.approx(10, abs=2)
    assert far == pytest.approx(160, abs=5)
    assert again == pytest.approx(10, abs=2)


def test_a_link_loses_as_told(lab: Lab, traffic: Traffic) -> None:
    before = lab.wire_stats()["aurora"]
    lab.set_link("aurora", loss=0.1)
    window(traffic, 1.5)
    lab.heal("aurora")
    after = lab.wire_stats()["aurora"]
    received, lost = (
        sum(way[k] for way in after) - sum(way[k] for way in before) for k in ("received", "lost")
    )
    assert lost / received == pytest.approx(0.1, abs=0.03)
    time.sleep(3.0)


def test_a_dark_link_swallows_what_is_in_flight(lab: Lab, traffic: Traffic) -> None:
    at_ns = lab.darken("aurora")
    time.sleep(0.2)
    frames = sum(way["sent"] for way in lab.wire_stats()["aurora"])
    time.sleep(0.5)
    # What still passes is the first hop's own talk.
    assert sum(way["sent"] for way in lab.wire_stats()["aurora"]) - frames <= 4
    end_ns = lab.heal("aurora")
    time.sleep(3.5)
    requests = traffic.begun(at_ns, end_ns)
    assert not [r for r in requests if r.ok and r.start_ns + r.total_ms * 1e6 < end_ns]
    assert summary(traffic.begun(end_ns + 2_000_000_000)).failed == 0


def test_taps_count_what_leaves_the_edge(lab: Lab, traffic: Traffic) -> None:
    before = lab.tap("aurora")
    start, end = window(traffic, 1.0)
    after = lab.tap("aurora")
    assert after.syns - before.syns == pytest.approx(0.5 * 260 * 1.8, rel=0.2)
    assert start < after.last_syn_ns
    assert end < after.last_syn_ns
    assert after.flood_packets == 0


def test_a_flood_is_bounded_and_the_wire_recovers(lab: Lab, traffic: Traffic) -> None:
    target = lab.sites["borealis"]
    before = lab.tap("borealis")
    load = lab.flood(60_000, seconds=1.5, target=(target.endpoint, PORT))
    offered = load.wait()
    over_ns = time.monotonic_ns()
    assert offered.pps >= 50_000
    assert offered.sent <= 60_000 * 1.5
    seen = lab.tap("borealis")
    assert seen.flood_packets - before.flood_packets >= 0.9 * offered.sent
    assert seen.last_flood_ns <= over_ns + 100_000_000
    time.sleep(0.1)
    figures = summary(traffic.begun(*window(traffic, 1.0)))
    assert figures.failed == 0
    assert figures.connect_p95_ms is not None
    assert figures.connect_p95_ms < 20


def test_senders_keep_their_rates(lab: Lab) -> None:
    rates = {"10.1.5.9": 2000.0, "10.2.200.1": 300.0}
    offered = lab.senders(rates, 1.0, kind="udp", size=200).wait()
    assert offered.done
    for source, rate in rates.items():
        assert offered.by_source[source] == pytest.approx(rate, rel=0.02)


def test_a_second_lab_of_a_name_is_refused(lab: Lab) -> None:
    program = f"from cdnctl.lab.lab import Lab\nLab({NAME!r}).build()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert f"a lab called {NAME} is running" in done.stderr
    assert netns.path(lab.topology.edge).exists()


def test_a_namespace_of_somebody_else_is_left_alone() -> None:
    name = "t-alien"
    theirs = f"cdnctl-{name}-edge"
    netns.create(theirs)
    try:
        inode = netns.path(theirs).stat().st_ino
        with pytest.raises(LabError, match=theirs), Lab(name):
            pytest.fail("a lab was built in somebody else's namespace")
        assert netns.path(theirs).stat().st_ino == inode
    finally:
        netns.remove(theirs)
    assert remains(name) == []


def remains(name: str) -> list[str]:
    """Everything on the box that carries the lab's name, looked for without its record."""
    places = [netns.RUN, paths.BPFFS / "cdnctl", record.TAPS, paths.run_dir(), Path("/tmp")]
    found = [str(p) for place in places if place.is_dir() for p in place.iterdir() if name in p.name]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"cdnctl-{name}-" in line or f"cdnctl-lab-{name}-" in line:
            found.append(line)
    return found


def test_nothing_stays() -> None:
    name = "t-gone"
    with Lab(name) as lab:
        assert len(remains(name)) > 5
    assert lab.left == []
    assert remains(name) == []


def test_what_a_killed_lab_left_goes_at_the_next_start() -> None:
    name = "t-killed"
    program = (
        "import time\nfrom cdnctl.lab.lab import Lab\n"
        f"with Lab({name!r}) as lab:\n"
        "    lab.start_clients(rate=20)\n    lab.flood(1000, 60)\n"
        "    print('up', flush=True)\n    time.sleep(60)\n"
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, start_new_session=True
    )
    assert victim.stdout
    assert victim.stdout.readline() == b"up\n"
    children = record.load(name)
    assert children is not None
    victim.send_signal(signal.SIGKILL)
    victim.wait(5)
    deadline = time.monotonic() + 3
    while any(process.alive() for process in children.processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    # The processes die with it; names and files wait for the next one.
    assert not [process for process in children.processes if process.alive()]
    assert remains(name)
    said: list[str] = []
    with Lab(name, say=said.append):
        pass
    assert any("left" in text for text in said)
    assert remains(name) == []


def test_a_broken_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "t-broken"

    def fail(lab: Lab) -> None:
        raise LabError("no taps today")

    monkeypatch.setattr(Lab, "_attach_taps", fail)
    with pytest.raises(LabError, match="no taps today"), Lab(name):
        pytest.fail("a lab without taps was built")
    assert remains(name) == []
