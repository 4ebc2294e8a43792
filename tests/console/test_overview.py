"""The screen: every key that looks, what is shown, and what is not drawn again."""

from __future__ import annotations

import msgspec
import pytest
from driver import PALETTES, console
from frames import Edge

from cdnctl.console import keys
from cdnctl.console.screens.dialogs.help import HelpDialog
from cdnctl.console.widgets.cdns import CdnTable
from cdnctl.console.widgets.talkers import TalkerTable
from cdnctl.model import Block, Interface, Sampling

SIZES = [(80, 24), (120, 40), (200, 50)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("theme", PALETTES)
async def test_nothing_vital_is_lost_at_any_size(size: tuple[int, int], theme: str) -> None:
    edge = Edge(slow="borealis", flood_pps=52_000.0, step="a step")
    edge.say("eject", "borealis is out: slow", "alarm")
    async with console([edge.frame() for _ in range(9)], size, theme_name=theme) as desk:
        text = desk.text
    for vital in (
        *("ams1", "● ARMED", "a step", "frame 9", "● live", "lost 0", "● in", "✖ out slow", "p99"),
        *("handshake p95", "drops", "10.66.0.0/16", "borealis is out: slow", "b block", "q quit"),
    ):
        assert vital in text, vital


async def test_eight_cdns_fit_into_the_smallest_terminal_by_scrolling() -> None:
    async with console([Edge(cdns=8).frame()], (80, 24)) as desk:
        assert "▌halo" not in desk.text
        await desk.press("G")
        assert "▌halo" in desk.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"armed": False}, "▲ DISARMED"),
        ({"bypassed": True}, "✖ BYPASSED"),
        ({"loaded": False}, "✖ NOT LOADED"),
        ({"interfaces": [Interface(name="eth0", mode="detached")]}, "✖ DETACHED"),
    ],
)
async def test_the_headline_says_when_the_edge_is_not_armed(change: dict[str, object], words: str) -> None:
    async with console([msgspec.structs.replace(Edge().frame(), **change)], (80, 24)) as desk:
        assert words in desk.text
        assert ("d arm" in desk.text) == (words in ("▲ DISARMED", "✖ BYPASSED"))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_step_comes_before_interfaces_and_those_that_are_odd_before_the_others(
    size: tuple[int, int],
) -> None:
    links = [Interface(name=f"cdn-{number}", mode="native") for number in range(6)]
    links += [Interface(name="eth9", mode="generic")]
    step = "a SYN flood from one /16: press b"
    frame = msgspec.structs.replace(Edge(step=step).frame(), interfaces=links)
    async with console([frame], size) as desk:
        first = desk.text.splitlines()[0]
    assert f"▸ {step}" in first
    assert ("eth9 generic" in first) == (size[0] >= 120)
    assert ("6 interfaces native" in first) == (size[0] >= 200)


async def test_losses_and_shortfalls_are_said() -> None:
    frame = msgspec.structs.replace(
        Edge().frame(),
        sampling=Sampling(one_in=64, lost_total=900, lost_per_s=120.0, stale_s=7.0),
        blocks_wanted=12_000,
        blocks_enforced=11_000,
    )
    async with console([frame], (200, 50)) as desk:
        text = desk.text
    assert "sampling 1 in 64, lost 120/s" in text
    assert "reader hangs 7.0s" in text
    assert "12,000 wanted, 11,000 enforced" in text


async def test_help_lists_every_key_and_closes() -> None:
    async with console(size=(200, 50)) as desk:
        await desk.press("question_mark")
        assert isinstance(desk.app.screen, HelpDialog)
        lines = desk.app.screen.query_one("#help")
        await desk.press("G")
        assert lines.scroll_offset.y == lines.max_scroll_y > 0
        await desk.press("g")
        assert lines.scroll_offset.y == 0
        seen = desk.text
        await desk.press("pagedown")  # it is a little longer than the largest of terminals
        seen += desk.text
        for key in keys.help_of("overview"):
            assert key.help in seen
        await desk.press("escape")
        assert desk.app.screen is desk.overview


async def test_help_scrolls_where_it_does_not_fit() -> None:
    async with console(size=(80, 24)) as desk:
        await desk.press("question_mark")
        assert "✖ BYPASSED" not in desk.text
        await desk.press(*["pagedown"] * 5)
        assert "✖ BYPASSED" in desk.text


async def test_every_key_in_the_footer_is_bound_and_every_binding_is_in_the_help() -> None:
    async with console() as desk:
        bound = desk.overview._bindings.key_to_bindings
        for key in keys.of("overview"):
            for name in filter(None, key.keys.split(",")):
                assert name in bound or len(name) == 1, name
        for key in keys.footer("overview"):
            assert key in keys.help_of("overview")


async def test_tab_goes_round_the_tables_and_the_cursor_moves_in_them() -> None:
    async with console() as desk:
        seen = []
        for _ in range(4):
            await desk.press("tab")
            seen.append(desk.overview.focused.id if desk.overview.focused else "")
        assert seen == ["drops", "talkers", "events", "cdns"]
        await desk.press("shift+tab", "shift+tab")
        table = desk.overview.query_one(TalkerTable)
        assert table.has_focus
        await desk.press("j", "down")
        assert table.current == table.records[2].key
        await desk.press("k")
        assert table.cursor == 1
        await desk.press("G")
        assert table.cursor == len(table.records) - 1
        await desk.press("g", "k")
        assert table.cursor == 0


