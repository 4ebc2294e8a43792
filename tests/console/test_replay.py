"""Replay: every panel as it was live, the transport's keys, and a live console that goes into the past."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from driver import PALETTES, Desk, console
from feeds import ScriptedFeed, default_answer
from frames import Edge, incident

from cdnctl.cli import main
from cdnctl.cli.spoken import CommandLine
from cdnctl.console import keys
from cdnctl.console.answers import answer
from cdnctl.console.app import ConsoleApp
from cdnctl.console.commands import NoGrammar, Spoken
from cdnctl.console.playback import Playback, ReplayFeed
from cdnctl.console.screens import drops, trace
from cdnctl.console.widgets.notices import Footer
from cdnctl.console.widgets.verdicts import PacketTable
from cdnctl.errors import RecordingError
from cdnctl.model import (
    Allowed,
    AnyCommand,
    Block,
    FindBlocks,
    Frame,
    GetHistory,
    JournalEntry,
    ListCustomers,
    Mark,
    Outcome,
    Page,
    ReadJournal,
    Record,
    Recording,
    Shield,
    StopRecording,
)
from cdnctl.recording import codec
from cdnctl.recording.past import Past
from cdnctl.recording.reader import Reader
from cdnctl.recording.writer import Writer

SIZES = [(80, 24), pytest.param((120, 40), marks=pytest.mark.soak)]
OF_THE_BOX = ("trace",)
"""Screens that ask the box itself, not the frames; in a replay they do not."""


def recorded(path: Path, frames: Sequence[Frame]) -> Reader:
    with Writer(path) as writer:
        for frame in frames:
            writer.add(frame)
    return Reader(path)


@asynccontextmanager
async def replay(
    frames: Sequence[Frame], path: Path, size: tuple[int, int] = (120, 41), *, number: int = 0
) -> AsyncIterator[Desk]:
    """The console over a recording of these frames, paused."""
    with recorded(path, frames) as reader:
        playback = Playback(reader, number=number)
        app = ConsoleApp(lambda: ReplayFeed(playback), PALETTES)
        async with app.run_test(size=size) as pilot:
            desk = Desk(app, ScriptedFeed([frames[0]]), pilot)
            await desk.settle()
            yield desk


class Words(NoGrammar):
    """A grammar that takes anything for a question."""

    def parse(self, line: str) -> Spoken:
        return Spoken(line, (line,))


def panels(text: str, *, of_replay: bool) -> list[str]:
    """The screen without what says that it is a recording: the transport line, and two words."""
    lines = text.splitlines()
    if of_replay:
        at = next(place for place, line in enumerate(lines) if re.match(r" (▶|❙❙) ", line))
        del lines[at]
        lines[0] = lines[0].replace("▷ replay", "● live")
        lines = [line.replace(drops.NOT_RECORDED, PacketTable.EMPTY) for line in lines]
    return [re.sub(r" {2,}", "  ", line).rstrip() for line in lines[:-1]]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_replayed_screen_equals_the_live_one_in_every_panel(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Every screen, from the same frames through both feeds; the replay has a line more, its own."""
    frames, count = incident(), 200
    walks: list[tuple[str, ...]] = [(), ("tab", "tab", "j")]
    if size == (120, 40):
        walks += [(str(place.number),) for place in keys.SCREENS if place.name not in OF_THE_BOX]
    async with console(frames[:count], size) as desk:
        desk.feed.answer = lambda command: answer(desk.app.session.history, command)
        live = [panels(await after(desk, walk), of_replay=False) for walk in walks]
    async with replay(frames, tmp_path / "x.rec", (size[0], size[1] + 1), number=count - 1) as desk:
        for walk, wanted in zip(walks, live, strict=True):
            assert panels(await after(desk, walk), of_replay=True) == wanted
    assert any("10.66.0.0/16" in line for line in live[0])


async def after(desk: Desk, walk: tuple[str, ...]) -> str:
    await desk.press(*walk)
    return desk.text


