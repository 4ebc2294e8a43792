"""Talkers: who sends how much, how sure that is, and where from around there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from textual.widget import Widget

from cdnctl.console.display import Display
from cdnctl.console.format import axis, clean, scaled
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import sources
from cdnctl.console.widgets.cursor import Sight
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.plot import Plot, Series
from cdnctl.console.widgets.scale import logarithmic
from cdnctl.console.widgets.sources import SourceTable
from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import Frame, ListTalkers, Outcome, Talker

DRAWN = 5
ASKED_EVERY = 4
"""Frames between two questions for more talkers than a frame has."""
MORE = 200


class Talkers(House):
    """The frame's talkers; where the agent is asked live, many more of them."""

    NAME = "talkers"
    MAIN = "sources"
    AUTO_FOCUS = "#sources"

    def __init__(self, display: Display) -> None:
        super().__init__(display)
        self._more: Sequence[Talker] = ()
        self._asked_for = -ASKED_EVERY
        """The frame that more were asked for at."""

    def panels(self) -> Iterable[Widget]:
        yield SourceTable("talkers", id="sources")
        title = "the busiest, and the followed, in packets/s, logarithmic"
        yield Plot(title, "pps", axis, partial(logarithmic, least_top=100.0), id="course")

    def show_frame(self, frame: Frame) -> None:
        if not self.is_current:
            return  # under a dialog the order holds
        live = frame is self.view.newest and not self.session.lost and not self.session.playback
        if live and frame.seq - self._asked_for >= ASKED_EVERY:
            self._asked_for = frame.seq
            self.run_worker(self._ask_more, exclusive=True, group="more")
        known = {talker.prefix for talker in frame.talkers}
        more = [talker for talker in self._more if talker.prefix not in known] if live else []
        table, plot = self.query_one(SourceTable), self.query_one(Plot)
        sight = self.view.sight(frame)
        names = self._drawn(frame, sight, table.followed) if plot.display else []
        table.drawn = {name: f"s{index}" for index, name in enumerate(names)}
        table.update([*frame.talkers, *more], frame, self.session.history.frames)
        if names:
            self._draw_course(frame, sight, plot, names)

    @staticmethod
    def _drawn(frame: Frame, sight: Sight, followed: str) -> list[str]:
        last = sight.history.newest or frame  # behind the cursor others may be the busiest
        busiest = sorted(frame.talkers or last.talkers, key=lambda talker: -talker.pps)[:DRAWN]
        names = [talker.prefix for talker in busiest]
        return [*names, followed] if followed and followed not in names else names

    @staticmethod
    def _draw_course(frame: Frame, sight: Sight, plot: Plot, names: Sequence[str]) -> None:
        plot.draw(
            sight,
            [
                Series(
                    clean(name, 32),
                    f"s{index}",
                    list(sight.history.series(partial(_pps, name))),
                    scaled(_pps(name, frame) or 0.0),
                )
                for index, name in enumerate(names)
            ],
        )

    async def _ask_more(self) -> None:
        outcome = await self.session.request(ListTalkers(limit=MORE))
        self._more = outcome.talkers or ()

    def action_follow(self) -> None:
        """Keep the source under the cursor on top, or let it go."""
        table = self.query_one(SourceTable)
        name = str(table.current) if table.current is not None else ""
        table.followed = "" if table.followed == name else name
        table.resort()
        table.move_to(0)
        self.answer(Outcome(ok=True, text=f"follows {name}" if table.followed else "follows nobody"))

    def action_gather(self) -> None:
        """Gather by prefix or CDN."""
        self._remember(f"by {self.query_one(SourceTable).next_view()}")

    def leave_mode(self) -> bool:
        table = self.query_one(SourceTable)
        if not table.followed:
            return False
        table.followed = ""
        table.resort()
        return True

    def meant(self) -> str | Talker:
        table = self.query_one(SourceTable)
        found = table.find(table.current)
        return found.talker if found and table.gathered not in sources.NO_PREFIX else ""

    def drill(self, table: LiveTable) -> None:
        self.action_gather()

    def detail_of(self, table: LiveTable) -> Row:
        if isinstance(table, SourceTable) and (source := table.find(table.current)):
            return sources.detail(source)
        return ()

    def lay_out(self, width: int, height: int, size: str) -> None:
        self.query_one("#body").styles.grid_rows = "1fr" if size == "small" else f"1fr {height // 3}"


def _pps(name: str, frame: Frame) -> float | None:
    return next((talker.pps for talker in frame.talkers if talker.prefix == name), None)
