"""Sources in full: with their course, their bounds of error, and gathered by prefix or CDN."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import ip_network
from sys import intern

from cdnctl.console import keys
from cdnctl.console.format import clean, fit, mbit, percent, scaled
from cdnctl.console.history import PAST_TALKERS
from cdnctl.console.settings import Settings
from cdnctl.console.tracks import Tracks
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.cursor import SPAN_S
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.spark import highest, spark
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.console.widgets.talkers import sort_key
from cdnctl.model import Frame, Talker

VIEWS = ("source", "/24 /48", "/16 /32", "service", "CDN")
"""What `v` goes through: as estimated, by prefixes around, by the service and by the CDN that most of it was
for."""
NO_PREFIX = ("service", "CDN")
"""Of these a row cannot be blocked."""
_LENGTHS = {"/24 /48": (24, 48), "/16 /32": (16, 32)}
SURE = 1.96
"""Standard errors on each side that the true value lies within, 19 times in 20."""


@dataclass(frozen=True)
class Source:
    """A row: one talker, or several gathered."""

    talker: Talker
    members: int = 1

    @property
    def bounds_pps(self) -> tuple[float, float]:
        """The true rate lies in between, 19 times in 20."""
        spread = SURE * self.talker.error * self.talker.pps
        return max(0.0, self.talker.pps - spread), self.talker.pps + spread


class SourceTable(LiveTable):
    """One row a source or group; one may be followed, which stands on top also when it is quiet."""

    EMPTY = "no traffic sampled yet"
    SORTS = ("pps", "mbit", "drop", "error", "prefix")
    COLUMNS = (
        Column("mark", "", 1, right=False),
        Column("prefix", "source", 16, right=False, grows=True, of_key=True),
        Column("pps", "pps", 6),
        Column("bounds", "95% sure", 12, from_width=76),
        Column("mbit", "Mbit/s", 7),
        Column("drop", "drop", 5),
        Column("rate", "", 8, right=False, from_width=110),
        Column("cdn", " CDN", 10, right=False),
        Column("error", "±", 4),
        Column("samples", "samples", 7, from_width=110),
        Column("members", "lines", 5, from_width=124),
        Column("service", "service", 14, right=False, from_width=140),
        Column("course", "last 2 min", 10, right=False, flex=True),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self.gathered = VIEWS[0]
        self.followed = ""
        self._talkers: Sequence[Talker] = ()
        self._sources: dict[str, Source] = {}
        self._roles: dict[str, str] = {}
        self._tracks = Tracks[float](_rates_of(self.gathered))
        self._now_s = 0.0
        self._frames: Sequence[Frame] = ()
        self.drawn: Mapping[str, str] = {}
        """The sources that a plot beside shows, and the roles they wear there."""

    def update(self, talkers: Sequence[Talker], frame: Frame, frames: Sequence[Frame]) -> None:
        """Show these talkers; the frames have their course."""
        self._frames = frames
        self._tracks.follow(frames)
        self._now_s = frame.monotonic_ns / 1e9
        self._roles = {cdn.name: f"s{index}" for index, cdn in enumerate(frame.cdns)}
        self._talkers = talkers
        self.resort()

    def remember(self, settings: Settings) -> None:
        super().remember(settings)
        gathered = settings.views.get(self.id or "")
        if gathered in VIEWS:
            self.gathered = gathered
            self._tracks = Tracks[float](_rates_of(gathered))

    def next_view(self) -> str:
        """Gather otherwise; how."""
        self.gathered = VIEWS[(VIEWS.index(self.gathered) + 1) % len(VIEWS)]
        if self._settings is not None:
            self._settings.views[self.id or ""] = self.gathered
        self._tracks = Tracks[float](_rates_of(self.gathered))
        self._tracks.follow(self._frames)
        self.resort()
        return self.gathered

    def find(self, key: object) -> Source | None:
        """That source, if it is still there."""
        return self._sources.get(key) if isinstance(key, str) else None

    def resort(self) -> None:
        found = gather(self._talkers, self.gathered)
        upward = (self.sort == "prefix") != self.reverse
        ordered = sorted(found, key=lambda source: sort_key(source.talker, self.sort), reverse=not upward)
        if self.followed:
            first = next((each for each in ordered if each.talker.prefix == self.followed), None)
            quiet = Talker(prefix=self.followed, pps=0.0, bps=0.0, drop_share=0.0)
            ordered = [first or Source(quiet, 0), *(each for each in ordered if each is not first)]
        self._sources = {source.talker.prefix: source for source in ordered}
        most = max((source.talker.pps for source in ordered), default=0.0) or 1.0
        by = "" if self.gathered == VIEWS[0] else f" by {self.gathered}"
        self.border_title = f"talkers{by} · {len(ordered)}"
        self.fill([Record(key, partial(self._cells, source, most)) for key, source in self._sources.items()])

    def _cells(self, source: Source, most: float) -> dict[str, Cell]:
        talker = source.talker
        cdn, role = clean(talker.cdn, 32), self._roles.get(talker.cdn, "muted")
        followed = talker.prefix == self.followed
        drawn = self.drawn.get(talker.prefix, "")
        bad = talker.drop_share >= 0.5
        low, high = source.bounds_pps

        def steered(width: int) -> Row:
            return (("▌", role), (fit(cdn, width - 1), "text")) if cdn else ((fit("  –", width), "muted"),)

        def course(width: int) -> Row:
            values = highest(self._tracks.columns(talker.prefix, self._now_s, SPAN_S, 2 * width))
            return spark(values, "bad" if bad else "accent")

        return {
            "mark": ("▸", "accent bold") if followed else ("●", drawn) if drawn else ("", ""),
            "prefix": (clean(talker.prefix, 49), "accent bold" if followed else "text bold"),
            "pps": (scaled(talker.pps) if talker.pps else "quiet", "text" if talker.pps else "muted"),
            "bounds": (f"{scaled(low)}–{scaled(high)}" if talker.samples else "", "muted"),
            "mbit": (mbit(talker.bps), "text"),
            "drop": (percent(talker.drop_share), "bad" if bad else "warn" if talker.drop_share else "muted"),
            "rate": lambda width: bar(talker.pps / most, width, "bad" if bad else "accent"),
            "cdn": steered,
            "error": (percent(talker.error), "muted"),
            "samples": (scaled(talker.samples), "muted"),
            "members": (str(source.members) if self.gathered != VIEWS[0] else "", "muted"),
            "service": (clean(talker.service, 32) or "–", "muted"),
            "course": course,
        }


def gather(talkers: Iterable[Talker], view: str) -> list[Source]:
    """The talkers as they are, or put together."""
    if view == VIEWS[0]:
        return [Source(talker) for talker in talkers]
    groups: dict[str, list[Talker]] = {}
    for talker in talkers:
        name = _group(talker, view)
        groups.setdefault(name, []).append(talker)
    return [Source(_together(name, members), len(members)) for name, members in groups.items()]


def _group(talker: Talker, view: str) -> str:
    if view == "CDN":
        return talker.cdn or "nobody"
    return talker.service or "no service" if view == "service" else around(talker.prefix, *_LENGTHS[view])


@lru_cache(4096)
def around(prefix: str, length4: int, length6: int) -> str:
    """The prefix of that length around an address or prefix; a shorter one, or what is none, as it is."""
    try:
        network = ip_network(prefix)
    except ValueError:
        return prefix
    length = length4 if network.version == 4 else length6
    return str(network.supernet(new_prefix=length)) if network.prefixlen > length else prefix


def _together(name: str, members: Sequence[Talker]) -> Talker:
    pps = sum(each.pps for each in members)
    by_cdn: dict[str, float] = {}
    for each in members:
        by_cdn[each.cdn] = by_cdn.get(each.cdn, 0.0) + each.pps
    return Talker(
        prefix=name,
        pps=pps,
        bps=sum(each.bps for each in members),
        drop_share=sum(each.drop_share * each.pps for each in members) / (pps or 1.0),
        cdn=max(by_cdn, key=lambda cdn: by_cdn[cdn]),
        service=max(members, key=lambda each: each.pps).service,
        samples=sum(each.samples for each in members),
        error=math.sqrt(sum((each.error * each.pps) ** 2 for each in members)) / (pps or 1.0),
    )


def _rates_of(view: str) -> Callable[[Frame], Iterable[tuple[str, float]]]:
    """Of the busiest alone, as `History` keeps them: each would be a number for each of the last frames."""

    def rates(frame: Frame) -> Iterator[tuple[str, float]]:
        busiest = gather(frame.talkers[:PAST_TALKERS], view)
        return ((intern(each.talker.prefix), each.talker.pps) for each in busiest)

    return rates


def detail(source: Source) -> Row:
    """One line on what the estimate stands on."""
    talker, (low, high) = source.talker, source.bounds_pps
    return (
        (clean(talker.prefix, 49), "text bold"),
        (f"  {scaled(talker.pps)} pps, between {scaled(low)} and {scaled(high)} (19 times in 20), ", "muted"),
        (f"from {talker.samples:,} samples; {percent(talker.drop_share)} dropped", "muted"),
        (f", to {clean(talker.service, 32)}" if talker.service else "", "muted"),
        (f"  {keys.face('block')} blocks  {keys.face('follow', 'talkers')} follows", "accent"),
    )