async def test_wherever_one_comes_from_the_screen_is_the_same(tmp_path: Path) -> None:
    """Stepped to, skipped to from behind and from ahead, played up to."""
    frames = incident()
    async with replay(frames, tmp_path / "x.rec", number=150) as desk:
        wanted = desk.text
        player = desk.app.session.playback.player
        for walk in (
            [*["full_stop"] * 4, *["comma"] * 4],
            ["shift+left", "shift+right"],
            [*["right"] * 3, *["left"] * 3],
            ["shift+right", "shift+left"] if player.tape.length > 270 else ["right", "left"],
        ):
            await desk.press(*walk)
            assert player.number == 150
            assert desk.text == wanted


async def test_the_keys_of_the_transport(tmp_path: Path) -> None:
    frames = incident()
    async with replay(frames, tmp_path / "x.rec") as desk:
        player = desk.app.session.playback.player
        assert "❙❙ 0:00.0 of 1:54.5" in desk.text
        assert "frame 1 " in desk.text
        await desk.press("right")
        assert "frame 11 " in desk.text
        assert "0:05.0 of" in desk.text
        await desk.press("full_stop", "full_stop", "comma")
        assert "frame 12 " in desk.text
        await desk.press("right_square_bracket")
        assert "borealis is out: slow" in desk.text.splitlines()[-3]
        assert frames[player.number].step == "2 of 6  borealis slows by 150 ms"
        await desk.press("right_square_bracket", "left_square_bracket", "left_square_bracket")
        assert player.number == 0
        await desk.press("shift+left")
        assert player.number == 0
        await desk.press("shift+right", "shift+right")
        assert player.at_end
        await desk.press("greater_than_sign", "greater_than_sign")
        assert "❙❙ 4×" in desk.text
        await desk.press(*["less_than_sign"] * 9)
        assert "❙❙ 0.25×" in desk.text


@pytest.mark.soak
async def test_it_plays_at_its_speed_and_pauses_at_the_end(tmp_path: Path) -> None:
    frames = incident()[:60]
    async with replay(frames, tmp_path / "x.rec") as desk:
        player = desk.app.session.playback.player
        await desk.press(*["greater_than_sign"] * 4)
        began = time.monotonic()
        await desk.press("space")
        await desk.until(lambda: player.number >= 20, 8.0)
        taken = time.monotonic() - began
        assert 0.5 < taken < 9.0, "10 s at 16 times the speed, and what a busy machine adds"
        await desk.press("space")
        held = player.number
        await desk.pilot.pause(0.2)
        assert player.number == held
        await desk.press("space")
        await desk.until(lambda: player.at_end)
        assert not player.playing
        await desk.until(lambda: "frame 60 " in desk.text)
        player.change_speed(-4)
        await desk.press("space")
        await desk.until(lambda: 0 < player.number < 30)


async def test_nothing_can_be_changed_in_a_recording_and_q_leaves_at_once(tmp_path: Path) -> None:
    async with replay(incident(), tmp_path / "x.rec") as desk:
        assert desk.overview.query_one(Footer).read_only
        for key in ("b", "u", "w", "d"):
            await desk.press(key)
            assert "this is a recording: nothing can be changed in it" in desk.text
        desk.app.grammar = Words()
        await desk.press("escape", "colon", *"who", "enter")
        assert "this is a recording: there is no edge to ask" in desk.text
        await desk.press("q")
        assert desk.app.return_value == 0


async def test_old_frames_are_not_called_stale(tmp_path: Path) -> None:
    async with replay(incident(), tmp_path / "x.rec", number=50) as desk:
        desk.app.session.received_at -= 60
        await desk.press("full_stop")
        assert "STALE" not in desk.text
        assert "▷ replay" in desk.text


async def test_a_damaged_recording_is_shown_up_to_there_and_says_so(tmp_path: Path) -> None:
    path, frames = tmp_path / "bad.rec", incident()
    recorded(path, frames).close()
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)
    with Reader(path) as reader:
        playback = Playback(reader)
        app = ConsoleApp(lambda: ReplayFeed(playback), PALETTES)
        async with app.run_test(size=(120, 41)) as pilot:
            desk = Desk(app, ScriptedFeed([frames[0]]), pilot)
            await desk.settle()
            playback.player.change_speed(4)
            await desk.press(*["shift+right"] * 3)
            assert app.is_running
            assert "damaged" in desk.text
            await desk.press("comma")
            assert app.is_running


