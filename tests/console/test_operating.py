"""What an operator does on the screens: undo from a row, plans in full, lines recalled, a cursor in time."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import pictures
import pytest
from driver import console
from frames import Edge, incident
from test_replay import looking_back
from textual import events

from cdnctl.console.widgets.cursor import Sight, crossed, time_axis
from cdnctl.console.widgets.regions import RegionTable
from cdnctl.console.widgets.sources import SourceTable
from cdnctl.model import AnyCommand, Outcome, SetWeights, Undo


async def test_any_entry_of_the_journal_is_undone_from_its_row() -> None:
    async with console(incident()[:2], answer=pictures.answer) as desk:
        await desk.go("journal")
        await desk.until(lambda: "drained corona" in desk.text)
        seq = pictures.JOURNAL[-2].seq  # the newest is on top
        await desk.press("j", "u")
        assert f"Take back number {seq}" in desk.text
        assert f"$ cdnctl undo {seq}" in desk.text
        await desk.press("ctrl+s")
        assert Undo(seq=seq) in desk.feed.commands


async def test_every_dialog_shows_its_command_line_and_copies_it() -> None:
    async with console([Edge(flood_pps=50_000.0).frame()], (80, 24)) as desk:
        copied: list[str] = []
        desk.app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
        await desk.press("b")
        assert "$ cdnctl block 10.66.0.0/16 --for 4h" in desk.text
        await desk.press("tab", "tab", "ctrl+u", *"10m", "tab", *"say y", "ctrl+y")
        assert copied == ["cdnctl block 10.66.0.0/16 --for 10m --reason 'say y'"]
        assert "copied, if the terminal lets us" in desk.text
        await desk.press("escape", "d", "y")
        assert copied[-1] == "cdnctl disarm"
        await desk.press("escape", "w", "space", "y")
        assert copied[-1] == "cdnctl drain aurora"
        assert desk.feed.commands == []


async def test_a_plan_of_weights_tells_shares_moves_and_loads() -> None:
    def answer(command: AnyCommand) -> Outcome:
        shares = {"aurora": 0.9, "borealis": 0.1, "corona": 0.0} if isinstance(command, SetWeights) else None
        return msgspec.structs.replace(pictures.answer(command), shares=shares)

    async with console(pictures.rich(incident())[:200], (80, 24), answer=answer) as desk:
        desk.house.speak("weight aurora=90 borealis=10")
        await desk.until(lambda: "of capacity then:" in desk.text)
        for words in ("shares of new flows then: aurora 90%", "of the pick table moves", "aurora 126%"):
            assert words in desk.text


async def test_what_was_typed_is_recalled_on_every_screen() -> None:
    async with console(incident()[:2]) as desk:
        await desk.press("colon", *"nonsense", "enter")
        await desk.go("journal")
        await desk.press("colon", "up")
        assert "nonsense" in desk.text


async def test_talkers_are_gathered_by_service() -> None:
    frame = incident()[-1]
    talkers = [
        msgspec.structs.replace(each, service="www" if number % 2 else "api")
        for number, each in enumerate(frame.talkers)
    ]
    async with console([msgspec.structs.replace(frame, talkers=talkers)]) as desk:
        await desk.go("talkers")
        await desk.press("v", "v", "v")
        table = desk.house.query_one(SourceTable)
        assert {record.key for record in table.records} == {"www", "api"}
        await desk.press("b")  # no service is blocked by its name
        assert "$ cdnctl block" in desk.text
        assert "block www" not in desk.text


async def test_regions_by_cdn_are_a_panel_that_any_size_can_show() -> None:
    async with console(pictures.rich(incident())[:2], (80, 24)) as desk:
        await desk.go("cdns")
        table = desk.house.query_one(RegionTable)
        assert [record.key for record in table.records] == ["eu", "elsewhere"]
        await desk.press("o", "tab")
        assert "handshake by region, ms" in desk.text
        assert "elsewhere" in desk.text


# --- a cursor in time ---------------------------------------------------------------------------------


def test_the_cursor_stands_in_the_column_of_its_time() -> None:
    sight = Sight(None, 1000.0, 970.0)  # type: ignore[arg-type]
    assert sight.column(120) == 89
    assert Sight(None, 1000.0).column(120) is None  # type: ignore[arg-type]
    axis = "".join(text for text, _ in time_axis(120, 8, 89))
    assert axis[8 + 89] == "▲"
    assert "−60s" in axis
    assert "+30s" in axis or "+" not in axis
    assert crossed((("ab c", "x"),), 2) == (("ab", "x"), ("│", "accent"), ("c", "x"))
    assert crossed((("ab", "x"),), None) == (("ab", "x"),)


@pytest.mark.parametrize("name", ["overview", "cdns", "talkers"])
async def test_in_the_past_every_plot_has_a_cursor_and_goes_on_behind_it(name: str) -> None:
    edge = Edge()
    frames = incident(edge)
    async with looking_back(frames, frames) as (desk, _past):
        await desk.go(name)
        assert "▲" not in plots(desk.text)
        await desk.press("left", "left", "left", "left")
        await desk.until(lambda: "◁ past" in desk.text)
        count = {"overview": 2, "cdns": 2, "talkers": 1}[name]
        await desk.until(lambda: plots(desk.text).count("▲") == count)
        assert "│" in plots(desk.text)
        await desk.press("escape")
        assert "▲" not in plots(desk.text)


def plots(text: str) -> str:
    """The lines of their axes."""
    return "\n".join(line for line in text.splitlines() if "−60s" in line)


async def test_an_export_that_is_given_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def answer(command: AnyCommand) -> Outcome:
        outcome = pictures.answer(command)
        if outcome.page is not None and getattr(command, "cursor", None) is not None:
            return Outcome(ok=False, text="the agent is busy")
        return outcome

    async with console(pictures.rich(incident()[:2]), answer=answer) as desk:
        await desk.go("lists")
        await desk.press("x")
        await desk.until(lambda: "the agent is busy" in desk.text)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".csv", ".svg"]
    assert len(list(csv.reader(next(tmp_path.glob("*.csv")).open()))) <= 202


async def test_a_paste_does_not_overtake_the_keys_before_it() -> None:
    """Over a slow line all of it arrives at once."""
    async with console(incident()[:2]) as desk:
        for event in (
            events.Key("colon", ":"),
            events.Paste("block 192.0.2.1"),
            events.Key("space", " "),
            events.Key("x", "x"),
        ):
            desk.app.post_message(event)
        await desk.until(lambda: ": block 192.0.2.1 x" in " ".join(desk.text.split()), 3.0)
