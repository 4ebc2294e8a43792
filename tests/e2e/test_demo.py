"""`cdnctl demo` from outside: however it ends, nothing stays; played to its end, its claims hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demos import NAME, end_without_a_trace, remains, start, wait_for, wait_for_agent

from cdnctl.python import environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


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
