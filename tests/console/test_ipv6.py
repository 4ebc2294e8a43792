"""Prefixes of IPv6 are longer: they are shown whole where there is room, sorted, typed and lifted."""

from __future__ import annotations

import pytest
from driver import console
from frames import Edge

from cdnctl.console.widgets.talkers import TalkerTable
from cdnctl.model import Block, BlockPrefix, Talker, Unblock

LONG = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"
USUAL = "2001:db8:1234:5678::/64"
PREFIXES = [LONG, USUAL, "10.66.0.0/16", "9.1.2.3", "2001:db8::7", "::1"]


def both_families() -> Edge:
    edge = Edge()
    edge.extra_talkers = [
        Talker(prefix=prefix, pps=9e5 - n, bps=1e9, drop_share=0.5, cdn="aurora", samples=99, error=0.1)
        for n, prefix in enumerate(PREFIXES)
    ]
    return edge


@pytest.mark.parametrize(("size", "room"), [((120, 40), 19), ((200, 50), 30)])
async def test_a_long_prefix_takes_room_from_the_bar_beside_it(size: tuple[int, int], room: int) -> None:
    async with console([both_families().frame()], size) as desk:
        lines = [line for line in desk.text.splitlines() if "900k" in line]
    assert len(lines) == len(PREFIXES)
    for prefix, line in zip(PREFIXES, lines, strict=True):
        assert (f"{prefix} " if len(prefix) <= room + 1 else f"{prefix[:room]}… ") in line
        for cell in ("━━━━", "50%", "▌aurora"):
            assert cell in line


async def test_what_is_cut_is_said_below() -> None:
    async with console([both_families().frame()], (80, 24)) as desk:
        assert LONG not in desk.text
        assert LONG[:12] in desk.text
        await desk.press("tab", "tab")
        assert LONG in desk.text.splitlines()[-2]


async def test_sorted_by_prefix_the_families_keep_apart() -> None:
    async with console([both_families().frame()], (120, 40)) as desk:
        await desk.press("s", "s", "s")
        table = desk.overview.query_one(TalkerTable)
        order = [record.key for record in table.records if record.key in PREFIXES]
        assert order == ["9.1.2.3", "10.66.0.0/16", "::1", "2001:db8::7", USUAL, LONG]


async def test_what_is_no_prefix_sorts_last() -> None:
    edge = Edge()
    edge.extra_talkers = [
        Talker(prefix=text, pps=1e9, bps=0.0, drop_share=0.0) for text in ("elsewhere", "::1")
    ]
    async with console([edge.frame()], (120, 40)) as desk:
        await desk.press("s", "s", "s")
        table = desk.overview.query_one(TalkerTable)
        assert [record.key for record in table.records[-2:]] == ["::1", "elsewhere"]


async def test_it_is_blocked_and_lifted_by_the_same_keys() -> None:
    edge = both_families()
    edge.extra_blocks = [Block(prefix=LONG, reason="scanner")]
    async with console([edge.frame()], (120, 40)) as desk:
        await desk.press("b", "ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix=f"{LONG}/128")]
        desk.feed.commands.clear()
        await desk.press("u")
        assert LONG in desk.text
        assert "scanner" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == [Unblock(prefix=LONG, source="manual")]


async def test_bits_beyond_the_prefix_are_said() -> None:
    async with console([both_families().frame()], (120, 40)) as desk:
        await desk.press("b", "tab", "ctrl+u", "ctrl+k", *"2001:db8::7/64")
        await desk.until(lambda: "has bits set beyond its /64" in desk.text)
        assert "2001:db8::/64 for the prefix" in desk.text
