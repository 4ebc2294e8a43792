"""The line that says where on a tape one is; there only while one is on."""

from __future__ import annotations

from rich.cells import cell_len

from cdnctl.console.format import clean, fit, position
from cdnctl.console.widgets.lines import Lines, Row, Span
from cdnctl.recording.player import Player

LEAST_BAR, MOST_BAR = 10, 60
_SEVERITY_ROLES = {"alarm": "bad bold", "warning": "warn", "notice": "accent"}


class TransportLine(Lines):
    """Playing or not, how fast, the time, a bar with the chapters, and the chapter one is in."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._state: tuple[Player, str] | None = None
        self.display = False

    def update(self, player: Player | None, problem: str = "") -> None:
        """Show where the player is; None takes the line away."""
        self._state = None if player is None else (player, problem)
        self.display = player is not None
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        if self._state is not None:
            self.show([_line(*self._state, self.size.width)])


def _line(player: Player, problem: str, width: int) -> Row:
    tape, chapter = player.tape, player.chapter
    mark = ("▶", "good bold") if player.playing else ("❙❙", "warn bold")
    speed = "" if player.speed == 1 else f" {player.speed:g}×"
    now_s = tape.position_ns(player.number) / 1e9
    left: list[Span] = [
        (" ", ""), mark, (f"{speed} ", "text bold"),
        (position(now_s), "text bold"), (f" of {position(tape.duration_ns / 1e9)} ", "muted"),
    ]  # fmt: skip
    room = width - sum(cell_len(text) for text, _role in left)
    bar = max(LEAST_BAR, min(MOST_BAR, room // 2))
    title = (
        (f"▲ {problem}", "bad bold") if problem else (clean(chapter.title, 120) if chapter else "", "text")
    )
    return (*left, *_bar(player, bar), (fit(f"  {title[0]}", max(0, room - bar)), title[1]))


def _bar(player: Player, width: int) -> Row:
    """The tape's time from left to right: what was played, and where chapters begin."""
    span_ns = max(1, player.tape.duration_ns)
    here = min(width - 1, player.tape.position_ns(player.number) * width // span_ns)
    cells: list[Span] = [("━", "accent") if at < here else ("─", "faint") for at in range(width)]
    for chapter in player.chapters:
        at = min(width - 1, chapter.position_ns * width // span_ns)
        cells[at] = ("┃", _SEVERITY_ROLES.get(chapter.severity, "muted"))
    cells[here] = ("●", "text bold")
    return tuple(cells)
