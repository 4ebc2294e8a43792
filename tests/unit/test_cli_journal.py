"""`cdnctl journal`: which lines it shows, how, and that it follows what comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import engine_double
import pytest
from engine_double import EngineDouble, ServedDouble, serving

from cdnctl import paths
from cdnctl.cli import journal_lines, main, pages
from cdnctl.cli.records import moment
from cdnctl.engine.journal import Journal
from cdnctl.engine.queries import Queries
from cdnctl.model import (
    Actor,
    AnyCommand,
    BlockPrefix,
    Drain,
    Outcome,
    ReadJournal,
    SetWeights,
    Unblock,
)

EDGE = "ams1"
ALICE = Actor(user="alice", uid=1000, pid=1, client="console")
BOB = Actor(user="bob as root", uid=0, pid=2, client="cli")
DONE = Outcome(ok=True, text="done")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Four lines: of two users, about two CDNs, one of them refused."""
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("CDNCTL_EDGE", EDGE)
    made = Journal(paths.state_dir(EDGE) / "journal.jsonl")
    why = "SYN flood [/b] \x1b[31m"
    made.append(ALICE, BlockPrefix(prefix="10.66.0.0/16", reason=why), DONE, cli="cdnctl block 10.66.0.0/16")
    made.append(BOB, SetWeights(weights={"aurora": 60, "borealis": 40}), DONE, cli="cdnctl weight aurora=60")
    refused = Outcome(ok=False, text="10.1.0.0/16 is not blocked\nsee `cdnctl blocks`")
    made.append(ALICE, Unblock(prefix="10.1.0.0/16"), refused, cli="cdnctl unblock 10.1.0.0/16")
    made.append(BOB, Drain(cdn="corona"), Outcome(ok=True, text="drained corona"), cli="cdnctl drain corona")
    return made


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> list[int]:
    """Numbers of the lines that are shown."""
    capsys.readouterr()
    assert main(["journal", "--json", *words]) == 0
    return [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        ((), [1, 2, 3, 4]),
        (("--user", "alice"), [1, 3]),
        (("--user", "bob"), [2, 4]),
        (("--user", "bob as root"), [2, 4]),
        (("--user", "root"), []),
        (("--user", "alice", "--user", "bob"), [1, 2, 3, 4]),
        (("--verb", "block", "--verb", "drain"), [1, 4]),
        (("--cdn", "corona"), [4]),
        (("--cdn", "borealis"), [2]),
        (("--grep", "syn.FLOOD"), [1]),
        (("--grep", "10[.]"), [1, 3]),
        (("--failed",), [3]),
        (("--user", "bob", "--verb", "block"), []),
        (("-n", "2"), [3, 4]),
        (("-n", "1", "--user", "alice"), [3]),
        (("--since", "1h"), [1, 2, 3, 4]),
        (("--until", "1h"), []),
        (("--since", "2020-01-01", "--until", "2020-01-02"), []),
    ],
)
def test_filters(
    journal: Journal, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], seqs: list[int]
) -> None:
    assert shown(capsys, *words) == seqs


def test_lines_lie_within_their_times(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    second = list(journal.read())[1]
    assert shown(capsys, "--since", second.at) == [2, 3, 4]
    assert shown(capsys, "--until", second.at) == [1, 2]
    assert shown(capsys, "--since", second.at, "--until", second.at) == [2]


def test_a_table_for_people_shows_outside_text_as_text(
    journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal"]) == 0
    out = capsys.readouterr().out
    assert "[/b]" in out
    assert "\x1b" not in out
    lines = out.strip().splitlines()
    assert lines[0].split()[:2] == ["no.", "when"]
    assert any("bob as root (cli)" in line and "drain corona" in line for line in lines)
    assert any("10.1.0.0/16 is not blocked" in line for line in lines)
    assert main(["journal", "--cdn", "nobody"]) == 0
    assert capsys.readouterr().out == "no such line is in the journal\n"


def test_times_are_said_as_people_say_them() -> None:
    now_s, day_s = time.time(), 86400
    assert moment("2h") / 1e9 == pytest.approx(now_s - 7200, abs=2)
    assert moment("1d12h") / 1e9 == pytest.approx(now_s - 1.5 * day_s, abs=2)
    assert moment("2026-01-31T14:30:00Z") == 1769869800 * 10**9
    assert moment("2026-01-31T15:30:00+01:00") == moment("2026-01-31 14:30") == moment("2026-01-31T14:30:00Z")
    assert moment("2026-01-31") == 1769817600 * 10**9
    today_s = now_s // day_s * day_s
    assert moment("14:30") / 1e9 - today_s in (52200, 52200 + day_s)


@pytest.mark.parametrize(
    "words",
    [
        ("--verb", "nope"),
        ("--since", "yesterday"),
        ("--since", "25:99"),
        ("--until", "99999999999999999999d"),
        ("--until", "0000-00-00"),
        ("--grep", "("),
        ("-n", "0"),
        ("-n", "-1"),
        ("-n", "x"),
    ],
)
def test_wrong_usage_is_said(
    journal: Journal, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["journal", *words])
    assert ended.value.code == 2
    assert "expected" in (said := capsys.readouterr().err) or "no regular expression" in said


def test_no_journal_is_said_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path))
    assert main(["journal", "--edge", EDGE]) == 1
    assert str(paths.state_dir(EDGE) / "journal.jsonl") in capsys.readouterr().err


