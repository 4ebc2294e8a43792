"""`cdnctl demo`, run from outside, and what it leaves."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cdnctl import paths
from cdnctl.lab import netns, record
from cdnctl.lab.lab import START_S
from cdnctl.python import environment, python_module

NAME = "t-demo"


def start(*arguments: str, alone: bool = False, apart: bool = False) -> subprocess.Popen[str]:
    """A headless demo in a session of its own; `alone`: where no BPF file system is mounted; `apart`: what it
    says on stderr is not put to the rest.
    """
    unmounted = ["unshare", "-m", "sh", "-c", f'umount {paths.BPFFS} && exec "$@"', "sh"] if alone else []
    return subprocess.Popen(
        [*unmounted, *python_module("cdnctl", "demo", "--headless", "--name", NAME, *arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
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
