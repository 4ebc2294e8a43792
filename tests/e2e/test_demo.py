"""`cdnctl demo` from outside: however it ends, nothing stays; played to its end, its claims hold."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdnctl import paths
from cdnctl.lab import netns, record
from cdnctl.lab.lab import START_S
from cdnctl.python import environment, python_module

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

NAME = "t-demo"


def start(*arguments: str, alone: bool = False) -> subprocess.Popen[str]:
    """A headless demo in a session of its own; `alone`: where no BPF file system is mounted."""
    unmounted = ["unshare", "-m", "sh", "-c", f'umount {paths.BPFFS} && exec "$@"', "sh"] if alone else []
    return subprocess.Popen(
        [*unmounted, *python_module("cdnctl", "demo", "--headless", "--name", NAME, *arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(demo: subprocess.Popen[str], words: str) -> None:
    """Read what it says until `words` come."""
    assert demo.stdout
    for line in demo.stdout:
        if words in line:
            return
    pytest.fail(f"the demo ended ({demo.wait()}) before it said {words!r}")


def wait_for_agent(demo: subprocess.Popen[str]) -> None:
    """Until the edge takes connections: all is built then."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and demo.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(paths.socket_path(NAME))) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"no agent came up (the demo: {demo.poll()})")


def remains() -> list[Path]:
    """What carries the demo's name."""
    places = [netns.RUN, paths.BPFFS / "cdnctl", record.TAPS, paths.run_dir(), Path("/tmp")]
    return [path for place in places if place.is_dir() for path in place.iterdir() if NAME in path.name]


def end_without_a_trace(demo: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send it a signal, and look for what it has left."""
    children = record.load(NAME)
    demo.send_signal(number)
    said, _ = demo.communicate(timeout=20)
    assert demo.returncode == 128 + number
    assert "everything is removed" in said
    assert "Traceback" not in said
    assert remains() == []
    assert children is None or not any(process.alive() for process in children.processes)


@pytest.mark.parametrize(("number", "words"), [(signal.SIGTERM, "namespaces"), (signal.SIGHUP, "origins")])
def test_a_signal_ends_it_while_it_is_built(number: signal.Signals, words: str) -> None:
    demo = start()
    wait_for(demo, words)
    end_without_a_trace(demo, number)


@pytest.mark.soak
def test_after_a_kill_the_next_one_starts_afresh_and_ends_by_ctrl_c() -> None:
    demo = start()
    wait_for_agent(demo)
    demo.kill()
    demo.wait(5)
    assert remains()
    demo = start()
    wait_for(demo, "removed what an earlier lab left")
    wait_for(demo, "calm")
    end_without_a_trace(demo, signal.SIGINT)


def test_a_report_that_cannot_be_written_is_known_at_once() -> None:
    began = time.monotonic()
    demo = start("--json", "/proc/nowhere/report.json")
    said, _ = demo.communicate(timeout=20)
    assert demo.returncode == 1
    assert "/proc/nowhere/report.json" in said
    assert time.monotonic() - began < 5


def test_who_is_not_root_is_told_what_to_type(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    words = ["demo", "--headless", "--name", NAME, "--json", str(file)]
    program = (
        "import os, sys\nfrom cdnctl.lab.demo import main\n"
        f"os.seteuid(65534)\nsys.argv = ['cdnctl', *{words!r}]\nsys.exit(main({words[1:]!r}))"
    )
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert f"sudo cdnctl demo --headless --name {NAME} --json {file}" in done.stderr
    assert not file.exists()


def test_a_bpf_file_system_is_mounted_where_there_is_none() -> None:
    mounts = Path("/proc/mounts").read_text()
    demo = start(alone=True)
    wait_for(demo, "namespaces")
    demo.send_signal(signal.SIGTERM)
    said, _ = demo.communicate(timeout=20)
    assert demo.returncode == 128 + signal.SIGTERM, said
    assert remains() == []
    assert Path("/proc/mounts").read_text() == mounts


@pytest.mark.soak
def test_the_incident_holds_its_claims(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    demo = start("--json", str(file))
    said, _ = demo.communicate(timeout=240)
    report = json.loads(file.read_text())
    assert report["finished"], said
    assert [claim for claim in report["claims"] if claim["gate"] and not claim["holds"]] == [], said
    assert demo.returncode == 0
    assert remains() == []
