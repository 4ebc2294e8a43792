"""The agent as its unit has it run: with those capabilities, files and system calls, and no others.

Everything is taken out of the unit itself, as `cdnctl unit` prints it here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import confined
import pytest
from labs import Labs
from live import Kernel, ask, frame, left_behind, programs, run, wait_for

from cdnctl import paths
from cdnctl.cli import unit
from cdnctl.lab import processes
from cdnctl.lab.lab import Lab
from cdnctl.model import BlockPrefix, Drain, Reload, Unblock, Undrain

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="package systemd is missing")

WATCHDOG_S = 4.0
READY_S = 15.0
CAPABILITIES = {"net_admin": 12, "sys_ptrace": 19, "chown": 0, "perfmon": 38, "bpf": 39}
"""linux/capability.h, for those that the unit may have at most."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the unit's directories and the notices are; paths of sockets must be short."""
    return tmp_path_factory.mktemp("unit")


@pytest.fixture(scope="module")
def unit_file(place: Path) -> Path:
    """What `cdnctl unit` prints for this tree."""
    file = place / unit.UNIT
    text = unit.unit(str(paths.PACKAGE / "__main__.py"))
    # the lab's own files, and the notices' socket, are in /tmp
    file.write_text(text.replace("PrivateTmp=yes", "PrivateTmp=no"))
    return file


@pytest.fixture(scope="module")
def bare(labs: Labs) -> Iterator[Lab]:
    """The lab without an agent."""
    lab = labs.fresh(agent=False)
    yield lab
    lab.quiet()


class Manager:
    """Starts the agent as the unit says, and hears its notices."""

    def __init__(self, lab: Lab, unit_file: Path, place: Path) -> None:
        self.lab, self._unit, self._place = lab, unit_file, place
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = place / "notify"
        address.unlink(missing_ok=True)
        self._sock.bind(str(address))
        self._heard: list[str] = []
        self.log = place / "log"
        for name in ("cache", "state"):
            (place / name).mkdir(exist_ok=True)
        self._environment = {
            "CDNCTL_RUN_DIR": str(paths.run_dir()),
            "CDNCTL_STATE_DIR": str(lab.directory / "state"),
            "CDNCTL_CACHE_DIR": str(place / "cache"),
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
            "WATCHDOG_PID": "",
        }

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Start it, until it is ready."""
        self.lab.stop_agent()
        (self.lab.directory / "state").mkdir(exist_ok=True)
        self._heard.clear()
        (line,) = confined.settings(self._unit, "ExecStart")
        words = [word.replace("/etc/cdnctl/%i.toml", str(self.lab.config_path)) for word in line.split()]
        assert str(self.lab.config_path) in words
        with self.log.open("ab") as log:
            self.lab.agent = processes.start(
                confined.command(self._unit, [*words, *more]),
                namespace=self.lab.topology.edge,
                stdout=log,
                stderr=log,
                extra=self._environment,
            )
        assert self.hears("READY=1", READY_S), self.log.read_text()[-2000:]
        return self.lab.agent

    def hears(self, wanted: str, seconds: float) -> bool:
        """Does such a line come in that time, or did since the last such question?"""
        until = time.monotonic() + seconds
        while not any(line.startswith(wanted) for line in self._heard):
            if (left := until - time.monotonic()) <= 0:
                return False
            self._sock.settimeout(left)
            with contextlib.suppress(TimeoutError):
                self._heard += self._sock.recv(4096).decode().splitlines()
        at = next(n for n, line in enumerate(self._heard) if line.startswith(wanted))
        del self._heard[at]
        return True

    def close(self) -> None:
        self._sock.close()


@pytest.fixture(scope="module")
def manager(bare: Lab, unit_file: Path, place: Path) -> Iterator[Manager]:
    """Of the lab's edge."""
    made = Manager(bare, unit_file, place)
    yield made
    bare.stop_agent()
    made.close()


