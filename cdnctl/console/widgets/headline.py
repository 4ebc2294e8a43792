"""The two lines on top: which edge, in what state, and how much goes through it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len

from cdnctl.console.format import clean, clock, count, duration, fit, mbit, scaled
from cdnctl.console.session import STALE_S
from cdnctl.console.widgets.level import LEVEL_MARKS
from cdnctl.console.widgets.lines import Lines, Row, Span
from cdnctl.model import Frame

GAP: Span = ("  ", "")
WIDE_FROM = 118
"""From here on labels are whole words."""


class Headline(Lines):
    """Draws the newest (or the frozen) frame's totals."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._frame: Frame | None = None
        self._edge = ""
        self._age_s = 0.0
        self._place = ""

    def update(self, frame: Frame | None, edge: str, age_s: float, place: str = "") -> None:
        """Show `frame`, taken `age_s` seconds ago; before the first one, just the name. `place` says
        what it is when it is not live."""
        self._frame, self._edge, self._age_s, self._place = frame, edge, age_s, place
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        width = self.size.width
        name: Row = ((" cdnctl ", "background on accent bold"), (f" {clean(self._edge, 32)} ", "text bold"))
        if self._frame is None:
            self.show([(*name, (" waiting for the first frame", "muted")), ()])
            return
        self.show([self._first(self._frame, name, width), _totals(self._frame, width)])

    def _first(self, frame: Frame, name: Row, width: int) -> Row:
        """State and step on the left, frame and age on the right; then, if there is room, time and links."""
        old = self._age_s >= STALE_S
        age = self._place or (f"▲ {duration(self._age_s)} old " if old else "● live ")
        right: Row = ((age, "warn bold" if old or self._place else "good"),)
        left: Row = (*name, (" ", ""), *_state(frame), *_level(frame))
        room = width - _cells(left) - _cells(right) - 1
        if frame.recording is not None:
            size = f" ◉ rec {frame.recording.bytes / 1e6:.1f} MB"
            left, room = (*left, (size, "bad bold")), room - cell_len(size)
        if step := clean(frame.step, 120):
            shown = fit(f"  ▸ {step}", max(0, min(room, cell_len(step) + 4)))
            left = (*left, (shown, "accent bold"))
            room -= cell_len(shown)
        number: Row = (("frame ", "muted"), (count(frame.seq), "text"), GAP)
        for extra in (((clock(frame.at_ns), "muted"), GAP), number, *_links(frame)):
            if _cells(extra) < room:
                right = (*extra, *right)
                room -= _cells(extra)
        return (*left, (" " * (room + 1), ""), *right)


def _links(frame: Frame) -> list[Row]:
    """The interfaces by name, or only how many; those that are not native are not left out easily."""
    odd = [interface for interface in frame.interfaces if interface.mode != "native"]
    named = [(f"{clean(interface.name, 15)} {interface.mode}", "warn") for interface in odd[:3]]
    if len(odd) > 3:
        named.append((f"and {len(odd) - 3} more", "warn"))
    native = len(frame.interfaces) - len(odd)
    if native:
        named.append((f"{native} interface{'s' if native > 1 else ''} native", "muted"))
    return [(span, GAP) for span in named]


def _state(frame: Frame) -> Row:
    if not frame.loaded:
        return ((" ✖ NOT LOADED ", "background on bad bold"),)
    if frame.interfaces and all(interface.mode == "detached" for interface in frame.interfaces):
        return ((" ✖ DETACHED ", "background on bad bold"),)
    if frame.bypassed:
        return ((" ✖ BYPASSED ", "background on bad bold"),)
    if not frame.armed:
        return ((" ▲ DISARMED ", "background on bad bold"),)
    return (("● ARMED", "good bold"),)


def _level(frame: Frame) -> Row:
    """How hard it is for new flows; nothing while it is calm and nobody holds it so."""
    shield = frame.shield
    if shield.level == "calm" and shield.wish == "auto":
        return ()
    mark, role = LEVEL_MARKS[shield.level]
    return (GAP, (f"{mark} {shield.level.upper()}", f"{role} bold"))


def _totals(frame: Frame, width: int) -> Row:
    totals, sampling = frame.totals, frame.sampling
    challenged = frame.shield.challenged_per_s >= 0.5
    wide = width >= (150 if challenged else WIDE_FROM)  # short words, and nothing has to give way for it
    lost = sampling.lost_per_s >= 0.5
    parts: list[Row] = [
        (("in ", "muted"), (scaled(totals.received_pps), "text bold"), (" pps " if wide else "pps ", "muted"),
         (mbit(totals.received_bps), "text bold"), (" Mbit/s", "muted")),
        (("forwarded " if wide else "fwd ", "muted"), (scaled(totals.forwarded_pps), "text bold"),
         (" pps" if wide else "pps", "muted")),
        (("dropped " if wide else "drop ", "muted"),
         (scaled(totals.dropped_pps), "bad bold" if totals.dropped_pps >= 0.5 else "text bold"),
         (" pps" if wide else "pps", "muted")),
        *([_challenged(frame, wide, width)] if challenged else []),
        (("new flows " if wide else "new ", "muted"), (scaled(totals.new_flows_per_s), "text bold"),
         ("/s", "muted")),
    ]  # fmt: skip
    sampled: list[Span] = [
        ("sampling 1 in " if wide else "1:", "muted"),
        (count(sampling.one_in), "text bold"),
    ]
    sampled += [(", lost " if wide else " lost ", "muted")]
    sampled += [
        (scaled(sampling.lost_per_s if lost else sampling.lost_total), "warn bold" if lost else "text bold")
    ]
    sampled += [("/s", "warn")] if lost else []
    if sampling.stale_s >= STALE_S:
        sampled.append((f" reader hangs {duration(sampling.stale_s)}", "bad bold"))
    parts.append(tuple(sampled))
    if width >= WIDE_FROM:
        parts.append((("blocks ", "muted"), *_blocks(frame)))
    if width >= 150:
        parts.append((("half-open ", "muted"), (scaled(totals.half_open), "text bold"),
                      (f" of {scaled(totals.half_open_limit)}", "muted")))  # fmt: skip
        parts.append((("rescued ", "muted"), (scaled(totals.rescued_total), "text bold")))
    between: Row = (("  │  " if width >= 150 else " │ " if wide else "  ", "faint"),)
    row: list[Span] = [(" ", "")]
    for number, part in enumerate(parts):
        if number and _cells([*row, *between, *part]) > width:
            break
        row += (*(between if number else ()), *part)
    return tuple(row)


def _challenged(frame: Frame, wide: bool, width: int) -> Row:
    """What was neither forwarded nor dropped, but answered."""
    return (
        ("challenged " if width >= WIDE_FROM else "chal ", "muted"),
        (scaled(frame.shield.challenged_per_s), "text bold"),
        (" pps" if wide else "pps", "muted"),
    )


def _blocks(frame: Frame) -> Row:
    wanted, enforced = frame.blocks_wanted, frame.blocks_enforced
    if wanted == enforced:
        return ((count(wanted), "text bold"),)
    return ((count(wanted), "text bold"), (f" wanted, {count(enforced)} enforced", "warn"))


def _cells(spans: Iterable[Span]) -> int:
    return sum(cell_len(text) for text, _ in spans)
