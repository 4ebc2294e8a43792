"""The agent's process: privileges, lock, sockets, and what is said when it cannot start."""

from __future__ import annotations

import grp
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdnctl import paths
from cdnctl.agent import edge, main, peer, process, service
from cdnctl.agent.client import Client, ensure_agent, find_edge
from cdnctl.agent.start import log_path
from cdnctl.errors import AgentRuns, CdnctlError, NoAgent, sudo_line
from cdnctl.model import Stop
from cdnctl.state import sharing

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")


def test_one_agent_an_edge(run_dir: Path) -> None:
    taken = pytest.raises(AgentRuns, match=rf"edge ams1 already \(pid {os.getpid()}\)")
    with process.sole_agent("ams1"), process.sole_agent("fra1"), taken:
        process.sole_agent("ams1").__enter__()
    with process.sole_agent("ams1"):
        pass


def test_only_the_agent_may_take_the_lock(run_dir: Path) -> None:
    lock = paths.lock_path("ams1")
    lock.touch(0o644)
    with process.sole_agent("ams1"):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        lock.write_text("")
        with pytest.raises(AgentRuns) as raised:
            process.sole_agent("ams1").__enter__()
    assert "kill" not in str(raised.value)


def test_what_an_agent_was_started_with_is_known(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert edge.start_of("ams1") is None
    assert edge.config_of("ams1") == paths.config_path()
    process.note_start("ams1", Path("/srv/ams1.toml"))
    assert stat.S_IMODE(paths.start_path("ams1").stat().st_mode) == 0o644
    assert edge.config_of("ams1") == Path("/srv/ams1.toml")
    paths.config_path().write_text('[edge]\nname = "ams1"\n')
    assert edge.config_of("ams1") == paths.config_path(), "CDNCTL_CONFIG names one of this edge"
    monkeypatch.delenv("CDNCTL_CONFIG")
    assert edge.config_of("ams1") == Path("/srv/ams1.toml")
    paths.start_path("ams1").write_text("half a")
    assert edge.start_of("ams1") is None


def test_the_run_directory_can_be_looked_into(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(run_dir / "made"))
    before = os.umask(0o077)
    try:
        process.make_run_dir()
    finally:
        os.umask(before)
    assert stat.S_IMODE((run_dir / "made").stat().st_mode) == 0o755
    (run_dir / "made").chmod(0o750)
    process.make_run_dir()
    assert stat.S_IMODE((run_dir / "made").stat().st_mode) == 0o750, "the operator's choice stays"


def test_sockets_replace_stale_ones_and_go_away(run_dir: Path) -> None:
    paths.socket_path("ams1").touch()
    with process.listening("ams1") as sockets:
        assert set(sockets) == {"operate", "view"}
        for path in (paths.socket_path("ams1"), paths.view_socket_path("ams1")):
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert not mode & stat.S_IRWXO, "others may not even watch"
    assert list(run_dir.glob("*.sock")) == []


def test_a_run_directory_that_cannot_be(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_dir / "file").touch()
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(run_dir / "file" / "sub"))
    with pytest.raises(CdnctlError, match="Not a directory"):
        process.sole_agent("ams1").__enter__()
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(run_dir / ("long" * 30)))
    (run_dir / ("long" * 30)).mkdir()
    with pytest.raises(CdnctlError, match="too long"):
        process.listening("ams1").__enter__()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(run_dir: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"\0cdnctl-test-{os.getpid()}" if abstract else str(run_dir / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        service.notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    service.notify("READY=1")  # nobody listens: no matter
    monkeypatch.delenv("NOTIFY_SOCKET")
    service.notify("READY=1")


def test_a_namespace_that_is_missing() -> None:
    with pytest.raises(CdnctlError, match=r"network namespace 'cdnctl-none': No such file"):
        process.enter_netns("cdnctl-none")


def test_the_peer_is_named_by_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = peer.actor(peer.credentials(ours), "", "operate")
    assert (found.uid, found.pid, found.client) == (os.getuid(), os.getpid(), "unnamed")


def test_the_sudo_line_works_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CDNCTL_EDGE", "CDNCTL_CONFIG", "CDNCTL_RUN_DIR", "CDNCTL_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    typed = ["cdnctl", "block", "198.51.100.7", "--reason", "SYN flood"]
    assert sudo_line(typed) == "sudo cdnctl block 198.51.100.7 --reason 'SYN flood'"
    assert sudo_line(["/opt/x/bin/cdnctl", "who"]) == "sudo /opt/x/bin/cdnctl who"
    assert sudo_line(["/x/cdnctl/__main__.py", "who"]) == f"sudo {sys.executable} -m cdnctl who"
    monkeypatch.setenv("CDNCTL_EDGE", "ams1")
    assert sudo_line(["cdnctl", "who"]) == "sudo CDNCTL_EDGE=ams1 cdnctl who"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert sudo_line(["cdnctl", "who"]) == "cdnctl who"


def test_a_broken_configuration_is_told_whole(run_dir: Path) -> None:
    file = run_dir / "cdnctl.toml"
    file.write_text('[edge]\nname = "AMS 1"\nspeed = 3\n')
    with pytest.raises(CdnctlError) as raised:
        main.read(file)
    for mistake in ("edge.name", "edge.speed", "edge.interfaces", "cdn: one or more"):
        assert mistake in raised.value.message


@needs_root
def test_what_keeps_a_background_agent_from_starting_is_passed_on(run_dir: Path) -> None:
    file = run_dir / "cdnctl.toml"
    file.write_text('[edge]\nname = "ams1"\nspeed = 3\n')
    log_path("ams1").write_text("written earlier\n")
    with pytest.raises(CdnctlError, match=r"edge\.speed") as raised:
        ensure_agent(file, timeout_s=20)
    assert "written earlier" not in raised.value.message
    log = log_path("ams1").read_text()
    assert log.startswith("written earlier\n"), "an agent that runs may be writing there"
    assert "edge.speed" in log
    assert list(run_dir.glob("*.sock")) == []
    with pytest.raises(CdnctlError, match="no such file"):
        ensure_agent(run_dir / "none.toml", timeout_s=20)


_AGENT = """
import pathlib, sys, time
sys.path.insert(0, sys.argv[1])
from engine_double import EngineDouble
from cdnctl.agent import main
class Slow(EngineDouble):
    def close(self, *, detach=False):
        time.sleep(float(sys.argv[3]))
        super().close(detach=detach)

main._start_engine = lambda config: Slow()
sys.exit(main.run(pathlib.Path(sys.argv[2])))
"""


@contextmanager
def running_agent(run_dir: Path, close_s: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """`cdnctl agent` around the test double, once it told its service manager that it is ready."""
    file = run_dir / "cdnctl.toml"
    file.write_text((paths.share_dir() / "cdnctl.toml.example").read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        (run_dir / "notify").unlink(missing_ok=True)
        manager.bind(str(run_dir / "notify"))
        manager.settimeout(20)
        process = subprocess.Popen(
            [sys.executable, "-c", _AGENT, str(Path(__file__).parent), str(file), str(close_s)],
            env={**os.environ, "NOTIFY_SOCKET": str(run_dir / "notify")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            yield process
        finally:
            process.kill()
            process.communicate()


@needs_root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_agent_and_leaves_the_data_path(run_dir: Path, number: signal.Signals) -> None:
    with running_agent(run_dir) as process:
        process.send_signal(number)
        out, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "engine closed, detach=False" in out
    assert "left in force" in log
    assert list(run_dir.glob("*.sock")) == []


@needs_root
def test_a_watchdogs_abort_shows_where_it_hung(run_dir: Path) -> None:
    with running_agent(run_dir) as process:
        process.send_signal(signal.SIGABRT)
        _, log = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGABRT
    assert "Current thread" in log
    assert "in run_forever" in log


@needs_root
def test_a_hangup_has_it_reload(run_dir: Path) -> None:
    with running_agent(run_dir) as process:
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        for line in process.stderr:
            if "reloaded: cdn corona is new" in line:
                break
        assert process.poll() is None
        process.terminate()
        out, _ = process.communicate(timeout=20)
    assert "engine closed, detach=False" in out


@needs_root
def test_a_second_signal_does_not_cut_a_detach_short(run_dir: Path) -> None:
    with running_agent(run_dir, close_s=1.0) as process:
        with Client(find_edge()) as client:
            assert client.request(Stop(detach=True)).ok
        deadline = time.monotonic() + 0.6
        while time.monotonic() < deadline:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                process.send_signal(number)
            time.sleep(0.01)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "engine closed, detach=True" in out


@needs_root
def test_stop_may_detach(run_dir: Path) -> None:
    with running_agent(run_dir) as process:
        with Client(find_edge()) as client:
            assert client.request(Stop(detach=True)).ok
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "engine closed, detach=True" in out


@needs_root
def test_a_killed_agent_leaves_nothing_in_the_way(run_dir: Path) -> None:
    with running_agent(run_dir) as process:
        process.kill()
        process.wait()
    assert len(list(run_dir.glob("*.sock"))) == 2
    with pytest.raises(NoAgent):
        find_edge()
    with running_agent(run_dir):
        path = find_edge()
        assert ensure_agent(run_dir / "cdnctl.toml") == path, "the one that runs is taken"


@needs_root
@pytest.mark.parametrize("verb", ["agent", "attach"])
def test_who_is_not_root_gets_the_line_to_type(run_dir: Path, verb: str) -> None:
    config = paths.share_dir() / "cdnctl.toml.example"
    done = subprocess.run(
        [sys.executable, "-m", "cdnctl", verb, "-c", str(config)],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"-m cdnctl {verb} -c {config}" in done.stderr
    assert "sudo " in done.stderr
    assert "Traceback" not in done.stderr


def test_operators_may_read_the_journal_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "OPERATORS_GROUP", grp.getgrgid(1).gr_name)
    directory = paths.state_dir("ams1")
    directory.mkdir(parents=True, mode=0o750)
    (directory / "state.toml").write_text("")
    sharing.journal("ams1")
    sharing.journal("ams1")
    journal = paths.journal_path("ams1")
    assert (journal.stat().st_gid, directory.stat().st_gid) == (1, 1)
    assert stat.S_IMODE(journal.stat().st_mode) == 0o640
    assert (directory / "state.toml").stat().st_gid != 1


def test_without_their_group_nothing_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(paths, "OPERATORS_GROUP", "no-such-group")
    sharing.journal("ams1")
    assert not list(tmp_path.iterdir())
