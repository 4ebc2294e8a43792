"""What all screens of one console share: the frame on display, and the way that led to this screen."""

from __future__ import annotations

from cdnctl.console.session import Session
from cdnctl.console.settings import Settings
from cdnctl.console.widgets.cursor import Sight
from cdnctl.model import Frame


class Display:
    """The session's newest frame, or the one that the display was frozen at."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self.session = session
        self.settings = settings
        self.frozen: Frame | None = None
        self.back: list[str] = []
        """Names of the screens that were left by going to another, the last one last."""
        self.spoken: dict[str, list[str]] = {}
        """What was typed into the lines of `:` and `/`, by sign, on whatever screen."""
        self.cdn = ""
        """The CDN that was drilled into."""
        self.packet = ""
        """The packet that was drilled into, as `cdnctl trace` takes it."""

    @property
    def frame(self) -> Frame | None:
        """The frame on display; None before the first."""
        return self.frozen or self.session.history.newest

    def sight(self, frame: Frame) -> Sight:
        """What plots show while this frame is on."""
        playback, at_s = self.session.playback, frame.monotonic_ns / 1e9
        if playback is None or self.session.is_recorded:
            return Sight(self.session.history, at_s)
        around = playback.around()
        newest = around.newest
        until_s = newest.monotonic_ns / 1e9 if newest else at_s
        return Sight(around, until_s, at_s) if until_s > at_s else Sight(around, at_s)

    @property
    def newest(self) -> Frame | None:
        """The last frame that came in, whatever is on display."""
        return self.session.live.newest or self.session.history.newest
