"""What the engine tells: events, collected until the next frame takes them, and never in swarms."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping

from cdnctl.datapath.abi import EventKind
from cdnctl.datapath.keeper import Change
from cdnctl.datapath.perf import Reflex
from cdnctl.engine import explain
from cdnctl.engine.layout import EndpointPlace
from cdnctl.engine.ports import Outlook
from cdnctl.model import Event, Severity, Verdict

RESCUES_EVERY_S = 5.0
"""Rescues come by the hundred when a CDN dies: at most so often a line tells of those since."""
NOWHERE_EVERY_S = 10.0
"""At most so often it is told of either cause that packets have nowhere to go."""
_NOWHERE = frozenset({"no_link", "no_route", "no_neighbour"})


class Ticker:
    """Numbers events and keeps them until `take`."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._seq = 0
        self._rescued: Counter[str] = Counter()
        self._rescues_told_s = 0.0
        self._nowhere: dict[str, int] = {}
        self._nowhere_told_s: dict[str, float] = {}

    def tell(
        self, kind: str, text: str, severity: Severity = "info", *, cdn: str = "", monotonic_ns: int = 0
    ) -> None:
        """Put an event into the next frame."""
        self._seq += 1
        self._events.append(
            Event(
                seq=self._seq,
                at_ns=time.time_ns(),
                kind=kind,
                text=text,
                severity=severity,
                cdn=cdn,
                monotonic_ns=monotonic_ns or time.monotonic_ns(),
            )
        )

    def take(self) -> list[Event]:
        """The events since the last call."""
        taken, self._events = list(self._events), deque()
        return taken

    def reflexes(self, events: Iterable[Reflex], places: Mapping[int, EndpointPlace]) -> None:
        """What the kernel did by itself."""
        for event in events:
            place = places.get(event.endpoint)
            cdn = place.cdn if place else f"endpoint {event.endpoint}"
            if event.kind == EventKind.RESCUE:
                self._rescued[cdn] += 1
                continue
            where = place.key if place else ""
            who = cdn if place is None or event.kind == EventKind.SPILL else _who(place, places.values())
            told = explain.reflex(event.kind, event.reason, who, event.value, event.ejections, where)
            self.tell(told.kind, told.text, told.severity, cdn=cdn, monotonic_ns=event.at_ns)
        now_s = time.monotonic()
        if self._rescued and now_s - self._rescues_told_s >= RESCUES_EVERY_S:
            self._rescues_told_s = now_s
            for cdn, count in self._rescued.items():
                what = "a connect was" if count == 1 else f"{count} connects were"
                self.tell("rescue", f"{what} rescued from {cdn}", "notice", cdn=cdn)
            self._rescued.clear()

    def ports(self, foretold: Iterable[tuple[int, Outlook]], places: Mapping[int, EndpointPlace]) -> None:
        """Endpoints towards which ports will run out."""
        for endpoint, outlook in foretold:
            place = places.get(endpoint)
            if place is not None and outlook.gone_in_s is not None:
                told = explain.ports_run_out(place.key, outlook.held, outlook.gone_in_s)
                self.tell(told.kind, told.text, told.severity, cdn=place.cdn)

    def changes(self, changes: Iterable[Change]) -> None:
        """Ways to endpoints, or interfaces, that were lost, or are there again."""
        for change in changes:
            if change.lost:
                self.tell("warning", change.text, "warning")
            else:
                self.tell("note", change.text, "notice")

    def nowhere(self, verdicts: Iterable[Verdict]) -> None:
        """Packets that were dropped for want of a way: told when they begin, and while they go on."""
        now_s = time.monotonic()
        for verdict in verdicts:
            if verdict.name not in _NOWHERE:
                continue
            new = verdict.packets_total - self._nowhere.setdefault(verdict.name, verdict.packets_total)
            told_s = self._nowhere_told_s.get(verdict.name, -NOWHERE_EVERY_S)
            if not new or now_s - told_s < NOWHERE_EVERY_S:
                continue  # what came since is in the next one
            self._nowhere[verdict.name] = verdict.packets_total
            self._nowhere_told_s[verdict.name] = now_s
            what = verdict.name.replace("_", " ")
            self.tell(
                "warning", f"{new} packets dropped, {what}: see `ip route get` and `ip neigh`", "warning"
            )


def _who(place: EndpointPlace, places: Iterable[EndpointPlace]) -> str:
    """The CDN, and which of its endpoints if it has more: `borealis over IPv6 ([fd77:2::2]:443)`."""
    others = [each for each in places if each.cdn == place.cdn and each.serves and each.id != place.id]
    if not others:
        return place.cdn
    over = [f"IPv{place.family}"] if any(each.family != place.family for each in others) else []
    over += [place.protocol.upper()] if any(each.protocol != place.protocol for each in others) else []
    return " ".join([place.cdn, *(["over", *over] if over else []), f"({place.key})"])
