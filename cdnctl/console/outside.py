"""What the console tells beside its screen: the terminal's title, and its bell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cdnctl.console.format import clean
from cdnctl.model import Frame

if TYPE_CHECKING:
    from cdnctl.console.app import ConsoleApp


class Outside:
    """Follows the newest frame."""

    def __init__(self, app: ConsoleApp) -> None:
        self._app = app
        self._title = ""
        self._heard = 0
        """Number of the last event that was looked at."""

    def news(self, frame: Frame | None) -> None:
        """Set the title; ring for alarms that came since, if that is wanted."""
        if frame is None:
            return
        events = self._app.session.history.events
        newest = events[-1][0] if events else 0
        alarmed = any(number > self._heard and event.severity == "alarm" for number, event in events)
        first, self._heard = not self._heard, newest
        if alarmed and not first and self._app.settings.bell:
            self._app.bell()
        if (title := title_of(frame)) != self._title:
            self._title = title
            self._write(f"\x1b]2;{title}\x07")

    def _write(self, text: str) -> None:
        """Past what Textual draws, as it has no word for titles; only to a terminal."""
        out = sys.__stderr__
        if not self._app.is_headless and out is not None and out.isatty():
            driver = self._app._driver
            if driver is not None:
                driver.write(text)


def title_of(frame: Frame) -> str:
    """`cdnctl ams1: corona out`: what one wants to see of a window that is not in front."""
    out = [clean(cdn.name, 32) for cdn in frame.cdns if cdn.state == "out"]
    state = "not loaded" if not frame.loaded else "bypassed" if frame.bypassed else ""
    state = state or ("" if frame.armed else "disarmed")
    said = ", ".join([*([state] if state else []), *([f"{', '.join(out)} out"] if out else [])])
    return f"cdnctl {clean(frame.edge, 32)}" + (f": {said}" if said else "")
