"""`cdnctl report` of an edge that is nowhere, and where it refuses to write."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from engine_double import EDGE, ServedDouble

from cdnctl.cli import main
from cdnctl.cli.stand_ins import StandIns
from cdnctl.model import Actor, AnyCommand, GetState, JournalEntry, Outcome, Page, ReadJournal, Revision


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither agent, nor state, nor configuration."""
    for name in ("CDNCTL_STATE_DIR", "CDNCTL_RUN_DIR", "CDNCTL_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("CDNCTL_EDGE", "nowhere")
    return tmp_path


def test_every_part_that_cannot_be_had_is_named(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = nowhere / "x.tar.gz"
    assert main(["report", "-o", str(file), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    wanted = {"frames", "journal.jsonl", "configuration.toml", "tables.json", "state", "agent.log"}
    assert answer["missing"].keys() >= wanted
    assert "was started otherwise" in answer["missing"]["agent.log"]
    assert "journal.jsonl is not there, and " in answer["missing"]["journal.jsonl"]
    assert "Errno" not in json.dumps(answer["missing"])
    assert {"about.json", "doctor.json", "versions.json", "MISSING.txt"} <= set(answer["files"])
    assert answer["redacted"]
    with tarfile.open(file) as archive:
        assert [member.name.partition("/")[2] for member in archive] == sorted(answer["files"])
    assert [path.name for path in nowhere.iterdir()] == ["x.tar.gz"], "no draft is left"


def test_an_agent_with_its_state_elsewhere_is_asked_for_it(
    nowhere: Path,
    served: ServedDouble,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    execute = served.engine.execute

    def answer(command: AnyCommand, actor: Actor) -> Outcome:
        match command:
            case ReadJournal():
                lines = [
                    JournalEntry(
                        seq=seq,
                        at="",
                        user="root",
                        uid=0,
                        pid=1,
                        client="",
                        cli="",
                        command={},
                        ok=True,
                        text="",
                    )
                    for seq in (2, 1)
                ]
                return Outcome(ok=True, text="", journal=lines, page=Page(total=2))
            case GetState(revision=None):
                return Outcome(ok=True, text="", revisions=[Revision(number=7, at_ns=1)])
            case GetState():
                return Outcome(ok=True, text="", state=f"revision = {command.revision}\n")
            case _:
                return execute(command, actor)

    monkeypatch.setattr(served.engine, "execute", answer)
    file = nowhere / "x.tar.gz"
    assert main(["--edge", EDGE, "report", "-o", str(file), "--json"]) == 0
    assert not {"journal.jsonl", "state"} & json.loads(capsys.readouterr().out)["missing"].keys()
    with tarfile.open(file) as archive:
        found = {member.name.partition("/")[2]: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert [json.loads(line)["seq"] for line in found["journal.jsonl"].splitlines()] == [1, 2]
    assert found["state/state.toml"] == b"revision = 7\n"


def test_what_is_there_is_not_written_over(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = nowhere / "x.tar.gz"
    file.write_bytes(b"precious")
    assert main(["report", "-o", str(file)]) == 1
    assert "--force" in capsys.readouterr().err
    assert file.read_bytes() == b"precious"
    assert main(["report", "-o", str(file), "--force"]) == 0
    assert tarfile.is_tarfile(file)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("x.zip", 2, "x.tar.gz"), ("no/x.tar.gz", 1, "no directory that this user may write to")],
)
def test_a_place_that_will_not_do(
    nowhere: Path, capsys: pytest.CaptureFixture[str], name: str, status: int, said: str
) -> None:
    assert main(["report", "-o", str(nowhere / name)]) == status
    assert said in capsys.readouterr().err
    assert list(nowhere.iterdir()) == []


def test_stand_ins_are_the_same_throughout() -> None:
    names = StandIns("ams1", ["alice"], ["edge-box", "ams1"])
    first = names.words("alice on edge-box: 198.51.100.7 by 02:aa:bb:cc:dd:01, then malice")
    again = names.words("02:AA:BB:CC:DD:01 198.51.100.7 2001:db8:7::1 ams1")
    assert first.startswith("operator-1 on this-host: 2")
    assert first.endswith("by 00:00:5e:00:53:00, then malice"), "a part of a word is nobody"
    address = first.split()[3]
    assert address != "198.51.100.7"
    assert again.startswith(f"00:00:5e:00:53:00 {address} 2001:db8:")
    assert again.endswith(" ams1"), "an edge's name is no host's"
    assert "2001:db8:7::1" not in again


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert StandIns("ams1", [], []).text(b"a\xff\n10.0.0.1\r\n").startswith(b"a\\xff\n2")
