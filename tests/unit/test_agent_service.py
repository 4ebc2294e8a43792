"""What the service manager hears, what the log has, and the unit that the agent is started by."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_double import EngineDouble, ServedDouble, serving

from cdnctl import paths
from cdnctl.agent import logs, service
from cdnctl.cli import main, unit
from cdnctl.model import Frame, Reload

WATCHDOG_S = 0.2


@pytest.fixture
def manager(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager that waits `WATCHDOG_S` for a notice of life."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(run_dir / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(run_dir / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.setattr("cdnctl.agent.server.FRAME_INTERVAL_S", 0.02)
        yield sock


def heard(manager: socket.socket, seconds: float) -> list[str]:
    """Every line that comes in that time."""
    until, lines = time.monotonic() + seconds, list[str]()
    while (left := until - time.monotonic()) > 0:
        manager.settimeout(left)
        try:
            lines += manager.recv(4096).decode().splitlines()
        except TimeoutError:
            break
    return lines


def heard_until(manager: socket.socket, line: str, times: int = 1) -> list[str]:
    """What comes until this line has come so often, however slow the machine."""
    deadline, lines = time.monotonic() + 15, list[str]()
    while lines.count(line) < times:
        assert time.monotonic() < deadline, lines
        lines += heard(manager, 0.02)
    return lines


def test_notices_of_life_come_with_frames_only(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise ZeroDivisionError

    began = time.monotonic()
    with serving() as served:
        lines = heard_until(manager, "WATCHDOG=1", 8)
        times = (time.monotonic() - began) / WATCHDOG_S
        assert lines.count("WATCHDOG=1") <= 4 * times + 2, "some in each time, not one a frame"
        assert "STATUS=edge ams1: 0 of 1 CDNs in; attached to eth0" in lines
        with monkeypatch.context() as patch:
            patch.setattr(served.engine, "frame", fail)
            assert failed.wait(15)
            heard(manager, 0.05)  # those of the frames before
            assert heard(manager, 1.5 * WATCHDOG_S) == [], "no frame, no life"
        heard_until(manager, "WATCHDOG=1")


def test_an_engine_that_hangs_falls_silent(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()

    def hang() -> Frame:
        hangs.set()
        time.sleep(3 * WATCHDOG_S)
        return EngineDouble.frame(served.engine)

    with serving() as served:
        heard_until(manager, "WATCHDOG=1")
        monkeypatch.setattr(served.engine, "frame", hang)
        assert hangs.wait(15)
        heard(manager, 0.05)  # those of the frames before
        assert "WATCHDOG=1" not in heard(manager, 1.5 * WATCHDOG_S)


def test_reloads_are_told(manager: socket.socket) -> None:
    with serving() as served, served.client() as client:
        assert client.request(Reload(dry_run=True)).ok
        assert not {"RELOADING=1", "READY=1"} & set(heard(manager, 0.2))
        before_us = time.monotonic_ns() // 1000
        assert client.request(Reload()).ok
        said = heard_until(manager, "READY=1")
    lines = [line for line in said if not line.startswith(("WATCHDOG", "STATUS"))]
    assert [line.partition("=")[0] for line in lines] == ["RELOADING", "MONOTONIC_USEC", "READY"]
    assert before_us <= int(lines[1].partition("=")[2]) <= time.monotonic_ns() // 1000


def test_another_process_watchdog_is_not_ours() -> None:
    assert service.watchdog_s({}) == 0.0
    assert service.watchdog_s({"WATCHDOG_USEC": "junk"}) == 0.0
    assert service.watchdog_s({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}) == 0.0
    assert service.watchdog_s({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}) == 2.0


# --- the log -----------------------------------------------------------------------------------------


def record(text: str, level: int = logging.WARNING, few: str = "", **values: object) -> logging.LogRecord:
    made = logging.LogRecord("cdnctl.agent", level, "", 0, text, None, None)
    made.__dict__.update(logs.fields(few, **values))
    return made


def test_a_line_for_people() -> None:
    formatter = logs.TextFormatter(under_systemd=False)
    line = formatter.format(record("blocked 10.0.0.0/8", user="alice", reason='a "flood"', uid=1000))
    assert line[8:] == ' WARNING blocked 10.0.0.0/8  user=alice reason="a \\"flood\\"" uid=1000'


def test_each_line_has_its_priority_under_systemd() -> None:
    formatter = logs.TextFormatter(under_systemd=True)
    try:
        raise ValueError("why\x1b[2J")
    except ValueError:
        made = record("internal error", logging.ERROR)
        made.exc_info = sys.exc_info()
    lines = formatter.format(made).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<3>ERROR ") for line in lines)
    assert not any("\x1b" in line for line in lines)
    assert formatter.format(record("x", logging.INFO)).startswith("<6>INFO ")


def test_an_object_for_programs() -> None:
    formatter = logs.JsonFormatter("ams1", under_systemd=False)
    line = formatter.format(record("two\nlines", user="alice", uid=7, path=Path("/x")))
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("at").endswith("Z")
    assert found == {
        "level": "warning",
        "edge": "ams1",
        "text": "two\nlines",
        "user": "alice",
        "uid": 7,
        "path": "/x",
    }
    assert logs.JsonFormatter("ams1", under_systemd=True).format(record("x")).startswith('<4>{"at"')


def test_the_journal_is_known_by_its_inode(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        there = os.fstat(stream.fileno())
        assert logs.is_journal(stream, {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"})
        assert not logs.is_journal(stream, {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino + 1}"})
        assert not logs.is_journal(stream, {})
    assert not logs.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_swarms_of_one_kind_are_thinned() -> None:
    now_s = 0.0
    few = logs.Few(lambda: now_s)
    assert [few.filter(record("x", few="rate")) for _ in range(50)] == [True] * 5 + [False] * 45
    assert few.filter(record("x", few="group"))
    assert few.filter(record("x"))
    now_s = logs.FEW_S + 1
    told = record("x", few="rate")
    assert few.filter(told)
    assert told.fields == {"left_out_before": 45}  # type: ignore[attr-defined]


def test_changes_are_logged_with_who_and_what(served: ServedDouble, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cdnctl"), served.client(client="test") as client:
        client.request(Reload(dry_run=True))
    said = next(each.fields for each in caplog.records if getattr(each, "fields", {}).get("verb"))
    assert said == {
        "user": said["user"],
        "uid": os.getuid(),
        "pid": os.getpid(),
        "client": "test",
        "verb": "reload",
        "outcome": "planned",
    }


# --- the unit ----------------------------------------------------------------------------------------


def test_the_unit_is_printed_with_our_paths(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "with blank" / "cdnctl"
    program.parent.mkdir()
    program.touch()
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert main(["unit"]) == 0
    printed = capsys.readouterr().out
    assert f'\nExecStart="{program}" agent --config /etc/cdnctl/%i.toml\n' in printed
    assert "\nPrivateTmp=no\n" in printed, "it would not find itself"
    shipped = (paths.share_dir() / unit.UNIT).read_text()
    assert "\nExecStart=/usr/local/bin/cdnctl agent " in shipped


@pytest.mark.parametrize(
    ("places", "home", "temporary"),
    [
        (["/usr/lib/x", "/opt/cdnctl"], "yes", "yes"),
        (["/home/alice/cdnctl", "/usr"], "read-only", "yes"),
        (["/tmp/x", "/usr"], "yes", "no"),
    ],
)
def test_what_the_sandbox_must_leave_visible(
    monkeypatch: pytest.MonkeyPatch, places: list[str], home: str, temporary: str
) -> None:
    share = paths.share_dir()
    monkeypatch.setattr(paths, "share_dir", lambda: share)
    monkeypatch.setattr(paths, "PACKAGE", Path(places[0]))
    monkeypatch.setattr(sys, "prefix", places[1])
    printed = unit.unit("/usr/local/bin/cdnctl")
    assert f"\nProtectHome={home}\n" in printed
    assert f"\nPrivateTmp={temporary}\n" in printed


needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="package systemd is missing")


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=30, env=environment
    )


@needs_systemd
def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    printed = tmp_path / unit.UNIT
    printed.write_text(unit.unit(str(Path(unit.__file__).parents[1] / "__main__.py")))
    done = analyze("verify", str(printed))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for file in (printed, paths.share_dir() / unit.UNIT):
        done = analyze("security", "--offline=yes", "--threshold=30", str(file))
        assert done.returncode == 0, done.stdout[-200:]
        assert "Overall exposure level" in done.stdout
    weaker = tmp_path / "weaker@.service"
    weaker.write_text(
        printed.read_text().replace("ProtectSystem=strict\n", "").replace("NoNewPrivileges=yes\n", "")
    )
    assert analyze("security", "--offline=yes", "--threshold=30", str(weaker)).returncode != 0
