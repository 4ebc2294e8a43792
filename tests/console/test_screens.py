"""The screens beyond the overview: how they look, what their keys do, and what they ask of the agent."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pictures
import pytest
from driver import Desk, console
from frames import Edge, incident
from rich.cells import cell_len

from cdnctl.console import keys
from cdnctl.console.screens import lists, speaking, trace
from cdnctl.console.screens.dialogs import help as help_dialog
from cdnctl.console.screens.dialogs.help import _keys as help_rows
from cdnctl.console.screens.drops import words_of
from cdnctl.console.screens.journal import differences
from cdnctl.console.widgets.blocked import BlockedTable
from cdnctl.console.widgets.endpoints import EndpointTable
from cdnctl.console.widgets.planned import PlanTable
from cdnctl.console.widgets.shield import BanTable
from cdnctl.console.widgets.sources import SourceTable, around
from cdnctl.console.widgets.verdicts import PacketTable, VerdictTable
from cdnctl.defence import codes
from cdnctl.errors import NoAgent
from cdnctl.model import (
    Allow,
    BlockList,
    BlockPrefix,
    CellPlan,
    Disallow,
    FindBlocks,
    Frame,
    ListPart,
    SampledPacket,
    SetLimit,
    Term,
    Unblock,
)

SIZES = [(80, 24), (120, 40), (200, 50)]
NAMES = [place.name for place in keys.SCREENS]


@cache
def _frames() -> list[Frame]:
    return pictures.rich(incident())


@asynccontextmanager
async def at(
    name: str, size: tuple[int, int] = (120, 40), count: int = 200, **options: Any
) -> AsyncIterator[Desk]:
    """The console at a screen, in the flood, with everything that a real edge has."""
    frames = _frames()[:count]
    async with console(frames, size, answer=options.pop("answer", pictures.answer), **options) as desk:
        await desk.go(name)
        await pictures.dress(desk)
        yield desk


@pytest.fixture(autouse=True)
def _lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "run_line", pictures.answer_line)
    monkeypatch.setattr(lists, "ASKED_EVERY_S", 1e12)  # once, when the screen is opened


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_nothing_vital_is_lost_at_any_size(size: tuple[int, int]) -> None:
    vital = {
        "cdns": ("198.51.100.30:80", "✖ out dark", "handshakes of aurora", "p95", "borealis", "✖✖"),
        "talkers": ("10.66.0.0/16", "52.6k", "95% sure", "±", "drop"),
        "drops": ("not a start", "pps", "A segment of a flow", "10.66.3.9", "sampled packets"),
        "lists": ("198.51.0.1", "hits", "left", "1 to 200 of 1,000", "10.9.0.0/16", "e edit", "u unblock"),
        "steering": ("weight", "70%", "acme", "of limit", "203.0.113.80:80", "latency"),
        "trace": ("LRO is on on eth0", "slot 17 [red]", "forwarded to aurora"),
        "journal": ("alice as root", "drained corona", "drained: none → corona"),
        "attack": (
            "● siege",
            "99% unverified",
            "round trip",
            "10.66.0.0/16",
            "challenged",
            "198.51.100.66",
            "spared",
        ),
    }
    async with at("overview", size) as desk:
        for name, words in vital.items():
            await desk.go(name)
            if name == "drops":
                await pictures.dress(desk)
            if name == "trace":
                desk.house.trace("198.51.100.7 203.0.113.80:80")  # type: ignore[attr-defined]
            await desk.settle()
            for word in (*words, "● ARMED", "● live", "q quit"):
                assert word in desk.text, (name, word, desk.text)


async def test_numbers_lead_to_the_screens_and_esc_back() -> None:
    async with at("overview") as desk:
        for number in "23456789":
            await desk.press(number)
            assert NAMES[int(number) - 1] == desk.house.NAME
        for name in reversed(NAMES[1:-1]):
            await desk.press("escape")
            assert name == desk.house.NAME
        await desk.press("escape", "escape")
        assert desk.house.NAME == "overview"


async def test_enter_goes_into_what_is_under_the_cursor() -> None:
    async with at("overview") as desk:
        await desk.press("j", "enter")
        assert desk.house.NAME == "cdns"
        table = desk.house.query_one(EndpointTable)
        assert str(table.current).startswith("borealis ")
        assert "handshakes of borealis" in desk.text


@pytest.mark.parametrize("place", keys.SCREENS, ids=lambda place: place.name)
def test_every_screen_lists_its_own_keys_in_help(place: keys.Place) -> None:
    said = "\n".join("".join(text for text, _ in row) for row in help_rows(place.name))
    for key in (*place.keys, *keys.HOUSE):
        if key in keys.of(place.name):
            assert key.help in said


def test_help_fits_into_the_smallest_terminal() -> None:
    room = SIZES[0][0] - help_dialog.FRAME
    rows = [row for place in keys.SCREENS for row in help_rows(place.name)] + help_dialog._words()
    for row in rows:
        assert sum(cell_len(text) for text, _ in row) <= room, row
        assert len(row) < 2 or row[0][0].strip(), "a line without a key, or a word"


# --- talkers ----------------------------------------------------------------------------------------


async def test_a_followed_source_stays_on_top_also_when_it_is_quiet() -> None:
    async with at("talkers") as desk:
        await desk.press("j", "j", "f")
        table = desk.house.query_one(SourceTable)
        assert table.records[0].key == "10.2.17.30"
        newest = desk.app.session.history.newest
        assert newest is not None
        quiet = [each for each in newest.talkers if each.prefix != "10.2.17.30"]
        await desk.send(msgspec.structs.replace(newest, seq=newest.seq + 1, talkers=quiet))
        assert table.records[0].key == "10.2.17.30"
        assert "quiet" in desk.text
        await desk.press("escape", "escape")
        assert "10.2.17.30" not in [record.key for record in table.records]


async def test_sources_are_gathered_by_prefix_and_by_cdn() -> None:
    async with at("talkers") as desk:
        table = desk.house.query_one(SourceTable)
        await desk.press("v")
        assert "10.1.0.0/24" in [record.key for record in table.records]
        await desk.press("v")
        assert [record.key for record in table.records][:2] == ["10.66.0.0/16", "10.1.0.0/16"]
        await desk.press("v", "v")
        assert {record.key for record in table.records} == {"aurora", "borealis"}
        await desk.press("b")  # no CDN is blocked by its name
        assert "10.66.0.0/16" in desk.text


@pytest.mark.parametrize(
    ("prefix", "wider"),
    [("10.1.2.3", "10.1.2.0/24"), ("10.0.0.0/8", "10.0.0.0/8"), ("2001:db8::7", "2001:db8::/48"), ("x", "x")],
)
def test_around(prefix: str, wider: str) -> None:
    assert around(prefix, 24, 48) == wider


# --- drops ------------------------------------------------------------------------------------------


async def test_packets_are_watched_only_while_somebody_looks() -> None:
    async with at("drops") as desk:
        assert desk.feed.watched == [[[Term("verdict", "dropped")]]]
        await desk.press("enter")
        assert desk.feed.watched[-1] == [[Term("verdict", "not_a_start")]]
        assert desk.house.query_one(VerdictTable).has_focus
        await desk.press("1")
        assert desk.feed.watched[-1] is None


async def test_an_agent_that_shows_no_packets_is_not_asked_again_and_again() -> None:
    async with at("drops", (80, 24), 3) as desk:
        desk.feed.break_off(NoAgent("the agent hung up: refused: 8 clients watch packets already"))
        desk.feed.down = None
        await desk.until(lambda: desk.feed.connects == 2)
        newest = desk.app.session.history.newest
        assert newest is not None
        await desk.send(msgspec.structs.replace(newest, seq=newest.seq + 1))
        await desk.until(lambda: desk.app.session.lost == "")
        assert len(desk.feed.watched) == 1
        assert desk.app.session.no_packets


async def test_completions_stay_while_frames_come() -> None:
    async with at("overview", (80, 24), 3) as desk:
        await desk.press("colon", *"un")
        newest = desk.app.session.history.newest
        assert newest is not None
        await desk.send(msgspec.structs.replace(newest, seq=newest.seq + 1))
        assert "unblock  undo  undrain  unit" in desk.text


async def test_a_sampled_packet_can_be_blocked_and_traced() -> None:
    async with at("drops") as desk:
        await desk.press("tab", "j", "j")
        assert desk.house.query_one(PacketTable).has_focus
        assert "IP 10.66.3.9:1035 > 203.0.113.80:80: Flags [S], length 60  blocked" in desk.text
        await desk.press("b")
        assert "10.66.3.9" in desk.text
        await desk.press("escape", "enter")
        assert desk.house.NAME == "trace"
        await desk.until(lambda: "aurora, slot 17 [red]" in desk.text)
        assert "forwarded to aurora" in desk.text


def test_a_packet_in_the_words_of_a_trace() -> None:
    packet = SampledPacket("2001:db8::7", "2001:db8::80", 4, 443, "udp", "", 90, "blocked", True, "")
    assert words_of(packet) == "[2001:db8::7]:4 [2001:db8::80]:443 --proto udp"
    assert words_of(msgspec.structs.replace(packet, protocol="47")) == ""


# --- attack -----------------------------------------------------------------------------------------


async def test_a_ban_is_lifted_and_an_offender_blocked_from_its_row() -> None:
    async with at("attack") as desk:
        await desk.press("tab", "tab")
        assert desk.house.query_one(BanTable).has_focus
        assert "since 22:14:29" in desk.text
        await desk.press("u")
        assert "cdnctl unblock 198.51.100.66" in desk.text
        await desk.press("ctrl+s")
        assert Unblock(prefix="198.51.100.66", source="auto") in desk.feed.commands
        await desk.press("escape", "j")
        assert "not banned, for it covers 203.0.113.80, the VIP of service www" in desk.text
        await desk.press("b")
        assert "203.0.113.0/24" in desk.text


async def test_the_level_is_in_every_headline_while_it_is_not_calm() -> None:
    async with at("overview") as desk:
        assert "● SIEGE" in desk.text
    async with at("overview", count=20) as desk:
        assert "SIEGE" not in desk.text
        assert "CALM" not in desk.text


# --- lists ------------------------------------------------------------------------------------------


async def test_the_block_list_is_searched_in_the_agent_and_paged() -> None:
    async with at("lists") as desk:
        table = desk.house.query_one(BlockedTable)
        await desk.press("G", "j")
        await desk.until(lambda: "201 to 400 of 1,000" in desk.text)
        await desk.press("k")
        await desk.until(lambda: "1 to 200 of 1,000" in desk.text)
        await desk.press("slash", *"ticket", "enter")
        await desk.until(lambda: "/ticket" in desk.text and "scraper" not in desk.text)
        asked = [command.text for command in desk.feed.commands if isinstance(command, FindBlocks)]
        assert asked[-1] == "ticket"
        await desk.press("escape")
        await desk.until(lambda: "scraper" in desk.text)
        assert len(table.records) == 200


async def test_marked_blocks_are_edited_and_lifted_together() -> None:
    async with at("lists") as desk:
        await desk.press("m", "m")
        assert "2 marked" in desk.text
        await desk.press("e")
        assert "198.51.0.0, 198.51.0.1" in desk.text
        await desk.press("ctrl+s")
        sent = [command for command in desk.feed.commands if isinstance(command, BlockPrefix)]
        assert [(each.prefix, each.lifetime_s) for each in sent] == [
            ("198.51.0.0", 14400.0), ("198.51.0.1", 14400.0),
        ]  # fmt: skip
        await desk.press("u")
        assert "cdnctl unblock 198.51.0.0" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands.count(Unblock(prefix="198.51.0.1", source="manual")) == 1


async def test_a_file_is_imported_and_its_mistakes_are_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("# a feed\n192.0.2.0/24 ; spam\n\n2001:db8:66::/48\n192.0.2.0/24\n")
    bad.write_text("192.0.2.1\nnonsense [/b]\n")
    async with at("lists") as desk:
        await desk.press("i", "tab", "tab", "tab", "tab", "tab")
        field = desk.app.screen.query_one("#path")
        field.focus()
        field.value = str(bad)  # type: ignore[attr-defined]
        await desk.until(lambda: "line 2: nonsense" in desk.text)
        field.value = str(good)  # type: ignore[attr-defined]
        await desk.until(lambda: "2 prefixes" in desk.text)
        await desk.press("ctrl+s")
        part, change = (each for each in desk.feed.commands if isinstance(each, ListPart | BlockList))
        assert isinstance(part, ListPart)
        assert [codes.show(code) for code in codes.unpack(part.four, part.six)] == [
            "192.0.2.0/24", "2001:db8:66::/48",
        ]  # fmt: skip
        assert isinstance(change, BlockList), "one change, and one line of the journal"
        assert (change.list, change.count, change.name) == (part.list, 2, "good.txt")
        assert change.reason == "imported from good.txt"


async def test_allowed_prefixes_come_and_go() -> None:
    async with at("lists") as desk:
        await desk.press("a")
        assert "198.51.0.0" in desk.text
        await desk.press("ctrl+s")
        assert Allow(prefix="198.51.0.0") in desk.feed.commands
        await desk.press("tab", "j", "u", "ctrl+s")
        assert Disallow(prefix="192.0.2.7") in desk.feed.commands


async def test_the_whole_block_list_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with at("lists") as desk:
        await desk.press("x")
        await desk.until(lambda: "1,000 rows" in desk.text)
    [path] = tmp_path.glob("*block-list*.csv")
    rows = list(csv.reader(path.open()))
    assert rows[0] == ["prefix", "origin", "reason", "hits", "created", "expires"]
    assert len(rows) == 1_001


# --- steering, journal ------------------------------------------------------------------------------


async def test_a_customer_is_limited_from_its_row() -> None:
    async with at("steering") as desk:
        await desk.press("tab", "tab", "l")
        field = desk.app.screen.query_one("#mbit")
        field.value = "80"  # type: ignore[attr-defined]
        await desk.press("ctrl+s")
        assert SetLimit(customer="acme", mbit=80.0) in desk.feed.commands


async def test_weights_say_what_moves_and_who_gets_full() -> None:
    async with at("steering", (120, 40)) as desk:
        await desk.press("w", "right", "right")
        desk.feed.answer = lambda command: msgspec.structs.replace(
            pictures.answer(command), shares={"aurora": 0.9, "borealis": 0.1, "corona": 0.0}
        )
        await desk.press("right")
        await desk.until(lambda: "40% of the pick table moves" in desk.text)
        assert "aurora 126%" in desk.text


async def test_the_planner_s_rows_say_of_which_region_and_class() -> None:
    why = "p95 of first bytes is 140 ms, its peers' 35 ms, bad from 55 ms"
    cells = [
        CellPlan(region="eu", traffic_class="video", factor=0.4, code="first_byte", why=why),
        CellPlan(region="", traffic_class="bulk", factor=0.9, code="recovered", why="as good again"),
    ]
    async with at("steering", (120, 40)) as desk:
        table = desk.house.query_one(PlanTable)
        assert "from eu" not in desk.text
        newest = _frames()[199]
        first, second, *others = newest.cdns
        plan = msgspec.structs.replace(second.plan, cells=cells)
        cdns = [first, msgspec.structs.replace(second, plan=plan), *others]
        later = {"seq": newest.seq + 2, "monotonic_ns": newest.monotonic_ns + 1_000_000_000}
        await desk.send(msgspec.structs.replace(newest, cdns=cdns, **later))
        await desk.until(lambda: len(table.records) == len(cdns) + 2)
        table.focus()
        await desk.press("j", "j")
        await desk.settle()
        rows = desk.text.splitlines()
        (row,) = [line for line in rows if "video from eu " in line and "40%" in line]
        assert "p95 of first" in row
        assert [line for line in rows if "bulk from no region " in line and "90%" in line]
        assert "borealis  video from eu: 40% of what it has as a whole: p95 of first bytes is 1" in desk.text
        await desk.press("enter")
        assert desk.house.NAME == "cdns"
        await desk.settle()
        assert str(desk.house.query_one(EndpointTable).current).startswith("borealis")


def test_differences_of_two_states() -> None:
    before = {"weights": {"a": 1, "b": 2}, "drained": [], "armed": True}
    after = {"weights": {"a": 1, "b": 3}, "drained": ["a"], "armed": True}
    assert differences(before, after) == [("weights.b", "2", "3"), ("drained", "none", "a")]
    assert differences(None, {"x": 1}) == [("it", "–", "{'x': 1}")]


async def test_the_journal_copies_a_command_line() -> None:
    async with at("journal") as desk:
        copied: list[str] = []
        desk.app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
        await desk.press("j", "y")
        assert copied == ["cdnctl block 10.66.0.0/16 --for 4h --reason 'SYN flood, ticket 4711'"]


async def test_hostile_text_in_every_screen() -> None:
    from test_robust import HOSTILE, harmless, poisoned

    frame = poisoned(HOSTILE)
    entries = [
        msgspec.structs.replace(
            each, user=HOSTILE, cli=HOSTILE, text=HOSTILE, reason=HOSTILE, at=HOSTILE,
            command={"verb": HOSTILE}, before={HOSTILE: 1},
        )
        for each in pictures.JOURNAL
    ]  # fmt: skip
    async with console([frame, msgspec.structs.replace(frame, seq=frame.seq + 1)], (80, 24)) as desk:
        desk.feed.answer = lambda command: msgspec.structs.replace(
            pictures.answer(command), text=HOSTILE, journal=entries, blocks=frame.blocks
        )
        packet = SampledPacket(HOSTILE, HOSTILE, 1, 2, HOSTILE, HOSTILE, 3, HOSTILE, True, HOSTILE)
        seq = frame.seq + 5
        for name in NAMES:
            await desk.go(name)
            assert name == desk.house.NAME
            desk.feed.sampled = [msgspec.structs.replace(pictures.packets(), packets=[packet])]
            await desk.send(
                Edge(seq=seq).frame(),
                msgspec.structs.replace(
                    frame, seq=seq + 4, monotonic_ns=Edge(seq=seq + 4).frame().monotonic_ns
                ),
            )
            seq += 10
            for key in ["j", "tab", "j", "tab", "j", "slash", "x", "escape"]:
                await desk.press(key)
                assert harmless(desk.text), name
                assert all(len(line) <= 80 for line in desk.text.splitlines())
            assert desk.app.is_running


async def test_the_line_runs_verbs_and_quits(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, ...]] = []

    async def note(words: tuple[str, ...]) -> tuple[bool, str]:
        ran.append(words)
        return True, "done"

    monkeypatch.setattr(speaking, "run_line", note)
    async with at("overview") as desk:
        for line, words in (("unit", ("unit",)), ("who", ("who", "--edge", desk.app.session.edge))):
            await desk.press("colon", *line, "enter")
            await desk.until(lambda words=words: ran[-1:] == [words])
            await desk.press("escape")
        await desk.press("colon", *"quit", "enter", "enter")
    assert desk.app.return_value == 0


@pytest.mark.parametrize("name", ["nonexistent", ""])
async def test_a_file_that_cannot_be_sent_ends_no_console(name: str, tmp_path: Path) -> None:
    async with at("overview") as desk:
        desk.house.speak(f"model load {tmp_path / name}")
        await desk.settle()
        assert "cannot read" in desk.text
        assert desk.app.is_running
