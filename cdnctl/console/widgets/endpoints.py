"""Every endpoint of every CDN, as the kernel's breaker sees it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

from cdnctl.console.format import clean, duration, fit, ms, percent, scaled
from cdnctl.console.tracks import Tracks
from cdnctl.console.widgets.cdns import STATES
from cdnctl.console.widgets.cursor import SPAN_S
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.spark import highest, spark
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.console.widgets.verdicts import end
from cdnctl.model import Cdn, Endpoint, Frame


class EndpointTable(LiveTable):
    """One row an endpoint, in the order of the configuration."""

    EMPTY = "no CDN is configured"
    COLUMNS = (
        Column("cdn", " CDN", 10, right=False, grows=True),
        Column("endpoint", "endpoint", 18, right=False, grows=True),
        Column("protocol", "proto", 5, right=False, from_width=100),
        Column("regions", "regions", 8, right=False, from_width=120),
        Column("state", "state", 16, right=False),
        Column("now", "now", 5),
        Column("usual", "usual", 5),
        Column("limit", "limit", 5),
        Column("silent", "silent", 6),
        Column("ejected", "ejected", 7, from_width=90),
        Column("back", "back in", 7, from_width=90),
        Column("ports", "ports", 5, from_width=110),
        Column("share", "share", 5, from_width=110),
        Column("new", "new/s", 6, from_width=130),
        Column("course", "now, last 2 min", 15, right=False, flex=True, from_width=150),
        Column("rest", "", 0, flex=True, to_width=150),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._found: dict[str, tuple[Cdn, Endpoint]] = {}
        self._tracks = Tracks[float](_handshakes)

    def update(self, frame: Frame, frames: Sequence[Frame]) -> None:
        """Show those of this frame's CDNs, and their course in these frames."""
        self._tracks.follow(frames)
        cdns, now_s = frame.cdns, frame.monotonic_ns / 1e9
        self._found = {}
        records = []
        for index, cdn in enumerate(cdns):
            for endpoint in cdn.endpoints:
                key = _key(cdn, endpoint)
                self._found[key] = (cdn, endpoint)
                course = partial(self._course, key, f"s{index}", now_s)
                records.append(Record(key, _cells(cdn, endpoint, index) | {"course": course}))
        inside = sum(endpoint.state == "in" for _, endpoint in self._found.values())
        self.border_title = f"endpoints · {inside} of {len(self._found)} in · handshakes in ms"
        self.fill(records)

    def _course(self, key: str, role: str, now_s: float, width: int) -> Row:
        return spark(highest(self._tracks.columns(key, now_s, SPAN_S, 2 * width)), role)

    def find(self, key: object) -> tuple[Cdn, Endpoint] | None:
        """That endpoint, and whose it is."""
        return self._found.get(key) if isinstance(key, str) else None

    def go_to(self, name: str) -> None:
        """The cursor to the first endpoint of a CDN."""
        for record in self.records:
            if (found := self._found.get(str(record.key))) and found[0].name == name:
                self.hold(record.key)
                return


def _key(cdn: Cdn, endpoint: Endpoint) -> str:
    return f"{cdn.name} {endpoint.address} {endpoint.port} {endpoint.protocol}"


def _handshakes(frame: Frame) -> Iterable[tuple[str, float]]:
    return ((_key(cdn, endpoint), endpoint.ewma_ms) for cdn in frame.cdns for endpoint in cdn.endpoints)


def _cells(cdn: Cdn, endpoint: Endpoint, index: int) -> dict[str, Cell]:
    text, role = STATES.get(endpoint.state, (clean(endpoint.state, 12), "warn"))
    if endpoint.reason and endpoint.reason != "operator":
        text += f" {clean(endpoint.reason, 12)}"
    name = clean(cdn.name, 32)

    def named(width: int) -> Row:
        return (("▌", f"s{index}"), (fit(name, width - 1), "text bold"))

    slow = endpoint.limit_ms and endpoint.ewma_ms > endpoint.limit_ms
    back_s = endpoint.back_in_s
    gone = endpoint.ports_gone_in_s is not None
    return {
        "cdn": named,
        "endpoint": (end(endpoint.address, endpoint.port), "text"),
        "protocol": (clean(endpoint.protocol, 8), "muted"),
        "regions": (clean(", ".join(endpoint.regions) or "all", 40), "muted"),
        "state": (text, role),
        "now": (ms(endpoint.ewma_ms), "bad" if slow else "text"),
        "usual": (ms(endpoint.baseline_ms), "muted"),
        "limit": (ms(endpoint.limit_ms), "muted"),
        "silent": (scaled(endpoint.unanswered), "warn" if endpoint.unanswered else "muted"),
        "ejected": (scaled(endpoint.ejections), "warn" if endpoint.ejections else "muted"),
        "back": ((f"{math.ceil(back_s)}s" if back_s < 60 else duration(back_s)) if back_s else "", "warn"),
        "ports": (percent(endpoint.ports_held), "bad" if gone else "muted"),
        "share": (percent(cdn.share), "muted"),
        "new": (scaled(cdn.new_flows_per_s), "muted"),
    }


def detail(cdn: Cdn, endpoint: Endpoint) -> Row:
    """One line on what the breaker goes by."""
    said: list[tuple[str, str]] = [
        (f"{clean(cdn.name, 32)} {end(endpoint.address, endpoint.port)}", "text bold"),
    ]
    if endpoint.ports_gone_in_s is not None:
        said.append((f"  no port left in {duration(endpoint.ports_gone_in_s)},", "bad"))
    if endpoint.unanswered:
        said.append((f"  {endpoint.unanswered} connects since its last answer,", "warn"))
    said += [
        (f"  now {ms(endpoint.ewma_ms)} ms, usual {ms(endpoint.baseline_ms)}", "muted"),
        (f", slow over {ms(endpoint.limit_ms)}", "muted"),
    ]
    return tuple(said)
