"""What is really on the screen, in every theme: can all of it be read, and is anything told by colour alone?

The screens are drawn, and every pair of a foreground and a background that some character wears is measured:
the palette's own pairs (see `test_theme`) say nothing of a widget that puts two colours together which never
were meant to meet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import msgspec
import pictures
import pytest
import tour
from driver import PALETTES, Desk, console
from frames import Edge
from test_theme import contrast
from textual.geometry import Region
from tour import AT_AN_AGENT, FLOOD, INCIDENT, Stop

from cdnctl.console.cast.picture import BEHIND, Camera, Look, Picture
from cdnctl.console.screens import trace
from cdnctl.console.settings import Settings
from cdnctl.console.theme import ANSI, Palette
from cdnctl.console.widgets import cdns, ticker, timeline
from cdnctl.model import Event, Frame, Interface, Outcome, Page

LEAST = {"high-contrast": 7.0}
"""Of text on its ground; of other themes 4.5."""
LEAST_DRAWN = 3.0
"""Of what is drawn to be read: lines of plots, bars, and the colour marks of CDNs."""
SIZE = (120, 40)
DRAWN = frozenset("━╸▌┃✖●◑◐◌▲▸■") | {chr(code) for code in range(0x2801, 0x2900)}
LOOKED_AT = {
    *("overview", "overview-slow", "cdns", "help", "command-line", "filter", "overview-blocked", "talkers"),
    *("attack", "live-drops", "live-lists", "live-steering", "live-trace", "live-journal", "journal"),
    *("weights-dialog", "block-dialog", "quit-dialog", "frozen"),
}
"""Of the stops: all screens, the banners, and what dialogs are made of."""


def of_words(char: str) -> bool:
    """Whether it is read, and not only seen."""
    return not (
        char.isspace() or char == BEHIND or 0x2500 <= ord(char) <= 0x259F or 0x2800 <= ord(char) <= 0x28FF
    )


def pairs(picture: Picture, palette: Palette, region: Region) -> Iterator[tuple[str, str, str]]:
    """Each character in the region, with the colours it is drawn in."""
    text, ground = palette.colors["text"], palette.colors["background"]
    for row in picture.rows[region.y : region.bottom]:
        for char, look in row[region.x : region.right]:
            front, back = look.fg or text, look.bg or ground
            yield (char[:1] or " ", *((back, front) if look.reverse else (front, back)))


def unreadable(picture: Picture, palette: Palette, region: Region) -> Iterator[str]:
    """What has too little contrast, once a pair of colours."""
    seen: dict[tuple[str, str, bool], str] = {}
    for char, front, back in pairs(picture, palette, region):
        if of_words(char) or char in DRAWN:
            key = front, back, of_words(char)
            seen[key] = seen.get(key, "") + char
    for (front, back, words), chars in seen.items():
        least = LEAST.get(palette.name, 4.5) if words else LEAST_DRAWN
        if (found := contrast(front, back)) < least:
            yield f"{front} on {back}: {found:.2f}, not {least}: {chars[:40]!r}"


def read(desk: Desk) -> Region:
    """Where one looks: at the dialog, if one is open; what is under it is dimmed on purpose."""
    boxes = [*desk.app.screen.query("#box"), *desk.app.screen.query("#help")]
    return boxes[0].region if boxes else desk.app.screen.region


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param(INCIDENT, id="incident"),
        pytest.param(FLOOD, id="flood", marks=pytest.mark.soak),
        pytest.param(AT_AN_AGENT, id="at an agent", marks=pytest.mark.soak),
    ],
)
async def test_every_pair_of_colours_on_screen_can_be_read(stops: tuple[Stop, ...]) -> None:
    problems: list[str] = []
    async with tour.along(stops, SIZE) as walk:
        async for stop in walk.stops(stops):
            if stop.name not in LOOKED_AT:
                continue
            for name, palette in PALETTES.items():
                if palette.mixes:
                    await walk.wear(name)
                    found = unreadable(walk.picture(), palette, read(walk.desk))
                    problems += [f"{name}, {stop.name}: {each}" for each in found]
    assert not problems, "\n".join(problems)


@pytest.mark.soak
async def test_in_the_terminals_own_colours_no_text_is_grey_on_grey() -> None:
    """`bright_black` is the ground itself in some terminals' palettes: lines may wear it, words not."""
    async with tour.along(AT_AN_AGENT, SIZE) as walk:
        await walk.wear("ansi")
        async for stop in walk.stops(AT_AN_AGENT):
            for row in walk.picture().rows:
                grey = "".join(char for char, look in row if look.fg == "color(8)" and of_words(char or " "))
                assert not grey, (stop.name, grey)


