"""A configuration that is held back: `check`, `doctor` and `status` say so, with the remedy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from engine_double import ServedDouble
from msgspec.structs import replace

from cdnctl.cli import main, show
from cdnctl.cli.held_back import held_back
from cdnctl.engine import held
from cdnctl.model import Actor, HeldBack
from cdnctl.state.intents import Record, RecordFile

EDGE = "ams1"
TEXT = """
[edge]
name = "ams1"
interfaces = ["lo"]
snat = ["203.0.113.10"]
[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443"]
[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
"""


@pytest.fixture
def file(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What it says was not confirmed."""
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(run_dir / "state"))
    (run_dir / "state" / EDGE).mkdir(parents=True)
    found = run_dir / "cdnctl.toml"
    found.write_text(TEXT)
    held.hold(EDGE, refused=TEXT, text=TEXT + "# before")
    return found


def reload(after: str) -> Record:
    """It waits."""
    return Record(
        revision=3,
        actor=Actor(user="bob", uid=1, pid=1),
        cli="cdnctl reload --confirm 60",
        text="",
        command={},
        before={"config": "first"},
        after={"config": after},
    )


def test_check_says_so_to_people_and_programs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "-c", str(file)])
    out = capsys.readouterr().out
    assert f"warning: what {file} says was not confirmed and is not in force" in out
    assert "`cdnctl reload` puts it into force" in out
    main(["check", "--json", "-c", str(file)])
    assert json.loads(capsys.readouterr().out)["held_back"]["why"] == "unconfirmed"
    file.write_text(TEXT + "# mended")
    main(["check", "--json", "-c", str(file)])
    assert json.loads(capsys.readouterr().out)["held_back"] is None, "it says something else by now"


def test_doctor_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json", "-c", str(file)])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = [each for each in findings if each["what"] == "configuration" and each["level"] == "warn"]
    assert "not in force" in found["text"]
    assert found["remedy"] == "`cdnctl reload` puts it into force"


def test_an_agents_word_comes_first(
    served: ServedDouble, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows what is in force; without one, who may read it has what the disk says."""
    assert held_back(EDGE, file) is None
    frame = served.engine.frame
    said = HeldBack(file=str(file), why="edited", text="of the agent", remedy="")
    monkeypatch.setattr(served.engine, "frame", lambda: replace(frame(), held_back=said))
    with served.client(frames=True) as client:
        assert next(each for each in client.frames() if each.held_back)
    assert held_back(EDGE, file) == said
    link = file.with_name("link.toml")
    os.symlink(file, link)
    assert held_back(EDGE, link) == said
    (other := file.with_name("other.toml")).write_text(TEXT)
    assert held_back(EDGE, other) is None


def test_an_edited_file_is_held_back_while_a_reload_waits(file: Path) -> None:
    held.forget(EDGE)
    assert held.look(EDGE, file) is None
    RecordFile(file.parent / "state" / EDGE / "pending.json").write(reload("planned"))
    found = held.look(EDGE, file)
    assert found is not None
    assert (found.why, found.file) == ("edited", str(file))
    assert "cdnctl reload --confirm 60" in found.text
    assert found.remedy.startswith("`cdnctl confirm` or `cdnctl revert`, then")


def test_a_frame_looks_again_when_something_has_changed(file: Path) -> None:
    watch, before = held.Watch(), TEXT + "# before"
    assert watch.picture(file, EDGE, before, None) is not None
    assert watch.picture(file, EDGE, TEXT, None) is None, "it is in force"
    assert watch.picture(file, EDGE, before, None) is not None
    file.write_text(TEXT + "# edited, not reloaded")
    assert watch.picture(file, EDGE, before, None) is None
    waits = watch.picture(file, EDGE, before, reload("planned"))
    assert waits is not None
    assert waits.why == "edited"


def test_status_says_so(capsys: pytest.CaptureFixture[str], served: ServedDouble) -> None:
    said = HeldBack(file="/etc/x", why="unconfirmed", text="what it says [/b]", remedy="`cdnctl reload`")
    show.frame(replace(served.engine.frame(), held_back=said), as_json=False)
    assert "HELD BACK: what it says [/b]; `cdnctl reload`" in capsys.readouterr().out