def status_of(process: subprocess.Popen[bytes]) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_works_with_just_that(manager: Manager, unit_file: Path) -> None:
    lab, agent = manager.lab, manager.start()
    status = status_of(agent)
    wanted = sum(1 << CAPABILITIES[name] for name in confined.capabilities(unit_file))
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {wanted}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert set(programs(lab)) == set(lab.topology.edge_links)
    assert all(each.mode == "native" for each in frame(lab).interfaces)

    traffic = lab.start_clients(rate=100)
    outcome = ask(lab, BlockPrefix(prefix="198.51.100.99"))
    assert not outcome.warnings, "something about the box could not be read"
    ask(lab, Unblock(prefix="198.51.100.99"))
    ask(lab, Drain(cdn="aurora"))
    ask(lab, Undrain(cdn="aurora"))
    assert manager.hears("WATCHDOG=1", WATCHDOG_S / 2)
    assert manager.hears("STATUS=edge", 7.0)
    assert ask(lab, Reload(program=True)).ok, "compiled and swapped in there, too"
    assert manager.hears("RELOADING=1", 1.0)
    assert manager.hears("READY=1", 1.0)
    done = run(lab, [sys.executable, "-m", "cdnctl", "who", "--edge", lab.name])
    assert done.returncode == 0, done.stderr
    traffic.check()
    wait_for("requests through the edge", 10, lambda: frame(lab).totals.forwarded_pps > 100)


@pytest.mark.soak
def test_a_stop_leaves_the_data_path_and_a_start_takes_it_over(manager: Manager) -> None:
    lab = manager.lab
    if lab.agent is None:  # the soak's alone, it is the first here
        manager.start()
    before, counted = programs(lab), Kernel(lab).accounts()
    assert lab.agent is not None
    agent, log_bytes = lab.agent, manager.log.stat().st_size
    agent.send_signal(signal.SIGTERM)  # as KillMode=mixed has it
    assert manager.hears("STOPPING=1", 5.0)
    assert agent.wait(10) == 0
    assert programs(lab) == before, "traffic goes on"
    restarted = manager.start()
    wait_for("its word", 5, lambda: "taken over as it was" in manager.log.read_text()[log_bytes:])
    assert programs(lab) == before
    after = Kernel(lab).accounts()
    assert all(after[name] >= count for name, count in counted.items())
    assert restarted.poll() is None


@pytest.mark.soak
def test_detach_on_exit_takes_everything_along(manager: Manager) -> None:
    lab = manager.lab
    lab.stop_agent()
    agent = manager.start("--detach-on-exit")
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(20) == 0
    assert left_behind(lab) == []


# --- without the lab ---------------------------------------------------------------------------------

_SSHD = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, b"sshd", 0, 0, 0)  # PR_SET_NAME
listening = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listening.getsockname())
session = listening.accept()[0]
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""
_PEERS = "from cdnctl.defence import protected; print(protected.ssh_peers())"


@pytest.fixture
def sshd() -> Iterator[None]:
    """A process of that name with an operator logged in, as root with all that root may."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SSHD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline().strip().isdecimal()
    try:
        yield
    finally:
        process.communicate()


def peers_seen(unit_file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*confined.setpriv(unit_file), sys.executable, "-c", _PEERS],
        env=processes.environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.usefixtures("sshd")
def test_who_is_logged_in_is_seen_with_those_capabilities(unit_file: Path, tmp_path: Path) -> None:
    done = peers_seen(unit_file)
    assert "127.0.0.1" in done.stdout, done.stderr
    less = tmp_path / "less.service"
    less.write_text(unit_file.read_text().replace(" CAP_SYS_PTRACE", ""))
    done = peers_seen(less)
    assert "PermissionError" in done.stderr, "it must not look as if nobody were logged in"


def test_a_call_that_the_unit_has_not_is_deadly(unit_file: Path) -> None:
    """What the tests above rest on."""
    script = "import os; print(os.getpid(), flush=True); os.sched_setaffinity(0, {0}); print('alive')"
    command = [sys.executable, confined.__file__, str(unit_file), "calls", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ})
    assert done.returncode == -signal.SIGSYS
    assert "alive" not in done.stdout