async def test_in_the_terminals_own_colours_the_row_under_the_cursor_is_of_one_ground() -> None:
    async with tour.along(AT_AN_AGENT, SIZE) as walk:
        await walk.wear("ansi")
        picture = walk.picture()
        row = next(row for row in picture.rows if any(look.reverse and char == "a" for char, look in row[3:]))
        under = [look for _, look in row if look.reverse]
        assert len(under) > 60
        assert {look.fg for look in under} == {None}


def test_measuring_finds_what_cannot_be_read() -> None:
    palette = PALETTES["midnight"]
    faint = palette.colors["faint"]
    picture = Picture(((("a", Look(fg=faint)), ("━", Look(fg=faint)), ("─", Look(fg=faint))),))
    [words, drawn] = unreadable(picture, palette, Region(0, 0, 3, 1))
    assert "'a'" in words
    assert "'━'" in drawn


# --- states without colours -------------------------------------------------------------------------


@asynccontextmanager
async def wearing(theme: str, frames: list[Frame], **options: object) -> AsyncIterator[Desk]:
    async with console(
        frames,
        SIZE,
        theme_name=theme,
        settings=Settings(glyphs="braille", utc=True),
        **options,  # type: ignore[arg-type]
    ) as desk:
        yield desk


def without_hues(picture: Picture) -> tuple[tuple[object, ...], ...]:
    """Characters and how heavy, turned or underlined they are; and grounds, which are light or dark."""
    return tuple(
        tuple((char, look.bold, look.underline, look.reverse, look.bg) for char, look in row)
        for row in picture.rows
    )


def with_cdn(frame: Frame, **changes: object) -> Frame:
    first, *rest = frame.cdns
    endpoint = msgspec.structs.replace(first.endpoints[0], state=changes.get("state", "in"))
    return msgspec.structs.replace(
        frame, cdns=[msgspec.structs.replace(first, endpoints=[endpoint], **changes), *rest]
    )


def states_of_a_cdn() -> list[Frame]:
    return [with_cdn(Edge().frame(), state=state) for state in cdns.STATES]


def states_of_the_edge() -> list[Frame]:
    frame = Edge().frame()
    return [
        frame,
        *(
            msgspec.structs.replace(frame, **change)
            for change in (
                {"armed": False},
                {"bypassed": True},
                {"loaded": False},
                {"interfaces": [Interface(name="eth0", mode="generic")]},
                {"interfaces": [Interface(name="eth0", mode="detached")]},
            )
        ),
    ]


def severities() -> list[Frame]:
    frame = Edge().frame()
    events = [Event(seq=1, at_ns=frame.at_ns, kind="note", text="x", severity=each) for each in ticker.MARKS]
    return [msgspec.structs.replace(frame, events=[event]) for event in events]