def damaged(path: Path, frames: Sequence[Frame]) -> int:
    """A recording with an index, in which one bit of the frame in the middle is wrong; returns the place."""
    recorded(path, frames).close()
    data = bytearray(path.read_bytes())
    with Reader(path) as reader:
        begin = reader._offsets[0]
    at = next(end for end, _block in codec.blocks(data, begin) if end > len(data) // 2) - 1
    data[at] ^= 1
    path.write_bytes(data)
    return at


@pytest.mark.soak
async def test_every_key_of_the_transport_stays_before_the_damage(tmp_path: Path) -> None:
    path, frames = tmp_path / "bad.rec", incident()
    damaged(path, frames)
    for key in ("right_square_bracket", "shift+right", "full_stop", "right", "space"):
        with Reader(path) as reader:
            playback = Playback(reader, number=reader.length - 3)
            app = ConsoleApp(lambda playback=playback: ReplayFeed(playback), PALETTES)  # type: ignore[misc]
            async with app.run_test(size=(120, 41)) as pilot:
                desk = Desk(app, ScriptedFeed([frames[0]]), pilot)
                await desk.settle()
                await desk.press(*[key] * (1 if key == "space" else 4))
                await desk.until(lambda playback=playback: playback.problem)  # type: ignore[misc]
                assert "damaged at byte" in desk.text
                assert playback.history.newest == frames[reader.length - 1]
                await desk.press("left_square_bracket")
                assert "damaged" not in desk.text


class Unreadable(Reader):
    """Sound by its check sums, but a group of it cannot be unpacked: no look at the bytes tells."""

    def load(self, group: int) -> bytes:
        if group == 2:
            raise RecordingError("damaged here")
        return super().load(group)


@pytest.mark.parametrize("key", ["right_square_bracket", "right", "full_stop", "shift+right"])
async def test_what_turns_out_damaged_only_when_it_is_played_ends_no_console(
    tmp_path: Path, key: str
) -> None:
    path, frames = tmp_path / "x.rec", incident()
    recorded(path, frames).close()
    with Unreadable(path) as reader:
        playback = Playback(reader, number=110)
        app = ConsoleApp(lambda: ReplayFeed(playback), PALETTES)
        async with app.run_test(size=(120, 41)) as pilot:
            desk = Desk(app, ScriptedFeed([frames[0]]), pilot)
            await desk.settle()
            for _ in range(12):
                await desk.press(key)
                if playback.problem:
                    break
            assert app.is_running
            assert "damaged here" in desk.text
            assert playback.history.newest == frames[playback.player.number]
        playback = Playback(reader, number=119, playing=True)
        shown = playback.shown()
        for _ in range(2):
            await anext(shown)
        assert playback.problem == "damaged here"
        assert not playback.player.playing


def test_of_a_damaged_file_every_verb_takes_what_is_before_the_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    at, frames = damaged(Path("bad.rec"), incident()), incident()
    with Reader(Path("bad.rec")) as reader:
        assert 0 < reader.length < len(frames)
        count = reader.length
    assert main(["replay", "bad.rec", "--info"]) == 0
    found = re.search(
        r"damage    (?:cut off or )?damaged at byte ([\d,]+): it plays up to there", capsys.readouterr().out
    )
    assert found
    assert int(found[1].replace(",", "")) <= at
    assert main(["replay", "bad.rec", "--frames"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == count
    assert "damaged at byte" in said.err
    assert main(["redact", "bad.rec", "flip.red"]) == 0
    assert "used up to there" in capsys.readouterr().err
    with Reader(Path("flip.red")) as reader:
        assert (reader.length, reader.damage) == (count, "")
    assert main(["cast", "bad.rec", "--svg", "--size", "80x24"]) == 0
    assert "used up to there" in capsys.readouterr().err


def test_what_cannot_be_redacted_whole_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path / "x.rec", incident()).close()
    monkeypatch.setattr("cdnctl.cli.replay.Reader", Unreadable)
    assert main(["redact", str(tmp_path / "x.rec"), str(tmp_path / "x.red")]) == 1
    assert not (tmp_path / "x.red").exists()


# --- a live console that looks back ---------------------------------------------------------------------


def remembering(past: Past) -> object:
    def answer(command: AnyCommand) -> Outcome:
        if isinstance(command, GetHistory):
            return Outcome(ok=True, text="", history=past.part(command.after_seq))
        return default_answer(command)

    return answer


@asynccontextmanager
async def looking_back(frames: Sequence[Frame], kept: Sequence[Frame]) -> AsyncIterator[tuple[Desk, Past]]:
    past = Past()
    for frame in kept:
        past.add(frame)
    async with console(frames, (120, 40)) as desk:
        desk.feed.answer = remembering(past)  # type: ignore[assignment]
        yield desk, past


async def test_a_live_console_goes_back_and_returns_to_now() -> None:
    edge = Edge()
    old = incident(edge)
    new = incident(edge)
    async with looking_back(new, [*old, *new]) as (desk, past):
        await desk.press("left")
        await desk.until(lambda: "◁ past" in desk.text)
        assert f"frame {new[-11].seq} " in desk.text
        assert "1:54.5" not in desk.text, "the tape is longer than what this console saw"
        await desk.press(*["shift+left"] * 3)
        seen = desk.app.session.playback.history.newest
        assert seen in old
        assert "corona is out" not in desk.text or seen.seq > 136
        fresh = edge.frame()
        past.add(fresh)
        await desk.send(fresh)
        assert f"frame {fresh.seq} " not in desk.text, "what comes in meanwhile does not disturb"
        await desk.press("escape")
        assert "● live" in desk.text
        assert f"frame {fresh.seq} " in desk.text
        assert "◁ past" not in desk.text


async def test_from_the_end_of_the_past_one_comes_to_now() -> None:
    edge = Edge()
    frames = incident(edge)
    async with looking_back(frames, frames) as (desk, past):
        await desk.press("comma")
        await desk.until(lambda: f"frame {frames[-2].seq} " in desk.text)
        later = [edge.frame() for _ in range(8)]
        for frame in later:
            past.add(frame)
        await desk.send(*later)
        await desk.press("full_stop")
        await desk.press("full_stop")
        await desk.until(lambda: "▶" in desk.text.splitlines()[-3])
        desk.app.session.playback.player.change_speed(4)
        await desk.until(lambda: "● live" in desk.text)


async def test_what_was_frozen_is_where_the_past_begins() -> None:
    edge = Edge()
    frames = incident(edge)
    async with looking_back(frames, frames) as (desk, past):
        await desk.press("space")
        later = [edge.frame() for _ in range(20)]
        for frame in later:
            past.add(frame)
        await desk.send(*later)
        await desk.press("comma")
        await desk.until(lambda: f"frame {frames[-2].seq} " in desk.text)
        assert "FROZEN" not in desk.text


async def test_forward_from_now_says_that_this_is_now() -> None:
    async with console() as desk:
        await desk.press("right")
        assert "this is now" in desk.text


# --- lists, as of the frame that is on ------------------------------------------------------------------


async def test_lists_and_journal_follow_a_seek(tmp_path: Path) -> None:
    async with replay(incident(), tmp_path / "x.rec") as desk:
        for screen in ("5", "8"):
            await desk.press(screen, "shift+left", "shift+left")
            assert "10.66.0.0/16" not in desk.text.split("frame")[0]
            await desk.press("shift+right", "shift+right")
            assert "10.66.0.0/16" in desk.text
            await desk.press("shift+left", "shift+left")
            assert "10.66.0.0/16" not in desk.text
        await desk.press("shift+right", "shift+right")
        assert "pid 0" not in desk.text
        assert "frames hold what came of it only" in desk.text
        assert not re.search(r"\$ *│", desk.text)


async def test_lists_and_journal_of_the_past_are_those_of_then() -> None:
    edge = Edge()
    frames = incident(edge)
    now = Block(prefix="198.18.7.0/24", reason="only now")
    entries = [
        JournalEntry(
            seq=number, at=datetime.fromtimestamp(frame.at_ns / 1e9, UTC).isoformat(), user="root", uid=0,
            pid=7, client="cli", cli=f"cdnctl mark number-{number}", command={"verb": "mark"}, ok=True,
            text=f"marked number-{number}",
        )
        for number, frame in ((1, frames[10]), (2, frames[-1]))
    ]  # fmt: skip
    async with looking_back(frames, frames) as (desk, _past):
        history = desk.feed.answer

        def answered(command: AnyCommand) -> Outcome:
            if isinstance(command, FindBlocks):
                return Outcome(ok=True, text="", blocks=[now], page=Page(total=1, looked_at=1))
            if isinstance(command, ListCustomers):
                return Outcome(ok=True, text="", allowed=[Allowed(prefix="198.18.8.0/24")])
            if isinstance(command, ReadJournal):
                return Outcome(ok=True, text="", journal=entries[::-1], page=Page(looked_at=2))
            return history(command)

        desk.feed.answer = answered
        await desk.press("5")
        await desk.until(lambda: now.prefix in desk.text and "198.18.8.0/24" in desk.text)
        await desk.press("left")
        await desk.until(lambda: "◁ past" in desk.text and now.prefix not in desk.text)
        assert "10.66.0.0/16" in desk.text
        assert "198.18.8.0/24" not in desk.text
        assert "not recorded" in desk.text
        await desk.press("8")
        await desk.until(lambda: "number-1" in desk.text)
        assert "number-2" not in desk.text
        await desk.press(*["shift+left"] * 4)
        assert "number-1" not in desk.text
        await desk.press("escape")
        await desk.until(lambda: "number-2" in desk.text)
        await desk.press("5")
        await desk.until(lambda: now.prefix in desk.text and "198.18.8.0/24" in desk.text)


# --- recording, from the console ------------------------------------------------------------------------


async def test_a_mark_is_set_and_a_recording_begun_and_ended() -> None:
    edge = Edge()
    async with console([edge.frame()], (120, 40)) as desk:
        await desk.press("M")
        assert "Mark this moment" in desk.text
        await desk.press("ctrl+s")
        assert "say what the mark is of" in desk.text
        await desk.press(*"now", "ctrl+s")
        await desk.press("R")
        assert "cdnctl record" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == [Mark(text="now"), Record()]
        assert "rec" not in desk.text.splitlines()[0]
        recording = Recording(path="/x.rec", frames=9, bytes=1_234_567)
        await desk.send(msgspec.structs.replace(edge.frame(), recording=recording))
        assert "◉ rec 1.2 MB" in desk.text.splitlines()[0]
        await desk.press("R")
        assert "cdnctl record --stop" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands[-1] == StopRecording()


# --- the command line -----------------------------------------------------------------------------------


def test_info_and_frames_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, frames = tmp_path / "x.rec", incident()
    recorded(path, frames).close()
    assert main(["replay", str(path), "--info"]) == 0
    said = capsys.readouterr().out
    assert "1:54.5, 230 frames" in said
    assert "   0:25.0  borealis is out: slow" in said
    assert main(["replay", str(path), "--info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["edge"], told["frames"], told["duration_s"]) == ("ams1", 230, 114.5)
    assert [each["kind"] for each in told["chapters"]][:3] == ["attach", "eject", "reopen"]
    assert main(["replay", str(path), "--frames", "--from", "1m30s", "--to", "1:31.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [msgspec.json.decode(line, type=Frame) for line in lines] == frames[180:184]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nothing.rec"], 1, "No such file"),
        (["nothing"], 1, "there is no recording nothing"),
        (["no/thing"], 1, "No such file"),
        (["pipe", "--info"], 1, "no regular file"),
        (["x.rec", "--frames", "--from", "10", "--to", "9"], 2, "--to (9 s) is before --from (10 s)"),
        (["x.rec", "--frames", "--from", "99h"], 2, "beyond the recording's end at 1.0 s"),
        (["x.rec", "--frames", "--from", "0.1", "--to", "0.2"], 2, "there is no frame"),
        (["x.rec"], 2, "needs a terminal"),
        (["x.rec", "--at", "soon"], 2, "expected a time"),
        (["x.rec", "--from", "3"], 2, "go with --frames"),
        (["x.rec", "--speed", "3"], 2, "invalid choice"),
        (["pyproject.toml", "--info"], 1, "no recording"),
    ],
)
def test_what_cannot_be_played_is_said(
    words: list[str], status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "x.rec", incident()[:3]).close()
    (tmp_path / "pyproject.toml").write_text("[tool]")
    os.mkfifo(tmp_path / "pipe")
    try:
        ended = main(["replay", *words])
    except SystemExit as error:
        ended = error.code  # type: ignore[assignment]
    assert ended == status
    assert said in capsys.readouterr().err


async def test_neither_doctor_nor_trace_looks_at_this_box_for_a_recording_or_for_the_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    async def line(words: tuple[str, ...]) -> tuple[bool, str]:
        asked.append(words)
        return True, "{}"

    monkeypatch.setattr(trace, "run_line", line)
    frames = incident()[:8]
    async with replay(frames, tmp_path / "x.rec", number=4) as desk:
        await desk.go("trace")
        await desk.press("D")
        assert "the doctor looks at a live edge; this is none" in desk.text
        desk.house.trace("198.51.100.7 203.0.113.80:80")  # type: ignore[attr-defined]
        await desk.settle()
        assert asked == []
    async with looking_back(frames, frames) as (desk, _past):
        await desk.press("left")
        await desk.until(lambda: "◁ past" in desk.text)
        await desk.go("trace")
        await desk.press("D")
        assert asked == []
        desk.app.session.return_to_now()
        await desk.press("D")
        assert asked[0][0] == "doctor"


def test_a_beginning_beyond_the_end_is_refused_before_the_screen_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "x.rec", incident()[:20]).close()
    shown: list[str] = []

    def run(_edge: str, *, theme: str, playback: Playback) -> int:
        shown.append(playback.problem)
        return 0

    monkeypatch.setattr("cdnctl.console.app.run", lambda edge, *, grammar, **rest: run(edge, **rest))
    monkeypatch.setattr("cdnctl.console.app.check", lambda _theme: None)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    for at, status in (("9.5", 0), ("10m", 2)):
        assert main(["replay", str(tmp_path / "x.rec"), "--at", at]) == status
    assert shown == [""]
    assert "--at: the recording ends at 9.5 s" in capsys.readouterr().err


async def test_of_a_recording_without_a_shield_nothing_is_said(tmp_path: Path) -> None:
    edge = Edge(flood_pps=50_000.0)
    old = msgspec.structs.replace(edge.frame(), planner=None, shield=Shield())
    async with replay([old, old], tmp_path / "x.rec") as desk:
        await desk.go("attack")
        assert "not in this recording" in desk.text
        assert "got under way" not in desk.text


def test_nothing_is_redacted_to_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["redact", "incident", "-"]) == 2
    assert "OUT cannot be stdout" in capsys.readouterr().err
    assert not (tmp_path / "-").exists()


def test_a_recording_in_progress_is_not_called_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Writer(tmp_path / "x.rec") as writer:
        writer.add(incident()[0])
        assert main(["replay", str(tmp_path / "x.rec"), "--info"]) == 0
        assert "not ended yet, or its writer was killed" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "x.rec"), "--info"]) == 0
    assert "not ended" not in capsys.readouterr().out


def test_its_line_knows_the_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    recorded(tmp_path / "x.rec", incident()[:2]).close()
    monkeypatch.setattr("cdnctl.console.app.run", lambda _edge, **options: given.update(options) or 0)
    monkeypatch.setattr("cdnctl.console.app.check", lambda _theme: None)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    assert main(["replay", str(tmp_path / "x.rec")]) == 0
    assert isinstance(given["grammar"], CommandLine)


@pytest.mark.parametrize(
    ("line", "said"),
    [("who", "there is no edge to ask"), ("block 192.0.2.1", "nothing can be changed in it")],
)
async def test_what_is_said_to_a_recording(tmp_path: Path, line: str, said: str) -> None:
    async with replay(incident(), tmp_path / "x.rec") as desk:
        desk.app.grammar = CommandLine()
        desk.house.speak(line)
        await desk.settle()
        assert f"this is a recording: {said}" in desk.text
