"""What opens over a screen, and is painted once it is whole.

Textual paints a screen whenever anything of it changes, and while a dialog comes to be, its frame, its
fields, the focus and what it has to say do so one after the other. Each time all of the screen is painted, as
a veil lies over what is below: that took longer than all the rest that a key asks for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Self

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.events import Mount
from textual.geometry import Region, Size
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.strip import Strip

LATEST_S = 0.1
"""Painted then in any case."""


class Whole(ModalScreen[ScreenResultType]):
    """A dialog of any kind."""

    _is_whole = False
    _veil: list[Strip] | None = None
    """What is below, dimmed, until that changes."""
    _veil_size = Size(0, 0)

    def _on_mount(self, event: Mount) -> None:
        # Textual calls that of each class by itself
        self.set_timer(LATEST_S, self._show_whole)
        self.call_after_refresh(self.call_after_refresh, self._show_whole)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The screen below, dimmed, as Textual would but for what that costs."""
        stack, color = self.app.screen_stack, self.styles.background
        if self not in stack[1:] or color.a == 1:
            return super().render_lines(crop)
        below = stack[stack.index(self) - 1]
        if self._veil is None or self._veil_size != below.size:
            self._veil, self._veil_size = self._dim(below, color), below.size
        rows = self._veil[crop.y : crop.bottom]
        rows += [Strip([])] * (crop.height - len(rows))  # after a resize it is asked before what is below is
        return [strip.crop_extend(crop.x, crop.right, None) for strip in rows]

    def _dim(self, below: Screen[object], color: Color) -> list[Strip]:
        filters = [each for each in self.app.get_line_filters() if each.enabled]
        veil = []
        for strip in below._compositor.render_strips():
            dimmed = Strip([_dimmed(segment, color) for segment in strip], strip.cell_length)
            for each in filters:
                dimmed = dimmed.apply_filter(each, color)
            veil.append(dimmed)
        return veil

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        self._veil = None  # what is below has changed, or may have
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def update_node_styles(self, animate: bool = True) -> None:
        if self._is_whole:  # else each part has just been given its own
            super().update_node_styles(animate)

    def _show_whole(self) -> None:
        if not self._is_whole:
            self._is_whole = True
            self.refresh()

    def _compositor_refresh(self) -> None:
        if self._is_whole or self.app.is_headless:
            super()._compositor_refresh()


def _dimmed(segment: Segment, color: Color) -> Segment:
    text, style, control = segment
    return segment if control or style is None else Segment(text, _dim_style(style, color))


@lru_cache(maxsize=4096)
def _dim_style(style: Style, color: Color) -> Style:
    """A picture has thousands of pieces, and few styles."""
    [made] = BackgroundScreen.process_segments([Segment(" ", style)], color)
    return style if made.style is None else made.style