@pytest.mark.parametrize(
    ("screen", "variants"),
    [
        ("overview", states_of_a_cdn),
        ("cdns", states_of_a_cdn),
        ("overview", states_of_the_edge),
        ("overview", severities),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_states_differ_without_hues(screen: str, variants: Callable[[], list[Frame]]) -> None:
    """In plain there is nothing but characters; the colour-blind theme draws the same ones."""
    seen = []
    for frame in variants():
        async with wearing("plain", [frame]) as desk:
            await desk.go(screen)
            seen.append(without_hues(Camera().take(desk.app)))
    assert len(set(seen)) == len(seen) > 1


CHANGED_BY = [
    ("overview", (), ("tab",)),  # the focus
    ("overview", (), ("j",)),  # the cursor
    ("overview", ("tab", "tab"), ("s",)),  # the column that is sorted by
    ("overview", ("tab", "tab"), ("r",)),
    ("overview", (), ("space",)),
    ("talkers", (), ("f",)),
    ("lists", (), ("m",)),
    ("overview", ("q",), ("down",)),  # what is chosen
    ("overview", ("w",), ("space",)),
]


@pytest.mark.parametrize("theme", ["plain", "colour-blind"])
async def test_what_a_key_changes_is_seen_without_hues(theme: str) -> None:
    frames = pictures.rich([Edge().frame()])
    async with wearing(theme, frames, answer=pictures.answer) as desk:
        for screen, before, keys in CHANGED_BY:
            await desk.go(screen)
            if before:
                await desk.press(*before)
            first = without_hues(Camera().take(desk.app))
            await desk.press(*keys)
            assert without_hues(Camera().take(desk.app)) != first, (screen, keys)
            await desk.press("escape", "escape")


@pytest.mark.parametrize("theme", ["plain", "colour-blind"])
async def test_a_refusal_a_finding_and_a_drop_are_seen_without_hues(theme: str) -> None:
    """What came of a change, an entry of the journal, a finding of the doctor, a sampled packet."""
    seen: dict[str, set[object]] = {}
    async with wearing(theme, [Edge().frame()]) as desk:
        for good in (True, False):
            entry = msgspec.structs.replace(pictures.JOURNAL[0], ok=good)
            answered = Outcome(ok=True, text="", journal=[entry], page=Page(total=1))
            desk.feed.answer = lambda _command, answered=answered: answered
            desk.app._answer(Outcome(ok=good, text="refused: x"))
            await desk.settle()
            seen.setdefault("answer", set()).add(row_with(desk, "refused: x"))
            await desk.press("escape")
            packet = msgspec.structs.replace(pictures.packets().packets[0], drop=good, verdict="x")
            desk.feed.sampled = [msgspec.structs.replace(pictures.packets(), packets=[packet])]
            await desk.go("drops")
            await desk.send(Edge(seq=9 - good).frame())
            seen.setdefault("packet", set()).add(row_with(desk, "10.66.3.9"))
            await desk.go("journal")
            await desk.until(lambda: "attached to eth0" in desk.text)
            seen.setdefault("journal", set()).add(row_with(desk, "attached to eth0"))
            await desk.go("overview")
    assert {what: len(rows) for what, rows in seen.items()} == {"answer": 2, "packet": 2, "journal": 2}


def row_with(desk: Desk, words: str) -> object:
    picture = Camera().take(desk.app)
    number = next(at for at, line in enumerate(picture.text.splitlines()) if words in line)
    return without_hues(picture)[number]


@pytest.mark.parametrize(
    "marks",
    [
        [text for text, _ in cdns.STATES.values()],
        [text for text, _ in ticker.MARKS.values()],
        [text for text, _ in timeline.SHAPES.values()],
        [text for text, _ in trace.LEVELS.values()],
    ],
    ids=["CDNs", "events", "breakers", "findings"],
)
def test_every_state_has_a_shape_of_its_own(marks: Iterable[str]) -> None:
    shapes = [mark[0] for mark in marks]
    assert len(set(shapes)) == len(shapes)


@pytest.mark.parametrize("name", PALETTES)
def test_themes_are_complete(name: str) -> None:
    """A theme that could be parsed may still be one in which two things look the same."""
    palette = PALETTES[name]
    if palette.mixes:
        assert len({*palette.series[:8]}) == 8, "the first eight CDNs must be told apart"
        assert len({palette.colors[role] for role in ("good", "warn", "bad", "muted")}) == 4
        assert palette.colors["cursor"] not in (palette.colors["background"], palette.colors["surface"])
    else:
        assert {*palette.colors.values(), *palette.series} <= ANSI
    assert palette.dark == (name != "daylight")
