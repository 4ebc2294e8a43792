"""A course from recorded frames: the traffic as it was, each CDN as it was found to be.

What a CDN would have done with other load than it had can only be reckoned: its latency is taken back to
that of an idle one by its capacity, where that is known, and slower again by the load it is given. Without
a capacity it is taken to be as quick at any load, which flatters whoever sends everything to one;
`Recorded.notes` says so. A CDN that was out for being dark fails whatever is sent there: policies are
compared each by itself, without the kernel's reflex. Where a frame has no latency of a CDN, the last known
one holds; so does that of a region and class, of which recordings of earlier versions know nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

import msgspec

from cdnctl.errors import CdnctlError
from cdnctl.model import Cdn, Frame
from cdnctl.steering import planner
from cdnctl.steering.planner import Capacity, Reading, readings
from cdnctl.steering.simulation.course import Cell, Course, Part, slower

_LONGEST_STEP_S = 30.0
_LEAST = 2
_LARGEST = 1e15


class Recorded(NamedTuple):
    """A course, and what to know about it."""

    course: Course
    notes: list[str]


def course(
    frames: Iterable[Frame],
    weights: Mapping[str, float] | None = None,
    capacities: Mapping[str, Capacity] | None = None,
) -> Recorded:
    """Of frames in their order; weights and capacities of the configuration, else the frames' own weights.

    Raises CdnctlError for frames that cannot be played.
    """
    kept = list(frames)
    if len(kept) < _LEAST:
        raise CdnctlError(
            f"{len(kept)} frames are too few to simulate anything",
            "record more: `cdnctl record FILE`, or `cdnctl status --watch --json`",
        )
    for frame in kept:
        _require_sane(frame)
    names = _names(kept)
    step_s = _step_s(kept)
    known = capacities or {}
    cells, traffic = [], []
    mix: list[Mapping[planner.Cell, float]] = []
    last: dict[str, tuple[float, float]] = {}
    parts: dict[str, dict[planner.Cell, Part]] = {}
    before: Frame | None = None
    for frame in kept:
        found = readings(frame, before, known)
        by_name = {cdn.name: cdn for cdn in frame.cdns}
        flows = sum(cdn.new_flows_per_s for cdn in frame.cdns)
        traffic.append(flows)
        cells.append([_cell(by_name.get(name), found.get(name), flows, last, parts) for name in names])
        mix.append(_mix(frame) or (mix[-1] if mix else {}))
        before = frame
    first = next((each for each in mix if each), None)
    notes = [
        f"{name} has no known capacity: it is taken to be as quick at any load"
        for name in names
        if all(step[names.index(name)].capacity is None for step in cells)
    ]
    notes += [f"{name} was never measured: it is left out" for name in names if name not in last]
    return Recorded(
        msgspec.structs.replace(
            _only(
                names, [name for name in names if name in last], kept, weights, known, step_s, traffic, cells
            ),
            mix=[each or first for each in mix] if first else (),
        ),
        notes,
    )


def _only(
    names: list[str],
    played: list[str],
    frames: list[Frame],
    weights: Mapping[str, float] | None,
    known: Mapping[str, Capacity],
    step_s: float,
    traffic: list[float],
    cells: list[list[Cell]],
) -> Course:
    wanted = {cdn.name: float(cdn.wanted_weight) for frame in reversed(frames) for cdn in frame.cdns}
    wanted |= {name: float(weight) for name, weight in (weights or {}).items()}
    chosen = {name: wanted[name] for name in played}
    if not any(chosen.values()):
        raise CdnctlError(
            "no CDN that was measured has a weight", "name a configuration of this edge: -c FILE"
        )
    at = [names.index(name) for name in played]
    return Course(
        cdns=played,
        weights=chosen,
        known={name: known[name].flows_per_s if name in known else None for name in played},
        step_s=step_s,
        traffic=traffic,
        cells=_filled([[step[number] for number in at] for step in cells]),
    )


def _require_sane(frame: Frame) -> None:
    """Raise CdnctlError for figures that no edge has; sums and logarithms of them would be none either."""
    for cdn in frame.cdns:
        figures = {
            "new_flows_per_s": cdn.new_flows_per_s,
            "wanted_weight": cdn.wanted_weight,
            "share": cdn.share,
            "capacity_use": cdn.capacity_use or 0,
            "to_cdn_bps": cdn.to_cdn_bps,
            "from_cdn_bps": cdn.from_cdn_bps,
            "to_cdn_pps": cdn.to_cdn_pps,
            "from_cdn_pps": cdn.from_cdn_pps,
            "loss_to_cdn": cdn.loss_to_cdn or 0,
            "loss_from_cdn": cdn.loss_from_cdn or 0,
        }
        for what in ("handshake", "first_byte"):
            low, high = getattr(cdn, f"{what}_p50_ms") or 0, getattr(cdn, f"{what}_p95_ms") or 0
            figures |= {f"{what}_p50_ms": low, f"{what}_p95_ms": high, f"{what}_p95_ms below p50": high - low}
        for cell in cdn.cells:
            figures |= {f"requests of {cell.region}": cell.requests}
            figures |= {f"p50_ms of {cell.region}": cell.p50_ms, f"p95_ms of {cell.region}": cell.p95_ms}
            figures |= {f"p95_ms below p50 of {cell.region}": cell.p95_ms - cell.p50_ms}
        wrong = [name for name, value in figures.items() if not 0 <= value <= _LARGEST]
        if wrong:
            raise CdnctlError(
                f"frame {frame.seq}: {wrong[0]} is {figures[wrong[0]]:g}", "this is no recording of an edge"
            )


def _names(frames: list[Frame]) -> list[str]:
    return list(dict.fromkeys(cdn.name for frame in frames for cdn in frame.cdns))


def _step_s(frames: list[Frame]) -> float:
    """The usual distance of two frames; raises CdnctlError where they are out of order."""
    times = [frame.monotonic_ns for frame in frames]
    gaps = sorted(after - before for before, after in pairwise(times))
    if gaps[0] <= 0:
        raise CdnctlError(
            "the frames are not in the order of their time", "sort them by monotonic_ns, one edge a file"
        )
    usual_s = gaps[len(gaps) // 2] / 1e9
    if usual_s > _LONGEST_STEP_S:
        raise CdnctlError(
            f"the frames are {usual_s:.0f} s apart", f"at most {_LONGEST_STEP_S:.0f} s can be simulated"
        )
    return usual_s


def _mix(frame: Frame) -> dict[planner.Cell, float]:
    """Of which regions and classes its traffic is, by their requests."""
    requests: dict[planner.Cell, int] = {}
    for cdn in frame.cdns:
        for each in cdn.cells:
            which = planner.Cell(each.region, each.traffic_class)
            requests[which] = requests.get(which, 0) + each.requests
    total = sum(requests.values())
    return {which: count / total for which, count in requests.items() if count} if total else {}


def _cell(
    cdn: Cdn | None,
    reading: Reading | None,
    flows: float,
    last: dict[str, tuple[float, float]],
    parts: dict[str, dict[planner.Cell, Part]],
) -> Cell:
    if cdn is None or reading is None:
        return Cell(0.0, 0.0)
    capacity = reading.room * flows if reading.room is not None and flows else None
    p50_ms, p95_ms = cdn.first_byte_p50_ms, cdn.first_byte_p95_ms
    if p50_ms is None or p95_ms is None:
        p50_ms, p95_ms = cdn.handshake_p50_ms, cdn.handshake_p95_ms
    idle = slower(cdn.new_flows_per_s / capacity) if capacity else 1.0
    if p50_ms and p95_ms:
        last[cdn.name] = (p50_ms / idle, p95_ms / idle)
    known = parts.get(cdn.name, {})
    for each in cdn.cells:
        if each.p50_ms and each.p95_ms:
            which = planner.Cell(each.region, each.traffic_class)
            known = {**known, which: Part(each.p50_ms / idle, each.p95_ms / idle)}
    parts[cdn.name] = known
    return Cell(*last.get(cdn.name, (0.0, 0.0)), capacity, reading.loss, _is_dead(cdn), known)


def _is_dead(cdn: Cdn) -> bool:
    """Whether flows that were sent there would have failed; one that is out for being slow serves."""
    return cdn.state in ("out", "probing") and cdn.reason in ("dark", "refusing")


def _filled(cells: list[list[Cell]]) -> list[list[Cell]]:
    """The first known latency also for the time before it."""
    for number in range(len(cells[0])):
        first = next(step[number] for step in cells if step[number].p50_ms)
        for step in cells:
            if step[number].p50_ms:
                break
            step[number] = step[number]._replace(p50_ms=first.p50_ms, p95_ms=first.p95_ms)
    return cells
