"""Goldens: every screen, the dialogs that matter, help, palette and lines, at three sizes; some as SVG too.

`make goldens` writes all of them anew (it is this file with `UPDATE_GOLDENS=1`): then look at `git diff`, and
at the SVGs in a browser, before you commit them. Nothing is drawn from a clock, so that a difference is one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tour
from driver import PALETTES
from golden import Goldens
from tour import SIZES, STOPS, TOURS, Size

from cdnctl.console import keys
from cdnctl.console.cast.svg import svg

IN_COLOUR: dict[str, tuple[Size, str]] = {
    "overview": ((120, 40), "midnight"),
    "overview-slow": ((80, 24), "daylight"),
    "overview-blocked": ((200, 50), "colour-blind"),
    "cdns": ((120, 40), "midnight"),
    "talkers": ((120, 40), "high-contrast"),
    "live-drops": ((120, 40), "midnight"),
    "live-lists": ((80, 24), "amber"),
    "live-steering": ((120, 40), "daylight"),
    "live-trace": ((120, 40), "plain"),
    "journal": ((120, 40), "ansi"),
    "attack": ((120, 40), "midnight"),
    "weights-dialog": ((120, 40), "midnight"),
}
"""Those kept as SVG too, by stop: every screen, a dialog, every theme and every size."""
EXACT = PALETTES["midnight"]
"""What themes of the terminal's own colours are drawn with."""


def named(size: Size) -> str:
    """As in the goldens' names."""
    return f"{size[0]}x{size[1]}"


@pytest.mark.parametrize("size", SIZES, ids=named)
async def test_goldens(size: Size) -> None:
    """Each stop of each tour at this size."""
    goldens = Goldens()
    for stops in TOURS.values():
        async with tour.along(stops, size) as walk:
            async for stop in walk.stops(stops):
                goldens.look(f"{stop.name}-{named(size)}.txt", walk.picture().text + "\n")
                at, theme = IN_COLOUR.get(stop.name, (None, ""))
                if at == size:
                    await walk.wear(theme)
                    palette = PALETTES[theme] if PALETTES[theme].mixes else EXACT
                    drawn = svg(walk.picture(), palette, f"cdnctl · {stop.name}")
                    goldens.look(f"{stop.name}-{named(size)}-{theme}.svg", drawn)
                    await walk.wear("midnight")
    goldens.sweep((f"-{named(size)}.txt", *(f"-{named(size)}-{theme}.svg" for theme in PALETTES)))
    goldens.verify()


def test_every_screen_is_on_the_tour_and_in_colour() -> None:
    assert {stop.screen for stop in STOPS} == {place.name for place in keys.SCREENS}
    screens = {stop.name: stop.screen for stop in STOPS}
    assert len(screens) == len(STOPS)
    assert {screens[name] for name in IN_COLOUR} == {place.name for place in keys.SCREENS}
    assert {theme for _, theme in IN_COLOUR.values()} == set(PALETTES)
    assert {size for size, _ in IN_COLOUR.values()} == set(SIZES)


KEPT = (
    '<svg xmlns="http://www.w3.org/2000/svg"><g fill="#111111" id="a7"><text x="1" y="2">in</text></g></svg>'
)


@pytest.mark.parametrize(
    ("name", "kept", "shown", "said"),
    [
        ("a.txt", "one\ntwo\n", "one\ntoo\n", ["-two", "+too"]),
        ("a.svg", KEPT, KEPT.replace("#111111", "#222222"), ["-y     2.00", "fill=#222222"]),
        ("a.svg", KEPT, KEPT.replace(">in<", ">out<"), ["'in'", "+y     2.00 x     1.00 'out'"]),
        ("a.txt", None, "x\n", ["a.txt: there is none yet"]),
    ],
)
def test_a_mismatch_says_what_differs_and_how_to_accept_it(
    tmp_path: Path, name: str, kept: str | None, shown: str, said: list[str]
) -> None:
    if kept is not None:
        (tmp_path / name).write_text(kept)
    goldens = Goldens(tmp_path, update=False)
    goldens.look(name, shown)
    with pytest.raises(AssertionError) as caught:
        goldens.verify()
    for words in (*said, "make goldens"):
        assert words in str(caught.value)
    accepted = Goldens(tmp_path, update=True)
    accepted.look(name, shown)
    accepted.verify()
    assert (tmp_path / name).read_text() == shown


def test_ids_may_be_called_otherwise_and_what_nobody_looks_at_goes(tmp_path: Path) -> None:
    (tmp_path / "a-1x1.svg").write_text(KEPT)
    (tmp_path / "b-1x1.svg").write_text(KEPT)
    goldens = Goldens(tmp_path, update=False)
    goldens.look("a-1x1.svg", KEPT.replace("a7", "terminal-4711"))
    goldens.verify()
    goldens.sweep(("-1x1.svg",))
    with pytest.raises(AssertionError, match="b-1x1.svg: no stop"):
        goldens.verify()
    accepted = Goldens(tmp_path, update=True)
    accepted.look("a-1x1.svg", KEPT)
    accepted.sweep(("-1x1.svg",))
    assert [path.name for path in tmp_path.iterdir()] == ["a-1x1.svg"]