async def test_the_cursor_stays_with_its_row_when_the_order_changes() -> None:
    edge = Edge()
    frame = edge.frame()
    async with console([frame]) as desk:
        await desk.press("tab", "tab", "j", "j")
        table = desk.overview.query_one(TalkerTable)
        held = table.current
        turned = [msgspec.structs.replace(talker, pps=1000.0 - talker.pps) for talker in frame.talkers]
        await desk.send(msgspec.structs.replace(edge.frame(), talkers=turned))
        assert table.current == held
        assert table.cursor != 2
        await desk.press("g")  # the top is a place, not a row
        await desk.send(edge.frame())
        assert table.cursor == 0


async def test_a_line_explains_what_is_focused() -> None:
    async with console() as desk:
        assert "slow over 51.2" in desk.text
        await desk.press("tab")
        assert "The source is on the block list." in desk.text
        await desk.press("tab")
        assert "7,412 samples" in desk.text
        await desk.press("tab", "j", "j", "j")
        assert "✖ corona is out: dark, 5 connects unanswered for 48 ms" in desk.text.splitlines()[-2]


async def test_talkers_sort_by_the_next_column_and_reverse() -> None:
    async with console() as desk:
        table = desk.overview.query_one(TalkerTable)
        assert "pps↓" in table.text
        await desk.press("r")
        assert table.current == "10.3.136.0/24"
        assert "pps↑" in table.text
        await desk.press("r", "s", "s")
        assert table.sort == "drop"
        assert "drop↓" in table.text
        assert [record.key for record in table.records[:2]] == ["10.66.0.0/16", "10.1.51.88"]
        await desk.press("s")
        assert table.current == "10.1.0.1"
        await desk.press("s")
        assert table.sort == "pps"


async def test_freeze_holds_the_display_and_collection_goes_on() -> None:
    edge = Edge()
    async with console([edge.frame()]) as desk:
        await desk.press("space")
        assert "FROZEN at 22:13:20" in desk.text
        assert "space go on" in desk.text
        edge.say("note", "what came meanwhile")
        await desk.send(edge.frame(), edge.frame())
        await desk.until(lambda: "2 newer frames" in desk.text)
        assert "frame 1 " in desk.text
        assert "what came meanwhile" not in desk.text
        await desk.press("space")
        assert "FROZEN" not in desk.text
        assert "frame 3 " in desk.text
        assert "what came meanwhile" in desk.text


async def test_t_goes_through_the_themes_and_everything_is_drawn_in_them() -> None:
    async with console() as desk:
        before = desk.app.palette
        await desk.press("t")
        assert desk.app.palette != before
        strips = desk.overview.query_one(CdnTable).render_line(1)
        colors = {segment.style.bgcolor.name for segment in strips if segment.style and segment.style.bgcolor}
        assert desk.app.palette.colors["cursor"] in colors
        for _ in PALETTES.keys() - {before.name}:
            await desk.press("t")
        assert desk.app.palette == before


async def test_the_palette_has_the_consoles_own_commands_only() -> None:
    async with console() as desk:
        commands = [command.title for command in desk.app.get_system_commands(desk.overview)]
        places = [place.title for place in keys.SCREENS]
        assert commands == [*(key.label for key in keys.of("overview") if key.group != "Move"), *places]
        await desk.press("ctrl+p")
        await desk.press(*"weights")
        await desk.until(lambda: "with the shares they lead to" in desk.text)
        await desk.press("enter")
        await desk.until(lambda: "Weights and drains" in desk.text)


async def test_rows_that_did_not_change_are_not_drawn_again() -> None:
    edge = Edge()
    frame = edge.frame()
    async with console([frame]) as desk:
        table = desk.overview.query_one(TalkerTable)
        drawn: list[int] = []
        table.repaint = drawn.append  # type: ignore[method-assign]
        changed = [
            msgspec.structs.replace(frame.talkers[0], pps=frame.talkers[0].pps + 40),
            *frame.talkers[1:],
        ]
        await desk.send(msgspec.structs.replace(edge.frame(), talkers=frame.talkers))
        assert drawn == []
        await desk.send(msgspec.structs.replace(edge.frame(), talkers=changed))
        assert 1 in drawn
        assert len(drawn) <= len(changed)


async def test_below_the_smallest_size_the_console_names_it_and_comes_back() -> None:
    async with console([Edge().frame()], (80, 24)) as desk:
        await desk.resize(60, 18)
        assert "cdnctl needs 80x24" in desk.text
        assert "this terminal is 60x18" in desk.text
        await desk.resize(81, 25)
        assert "● ARMED" in desk.text
        assert "10.1.0.1" in desk.text


async def test_an_edge_without_anything_yet() -> None:
    bare = msgspec.structs.replace(Edge().frame(), cdns=[], talkers=[], verdicts=[], events=[], interfaces=[])
    async with console([bare], (80, 24)) as desk:
        for words in (
            "no CDN is configured",
            "no traffic sampled",
            "nothing was dropped",
            "nothing happened",
        ):
            assert words in desk.text
        await desk.press("w")
        assert "there is no CDN to weigh" in desk.text


async def test_blocks_are_listed_whatever_is_frozen() -> None:
    edge = Edge()
    async with console([edge.frame()]) as desk:
        await desk.press("space")
        edge.extra_blocks = [Block(prefix="192.0.2.9/32")]
        await desk.send(edge.frame())
        await desk.press("u")
        assert "192.0.2.9/32" in desk.text
