"""The file that players of terminal sessions read: asciicast 3, and 2 for older ones.

A line of JSON with what the terminal is like, then a line an event: when, of what kind, what. Version 3
counts the seconds of an event from the one before it, version 2 from the beginning. Times are kept in
whole milliseconds, so that rounding never adds up.
"""

from __future__ import annotations

import json
from typing import Any, Literal, TextIO

from cdnctl.console.format import clean
from cdnctl.console.theme import Palette

Version = Literal[2, 3]


class Asciicast:
    """Writes one to `out`; call `header` first."""

    def __init__(self, out: TextIO, version: Version = 3) -> None:
        self.version = version
        self.events = 0
        self.markers = 0
        self.ended_ms = 0
        self._out = out

    def header(self, size: tuple[int, int], palette: Palette, *, title: str, began_ns: int) -> None:
        """What the terminal is like; `began_ns` is the wall time of the first picture.

        Its colours are the theme's; a theme that leaves them to the terminal leaves them to the player.
        """
        width, height = size
        colors: dict[str, Any] = {}
        if palette.mixes:
            colors["theme"] = {
                "fg": palette.colors["text"],
                "bg": palette.colors["background"],
                "palette": ":".join(sixteen(palette)),
            }
        common: dict[str, Any] = {
            "timestamp": began_ns // 10**9,
            "title": clean(title, 120),
            "env": {"TERM": "xterm-256color"},
        }
        terminal: dict[str, Any] = (
            {"width": width, "height": height, **colors}
            if self.version == 2
            else {"term": {"cols": width, "rows": height, "type": "xterm-256color", **colors}}
        )
        self._line({"version": self.version, **terminal, **common})

    def output(self, at_s: float, text: str) -> None:
        """The terminal is sent `text`."""
        self._event(at_s, "o", text)
        self.events += 1

    def marker(self, at_s: float, label: str) -> None:
        """A place that players can jump to."""
        self._event(at_s, "m", clean(label, 120))
        self.markers += 1

    def end(self, at_s: float) -> None:
        """The session is over; only version 3 can say so, the other ends with its last event."""
        if self.version == 3:
            self._event(at_s, "x", "0")

    def _event(self, at_s: float, code: str, data: str) -> None:
        at_ms = max(self.ended_ms, round(at_s * 1000))
        when_ms = at_ms if self.version == 2 else at_ms - self.ended_ms
        self.ended_ms = at_ms
        self._line([when_ms / 1000, code, data])

    def _line(self, value: object) -> None:
        self._out.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def sixteen(palette: Palette) -> list[str]:
    """A terminal's own colours, made of the theme's: black, red, green, yellow, blue, magenta, cyan, white,
    and the same bright."""
    colors, series = palette.colors, palette.series
    hues = [colors["bad"], colors["good"], colors["warn"], colors["accent"], series[2], series[3]]
    return [colors["surface"], *hues, colors["muted"], colors["faint"], *hues, colors["text"]]
