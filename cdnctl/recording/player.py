"""Plays a tape: which frame is on, when the next one is due, and where to go from here.

Knows no clock: whoever drives it says what time it is, in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from cdnctl.recording.chapters import Chapter, chapters
from cdnctl.recording.tape import Tape

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_AT_START_S = 1.0
"""Within so long of a chapter's beginning `previous chapter` means the one before."""


class Player:
    """A place on a tape, and how it moves. Numbers of frames are from 0."""

    def __init__(self, tape: Tape, *, number: int = 0, playing: bool = False) -> None:
        self.tape = tape
        self.playing = playing
        self.speed = 1.0
        self.ran_out = False
        """It came to the end by playing, and has not been told anything since."""
        self.number = number
        """Of the frame that is on."""
        self.position_ns = tape.position_ns(number)
        """Since the tape's beginning; between two frames while it plays."""
        self._read_at_s: float | None = None
        self.chapters: list[Chapter] = []
        self.reindex()

    def reindex(self) -> None:
        """The tape has grown."""
        self.chapters = chapters(self.tape.stamps)

    @property
    def at_end(self) -> bool:
        """Whether the last frame is on."""
        return self.number >= self.tape.length - 1

    @property
    def chapter(self) -> Chapter | None:
        """The one that the frame belongs to."""
        return next((each for each in reversed(self.chapters) if each.number <= self.number), None)

    # --- time ---------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> bool:
        """Move on to where it is by now; True when another frame is on."""
        before_s, self._read_at_s = self._read_at_s, now_s
        if not self.playing or before_s is None:
            return False
        self.position_ns += max(0, round((now_s - before_s) * self.speed * 1e9))
        number = self.number
        while number + 1 < self.tape.length and self.tape.position_ns(number + 1) <= self.position_ns:
            number += 1
        if number == self.tape.length - 1:
            self.playing, self.ran_out = False, True
            self.position_ns = self.tape.position_ns(number)
        changed, self.number = number != self.number, number
        return changed

    def due_s(self) -> float | None:
        """Seconds from the last `advance` until the next frame; None when none will come by itself."""
        if not self.playing or self.at_end:
            return None
        left_ns = self.tape.position_ns(self.number + 1) - self.position_ns
        return max(0.0, left_ns / 1e9 / self.speed)

    # --- what an operator does ------------------------------------------------------------------------

    def toggle(self) -> None:
        """Pause, or play; at its end, from the beginning."""
        if not self.playing and self.at_end:
            self.go_to(0)
        self.playing = not self.playing

    def change_speed(self, step: int) -> None:
        """The next faster speed, or slower."""
        at = SPEEDS.index(self.speed) + step
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, at))]

    def go_to(self, number: int) -> None:
        """Have that frame on; the nearest there is."""
        self.ran_out = False
        self.number = max(0, min(self.tape.length - 1, number))
        self.position_ns = self.tape.position_ns(self.number)

    def step(self, count: int) -> None:
        """So many frames on, or back; it pauses for that."""
        self.playing = False
        self.go_to(self.number + count)

    def seek(self, seconds: float) -> None:
        """To so long after the beginning."""
        self.ran_out = False
        position_ns = max(0, min(self.tape.duration_ns, round(seconds * 1e9)))
        self.number = self.tape.number_at(position_ns)
        self.position_ns = max(position_ns, self.tape.position_ns(self.number))

    def skip(self, seconds: float) -> None:
        """So long on, or back."""
        self.seek(self.position_ns / 1e9 + seconds)

    def skip_chapter(self, step: int) -> None:
        """To the next chapter, or the beginning of this one and then the one before."""
        if step > 0:
            ahead = next((each.number for each in self.chapters if each.number > self.number), None)
            self.go_to(self.tape.length - 1 if ahead is None else ahead)
            return
        soonest_ns = self.position_ns - (round(_AT_START_S * 1e9) if self.playing else 0)
        behind = [
            each for each in self.chapters if each.number < self.number and each.position_ns < soonest_ns
        ]
        self.go_to(behind[-1].number if behind else 0)
