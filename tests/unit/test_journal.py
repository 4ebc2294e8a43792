"""The journal keeps every line, numbered, through restarts and torn writes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdnctl.engine.journal import Journal
from cdnctl.model import Actor, BlockPrefix, Outcome, SetWeights
from cdnctl.state import sharing

ACTOR = Actor(user="alice", uid=1000, pid=42, client="console")
COMMAND = BlockPrefix(prefix="198.51.100.0/24", reason='flood\nof "junk"')
DONE = Outcome(ok=True, text="blocked")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "ams1" / "journal.jsonl")


def test_a_line_says_who_what_why_and_how(journal: Journal) -> None:
    assert list(journal.read()) == []
    journal.append(ACTOR, COMMAND, DONE, None, {"expires_ns": 5}, "cdnctl block 198.51.100.0/24")
    (entry,) = journal.read()
    assert (entry.seq, entry.user, entry.uid, entry.pid, entry.client) == (1, "alice", 1000, 42, "console")
    assert entry.command["verb"] == "block"
    assert entry.command["prefix"] == "198.51.100.0/24"
    assert entry.reason == COMMAND.reason
    assert (entry.ok, entry.text) == (True, "blocked")
    assert (entry.before, entry.after) == (None, {"expires_ns": 5})
    assert entry.cli == "cdnctl block 198.51.100.0/24"
    assert entry.at.endswith("Z")
    assert len(journal.path.read_bytes().splitlines()) == 1
    assert journal.path.stat().st_mode & 0o007 == 0


def test_numbers_go_on_after_a_restart(journal: Journal) -> None:
    for expected in range(1, 4):
        assert Journal(journal.path).append(ACTOR, SetWeights(weights={"a": 1}), DONE) == expected


def test_numbers_go_on_after_a_very_long_line(journal: Journal) -> None:
    journal.append(ACTOR, COMMAND, DONE)
    journal.append(ACTOR, COMMAND, DONE, before=["x" * 1000] * 300)
    assert journal.append(ACTOR, COMMAND, DONE) == 3


@given(st.integers(1, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_last_line_loses_nothing_else(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "torn.jsonl")
    journal.path.unlink(missing_ok=True)
    journal.append(ACTOR, COMMAND, DONE)
    whole = journal.path.stat().st_size
    journal.append(ACTOR, COMMAND, DONE)
    size = journal.path.stat().st_size
    os.truncate(journal.path, max(size - cut, whole))
    kept = [entry.seq for entry in journal.read()]
    assert kept in ([1], [1, 2])  # cut by its newline alone, a line is still whole
    assert journal.append(ACTOR, COMMAND, DONE) == kept[-1] + 1
    assert [entry.seq for entry in journal.read()] == [*kept, kept[-1] + 1]


def test_garbage_between_lines_is_skipped(journal: Journal) -> None:
    journal.append(ACTOR, COMMAND, DONE)
    with journal.path.open("ab") as file:
        file.write(b"\xff\x00 not json\n{}\n\n")
    assert journal.append(ACTOR, COMMAND, DONE) == 2
    assert [entry.seq for entry in journal.read()] == [1, 2]


def test_processes_do_not_share_a_number(journal: Journal) -> None:
    script = """
import sys
from pathlib import Path
from cdnctl.engine.journal import Journal
from cdnctl.model import Actor, Disarm, Outcome
for _ in range(20):
    Journal(Path(sys.argv[1])).append(Actor(user="x", uid=0, pid=1), Disarm(), Outcome(ok=True, text=""))
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, journal.path]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert [entry.seq for entry in journal.read()] == list(range(1, 41))


def test_a_full_disk_is_an_error(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append(ACTOR, COMMAND, DONE)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            journal.append(ACTOR, COMMAND, DONE)


def test_every_line_is_json_for_other_tools(journal: Journal) -> None:
    journal.append(ACTOR, COMMAND, DONE)
    assert msgspec.json.decode(journal.path.read_bytes())["command"]["reason"] == COMMAND.reason


@pytest.mark.parametrize(("mode", "group"), [(0o640, 4242), (0o644, 0)])
def test_one_that_was_rotated_is_followed_by_another_for_the_same_people(
    tmp_path: Path, mode: int, group: int
) -> None:
    """Under a service manager's umask, too."""
    made = Journal(tmp_path / "journal.jsonl")
    made.append(ACTOR, COMMAND, DONE)
    os.chown(made.path, -1, group)
    made.path.chmod(mode)
    made.append(ACTOR, COMMAND, DONE)
    made.path.rename(tmp_path / "journal.jsonl.1")
    before = os.umask(0o077)
    try:
        made.append(ACTOR, COMMAND, DONE)
    finally:
        os.umask(before)
    found = made.path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, group)


def test_a_first_one_is_for_the_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "operators", lambda: 4242)
    before = os.umask(0o077)
    try:
        Journal(tmp_path / "journal.jsonl").append(ACTOR, COMMAND, DONE)
    finally:
        os.umask(before)
    found = (tmp_path / "journal.jsonl").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, 4242)