def test_damaged_lines_and_those_of_later_versions_are_no_end(
    journal: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    last = list(journal.read())[-1]
    with journal.path.open("ab") as file:
        file.write(b'{"seq": 5, "torn\n\xff\xfe\n')
        line = json.dumps({**json.loads(journal.path.read_bytes().splitlines()[3]), "seq": 5, "later": [1]})
        file.write(line.encode() + b"\n")
    assert last.seq == 4
    assert shown(capsys) == [1, 2, 3, 4, 5]


def test_it_follows_also_into_another_file(journal: Journal) -> None:
    """Line by line as they come, a torn one once it is whole, and a new file from its beginning."""
    command = [sys.executable, "-m", "cdnctl", "journal", "-f", "--json", "--user", "alice"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    watchdog = threading.Timer(20, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None

        def next_seq() -> int:
            return int(json.loads(process.stdout.readline())["seq"])  # type: ignore[union-attr]

        assert [next_seq(), next_seq()] == [1, 3]
        journal.append(BOB, Drain(cdn="aurora"), DONE)
        journal.append(ALICE, Drain(cdn="aurora"), DONE)
        assert next_seq() == 6
        line = json.dumps({**json.loads(journal.path.read_bytes().splitlines()[0]), "seq": 7}).encode()
        with journal.path.open("ab") as file:
            file.write(line[:50])
            file.flush()
            time.sleep(0.6)
            file.write(line[50:] + b"\n")
        assert next_seq() == 7
        journal.path.rename(journal.path.with_suffix(".1"))
        journal.append(ALICE, Drain(cdn="aurora"), DONE)
        assert next_seq() == 1
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def test_neither_textual_nor_bcc_is_loaded(journal: Journal) -> None:
    code = (
        "import sys; from cdnctl.cli import main; main(['journal']);"
        " print(sorted({'textual', 'bcc', 'prometheus_client', 'pyroute2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


class Journaled(EngineDouble):
    """It answers of its journal as an engine does."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = Journal(paths.journal_path(EDGE))
        self._queries = Queries(self)  # type: ignore[arg-type]

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        if isinstance(command, ReadJournal):
            return self._queries.table[ReadJournal](command)
        return super().execute(command, actor)


@pytest.fixture
def viewer(run_dir: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedDouble]:
    """Whoever asks may only watch, and read no file of the edge's."""
    monkeypatch.setattr(engine_double, "EngineDouble", Journaled)
    monkeypatch.setattr(journal_lines.Journal, "read", lambda _self: pytest.fail("read the file"))
    monkeypatch.setattr(journal_lines, "ASK_S", 0.02)
    with serving() as served:
        monkeypatch.setattr(paths, "socket_path", lambda _edge: served.view_path)
        yield served


def test_who_may_only_watch_is_told_by_the_agent(
    viewer: ServedDouble,
    journal: Journal,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shown(capsys) == [1, 2, 3, 4]
    assert shown(capsys, "-n", "2") == [3, 4]
    assert shown(capsys, "--user", "alice", "--failed") == [3]
    for at in range(300):
        journal.append(BOB, Drain(cdn="aurora"), Outcome(ok=at % 2 == 0, text="done"))
    monkeypatch.setattr(pages, "PAGE_LIMIT", 50)
    asked = list[AnyCommand]()
    execute = viewer.engine.execute
    monkeypatch.setattr(viewer.engine, "execute", lambda c, a: (asked.append(c), execute(c, a))[1])
    assert shown(capsys) == list(range(1, 305))
    assert len(asked) == 7, "a page at a time"
    asked.clear()
    assert shown(capsys, "-n", "1", "--user", "alice") == [3]
    assert shown(capsys, "-n", "30", "--failed") == list(range(246, 305, 2))
    assert len(asked) == 7 + 2


def test_it_is_followed_at_the_agent_into_another_file(viewer: ServedDouble, journal: Journal) -> None:
    with journal_lines.Lines(EDGE, follow=True) as lines:
        assert [entry.seq for entry in lines.newest_first()] == [4, 3, 2, 1]
        following = lines.following()

        def soon() -> list[int]:
            found = (entries for entries in following if entries)
            return [entry.seq for entry in next(found)]

        journal.append(ALICE, Drain(cdn="aurora"), DONE)
        journal.append(ALICE, Drain(cdn="aurora"), DONE)
        assert soon() == [5, 6]
        journal.path.rename(journal.path.with_suffix(".1"))
        journal.append(ALICE, Drain(cdn="aurora"), DONE)
        assert soon() == [1]


def test_an_agent_that_ends_leaves_the_file(
    run_dir: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_double, "EngineDouble", Journaled)
    monkeypatch.setattr(journal_lines, "ASK_S", 0.02)
    with serving():
        lines = journal_lines.Lines(EDGE, follow=True)
        assert next(lines.newest_first()).seq == 4
        following = lines.following()
        assert next(following) == []
    journal.append(ALICE, Drain(cdn="aurora"), DONE)
    found = (entries for entries in following if entries)
    assert [entry.seq for entry in next(found)] == [5]
    lines.__exit__()
