"""`cdnctl cast`: what it makes of a recording, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from frames import Edge

from cdnctl import paths
from cdnctl.cli import main, recordings
from cdnctl.recording.chapters import chapters
from cdnctl.recording.reader import Reader
from cdnctl.recording.writer import Writer


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six seconds of an edge, in a directory that we are in."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "short.rec"
    edge = Edge()
    with Writer(file) as writer:
        for number in range(13):
            if number == 4:
                edge.say("step", "corona goes dark")
            writer.add(edge.frame())
    return file


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_cast_beside_its_recording(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cast", "short.rec", "--size", "80x24", "--utc"]) == 0
    assert "short.cast: 6.0 s, 13 pictures, 1 markers" in capsys.readouterr().out
    header, *events = lines(recording.with_suffix(".cast"))
    assert header["version"] == 3
    assert header["term"]["cols"] == 80
    assert header["timestamp"] == 1_700_000_000
    assert [0.5, "m", "corona goes dark"] in events  # after the picture before it
    assert events[-1] == [0.0, "x", "0"]
    assert "22:13:20" in recording.with_suffix(".cast").read_text()
    assert sorted(os.listdir()) == ["short.cast", "short.rec"]


def test_options_of_casts(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("keys").write_text("# first\n1s question_mark\n\n2.5s escape # and away\n")
    line = "--v2 --from 1s --to 5s --speed 2 --idle-limit 1 --theme daylight --color 256 --size 90x30"
    assert main(["cast", str(recording), "-o", "out", *line.split(), "--keys", "keys", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"file": "out", "version": 2, "duration_s": 2.0, "pictures": 9, "markers": 1}
    header, *events = lines(Path("out"))
    assert (header["version"], header["width"], header["height"]) == (2, 90, 30)
    text = Path("out").read_text()
    assert "into what is under the cursor" in text
    assert ";48;5;" in text
    assert ";2;" not in text
    assert [event[0] for event in events] == sorted(event[0] for event in events)


def test_a_still_stands_alone(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cast", "short.rec", "--svg", "--at", "2.5", "--size", "80x24", "--title", "<a> & b"]) == 0
    svg = recording.with_suffix(".svg").read_text()
    picture = ElementTree.fromstring(svg)
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "<a> & b" in texts
    assert "corona goes dark" in texts
    assert "frame" in texts
    assert texts[texts.index("frame") + 1 :][:1] != ["13"]
    for fetched in ("http://www.w3.org/1999", "url(", "@font-face", "href", "<script"):
        assert fetched not in svg


def test_a_terminal_without_colours(recording: Path) -> None:
    assert main(["cast", "short.rec", "--color", "none", "--size", "80x24"]) == 0
    assert not re.search(r"\[[0-9;]*[34]8;", recording.with_suffix(".cast").read_text())


def test_what_is_there_is_kept_until_there_is_more_and_devices_for_good(recording: Path) -> None:
    """A directory entry that is no file must not be replaced: it may be /dev/null."""
    kept, linked, pipe = Path("kept.svg"), Path("linked.svg"), Path("pipe")
    kept.write_text("before")
    linked.symlink_to(kept)
    with pytest.raises(SystemExit):
        main(["cast", "short.rec", "--svg", "--at", "never", "-o", "linked.svg"])
    assert kept.read_text() == "before"
    assert main(["cast", "short.rec", "--svg", "--size", "80x24", "-o", "linked.svg"]) == 0
    assert linked.is_symlink()
    assert kept.read_text().startswith("<svg")
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert main(["cast", "short.rec", "--svg", "--size", "80x24", "-o", "pipe"]) == 0
        assert reader.communicate(timeout=10)[0].startswith(b"<svg")
    assert pipe.is_fifo()


def test_a_recording_that_was_cut_off(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = recording.read_bytes()
    recording.write_bytes(whole[: len(whole) // 2])
    assert main(["cast", "short.rec", "--size", "80x24"]) == 0
    said = capsys.readouterr()
    assert "short.cast: " in said.out
    assert "used up to there" in said.err


def test_stdout(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cast", "short.rec", "--v2", "-o", "-"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["version"] == 2
    assert os.listdir() == ["short.rec"]


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("nothing.rec", 1, "nothing.rec"),
        ("nothing", 1, "there is no recording nothing"),
        ("short.rec --size 20x5", 2, "'20x5': expected columns and rows as in 120x40, from 80x24"),
        ("short.rec --size big", 2, "expected columns and rows"),
        ("short.rec --theme none-such", 2, "there is no theme none-such"),
        ("short.rec --speed 0", 2, "'0': expected a number from 0.1"),
        ("short.rec --from yesterday", 2, "'yesterday': expected a time as in 1m30s"),
        ("short.rec --from 1h", 2, "--from (3600 s) is beyond the recording's end at 6.0 s"),
        ("short.rec --from 3s --to 2s", 2, "--to (2 s) is before --from (3 s)"),
        ("short.rec --from 3.1s --to 3.2s", 2, "the last one before is at 3.0 s"),
        ("short.rec --at 1s", 2, "--at says nothing without --svg"),
        ("short.rec --svg --speed 2", 2, "--speed says nothing with --svg"),
        ("short.rec --svg --idle-limit 2", 2, "--idle-limit says nothing with --svg"),
        ("short.rec --svg --at 1m", 2, "the recording ends at 6.0 s"),
        ("short.rec -o - --json", 2, "both want stdout"),
        ("short.rec -o no/such/dir.cast", 1, "cannot write no/such/dir.cast: No such file"),
        ("short.rec --keys nowhere", 1, "--keys: nowhere: No such file"),
        ("short.rec --keys short.rec", 1, "--keys: short.rec"),
        ("short.rec --press wait:9000", 2, "there is no key 'wait:9000'"),
        ("short.rec --press nonsense", 2, "there is no key 'nonsense'"),
        ("short.rec --press ctrl+c", 1, "a key ended the console"),
        ("/dev/null", 1, "/dev/null is no recording"),
    ],
)
def test_refusals_name_the_place_and_leave_nothing(
    recording: Path, capsys: pytest.CaptureFixture[str], line: str, status: int, message: str
) -> None:
    try:
        ended = main(["cast", *line.split()])
    except SystemExit as usage:
        ended = usage.code  # type: ignore[assignment]
    assert ended == status
    assert message in " ".join("".join(capsys.readouterr()).split())
    assert os.listdir() == ["short.rec"]


def test_nothing_of_it_costs_other_verbs() -> None:
    code = (
        "import sys; from cdnctl.cli.parser import parse; parse(['status']); print('textual' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


# --- those that come with the program -----------------------------------------------------------------


def test_the_incident_comes_with_it() -> None:
    assert {"incident", "flood"} <= set(recordings.shipped())
    for name in recordings.shipped():
        assert recordings.find(Path(name)).stat().st_size < 250_000


@pytest.mark.parametrize("name", ["incident", "flood"])
def test_what_is_shipped_plays_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cast", name, "--svg", "--size", "80x24"]) == 0
    with Reader(recordings.find(Path(name))) as reader:
        assert not reader.damage
        assert reader.length == len(list(reader.frames())) > 100
        assert sum(chapter.kind == "step" for chapter in chapters(reader.stamps)) >= 2


def test_a_file_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recordings.find(Path("incident")).parent == paths.shipped_recordings_dir()
    Path("incident").touch()
    assert recordings.find(Path("incident")) == Path("incident")
