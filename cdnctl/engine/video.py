"""Runs the planner of classes (cdnctl.steering.classes) on what the window says of each CDN."""

from __future__ import annotations

from collections.abc import Mapping

from cdnctl.config import Config
from cdnctl.datapath import abi
from cdnctl.engine.layout import Layout
from cdnctl.engine.window import Buckets, Window, percentile_ms, together
from cdnctl.steering import classes


class Video:
    """What CDNs keep of their weight for video, under the policy `latency`."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self._memory: dict[str, classes.Memory] = {}
        self.follow(config, layout)

    def follow(self, config: Config, layout: Layout) -> None:
        """Plan for these CDNs from now on; what is known of those that stay is kept."""
        self.applies = any(service.policy_of("video") == "latency" for service in config.services)
        self._cdns = layout.cdns
        self._memory = {cdn: memory for cdn, memory in self._memory.items() if cdn in layout.cdns}

    @property
    def kept(self) -> dict[str, float]:
        """By CDN; those that keep all are not in it."""
        return classes.Plan(self._memory, []).kept

    def tick(self, window: Window, weights: Mapping[str, int]) -> list[classes.Shift]:
        """One round; `weights` are those in force."""
        done = classes.plan(self._memory, {name: _measured(window, name) for name in self._cdns}, weights)
        self._memory = done.memory
        return done.shifts

    def forget(self) -> bool:
        """Begin afresh; whether anything had been shifted."""
        shifted = bool(self.kept)
        self._memory = {}
        return shifted


def words(shift: classes.Shift) -> str:
    """`video leaves aurora, which keeps 60 % of its weight for it: ...`."""
    verb = "leaves" if shift.after < shift.before else "comes back to"
    return f"video {verb} {shift.cdn}, which keeps {100 * shift.after:.0f} % of its weight: {shift.reason}"


def _measured(window: Window, name: str) -> classes.Measured:
    grown = window.cdn(name)
    to_cdn, from_cdn = (grown.resent_to, grown.segments_to), (grown.resent_from, grown.segments_from)
    resent, segments = max(to_cdn, from_cdn, key=_loss)
    newest = window.newest
    video = together(newest.first_bytes[name], abi.TrafficClass.VIDEO)
    return classes.Measured(
        _latency(window.first_bytes(name, abi.TrafficClass.VIDEO)),
        _latency(window.handshakes(name)),
        _loss((resent, segments)),
        segments,
        sum(video) + sum(newest.handshakes[name]),
    )


def _loss(counts: tuple[int, int]) -> float:
    """Of the direction that has segments enough to say something."""
    resent, segments = counts
    return resent / segments if segments >= classes.MIN_SEGMENTS else 0.0


def _latency(buckets: Buckets) -> classes.Latency | None:
    p50, p95 = percentile_ms(buckets, 0.50), percentile_ms(buckets, 0.95)
    return None if p50 is None or p95 is None else classes.Latency(p50, p95, sum(buckets))
