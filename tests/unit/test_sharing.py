"""What operators may read is looked at as one of them, whatever the agent's umask."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from recordings import incident
from test_nat_log import CONFIG, LAYOUT, binding

from cdnctl import paths
from cdnctl.agent.recorder import Recorder
from cdnctl.engine.nat_log import NatLog
from cdnctl.model import Actor, Record
from cdnctl.state import sharing

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a file to another group")

ROOT = Actor(user="root", uid=0, pid=1)
GROUP, NOBODY = 1, 65534
UNIT = paths.share_dir() / "cdnctl@.service"


def unit_mode(key: str) -> int:
    """A mode that the shipped unit asks for."""
    (found,) = (line for line in UNIT.read_text().splitlines() if line.startswith(f"{key}="))
    return int(found.partition("=")[2], 8)


def readable(path: Path, group: int) -> bool:
    """Whether a user of that group, who is not root, may read it."""
    done = subprocess.run(
        ["cat", path], user=NOBODY, group=group, extra_groups=[], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture(params=[0o022, 0o077], ids=["umask 022", "umask 077"])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture(params=["the unit's directory", "none yet"])
def state(
    request: pytest.FixtureRequest, _umask: None, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where all edges' directories are: as the service manager makes it, or to be made."""
    state = run_dir / "state"
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(state))
    monkeypatch.setattr(paths, "OPERATORS_GROUP", grp.getgrgid(GROUP).gr_name)
    if request.param != "none yet":
        state.mkdir()
        state.chmod(unit_mode("StateDirectoryMode"))
    sharing.journal("ams1")
    return state


def test_operators_read_the_journal_the_recordings_and_the_log_of_ports(state: Path) -> None:
    made = Recorder("ams1")
    made.start(Record(path="x.rec"), ROOT)
    made.take(incident()[0])
    made.stop()
    made.close()
    log = NatLog(paths.nat_log_path("ams1"))
    log.write([binding()], 0, CONFIG, LAYOUT)
    log.close()
    directory = paths.recordings_dir("ams1")
    for path in (paths.journal_path("ams1"), directory / "x.rec", paths.nat_log_path("ams1")):
        assert readable(path, GROUP), path
        assert not readable(path, NOBODY), path
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    for path in (directory, directory.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_what_is_not_shared_stays_roots(state: Path) -> None:
    other = paths.state_dir("ams1") / "state.toml"
    descriptor = os.open(other, os.O_WRONLY | os.O_CREAT, 0o600)
    os.close(descriptor)
    sharing.journal("ams1")
    assert not readable(other, GROUP)


def test_what_an_earlier_version_left_closed_is_opened(state: Path) -> None:
    journal = paths.journal_path("ams1")
    journal.chmod(0o600)
    journal.parent.chmod(0o700)
    assert not readable(journal, GROUP)
    sharing.journal("ams1")
    assert readable(journal, GROUP)


def test_a_journal_that_is_a_link_is_not_followed(state: Path, run_dir: Path) -> None:
    journal, target = paths.journal_path("ams1"), run_dir / "precious"
    target.write_text("")
    target.chmod(0o600)
    journal.unlink()
    journal.symlink_to(target)
    sharing.journal("ams1")
    assert (target.stat().st_gid, stat.S_IMODE(target.stat().st_mode)) == (0, 0o600)


def test_a_directory_that_is_only_called_recordings_is_left_alone(state: Path, run_dir: Path) -> None:
    foreign = run_dir / "home" / paths.RECORDINGS
    foreign.mkdir(parents=True)
    foreign.chmod(0o711)
    made = Recorder("ams1")
    made.start(Record(path=str(foreign / "mine.rec")), ROOT)
    made.stop()
    made.close()
    assert (foreign.stat().st_gid, stat.S_IMODE(foreign.stat().st_mode)) == (0, 0o711)
    assert (foreign / "mine.rec").stat().st_gid == 0
