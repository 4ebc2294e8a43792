"""`cdnctl simulate`: what other policies would have done with recorded traffic. Needs no agent."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from cdnctl.agent.edge import config_of
from cdnctl.cli import show
from cdnctl.cli.recordings import find
from cdnctl.config import Config, read
from cdnctl.errors import CdnctlError
from cdnctl.model import Frame
from cdnctl.recording.reader import Reader
from cdnctl.recording.writer import MAGIC
from cdnctl.steering.planner import USUAL, Capacity, Settings, words
from cdnctl.steering.simulation import recorded
from cdnctl.steering.simulation.play import Score, play
from cdnctl.steering.simulation.policies import ALL, Planned

_SHIFTS_SHOWN = 20
_LONGEST_LINE = 4 << 20
_WHAT = "name what `cdnctl record FILE` made, or what `cdnctl status --watch --json` printed"


class Moved(Struct, kw_only=True):
    """A shift of the planner's."""

    at_s: float
    """From the first frame on."""
    text: str


class Report(Struct, kw_only=True):
    """What `simulate` found; what `--json` prints."""

    file: str
    frames: int
    seconds: float
    scores: list[Score]
    shifts: list[Moved] = field(default_factory=list)
    """Of the planner, with their reasons."""
    notes: list[str] = field(default_factory=list)


def run(options: argparse.Namespace) -> int:
    """Play the recorded frames under each policy."""
    file = options.config or (config_of(options.edge) if options.edge else None)
    config = read(file) if file else None
    report = examine(find(options.file), config)
    if options.json:
        show.print_json(report)
    else:
        _show(report)
    return 0


def examine(file: Path, config: Config | None) -> Report:
    """The scores of all policies on the frames in `file`. Raises CdnctlError."""
    weights = {cdn.name: float(cdn.weight) for cdn in config.cdns} if config else None
    capacities = {
        cdn.name: Capacity(cdn.capacity.flows_per_s, cdn.capacity.mbit)
        for cdn in (config.cdns if config else ())
        if cdn.capacity
    }
    course, notes = recorded.course(frames(file), weights, capacities)
    report = Report(
        file=str(file),
        frames=len(course.traffic),
        seconds=len(course.traffic) * course.step_s,
        scores=[],
        notes=[*notes, "each policy is on its own: the kernel's reflex, which helps them all, is not played"],
    )
    if config:
        report.notes += _strangers({cdn.name for cdn in config.cdns}, set(course.weights))
    settings = Settings(step=config.planner.step, most_moved=config.planner.most_moved) if config else USUAL
    for kind in ALL:
        policy = Planned(course, settings) if kind is Planned else kind(course)
        report.scores.append(play(course, policy))
        if isinstance(policy, Planned):
            report.shifts = [Moved(at_s=at_s, text=words(shift)) for at_s, shift in policy.shifts]
    return report


def _strangers(configured: set[str], recorded: set[str]) -> Iterator[str]:
    """Names that only one of the two has: a mistake, or another edge's file."""
    if missing := sorted(configured - recorded):
        yield f"not in the recording, and so not played: {', '.join(missing)}"
    if others := sorted(recorded - configured):
        yield f"in the recording, but not in the configuration, and played as recorded: {', '.join(others)}"


def frames(file: Path) -> Iterator[Frame]:
    """The frames of a recording, or of a file that has one a line, as `cdnctl status --watch --json` prints.

    A recording that is damaged, cut off or still being made gives what comes before that. Raises CdnctlError.
    """
    try:
        with file.open("rb") as opened:
            is_recording = opened.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise CdnctlError(f"cannot read {file}: {error.strerror}", _WHAT) from None
    if not is_recording:
        yield from _lines(file)
        return
    with Reader(file) as reader:
        yield from reader.frames()


def _lines(file: Path) -> Iterator[Frame]:
    decoder = msgspec.json.Decoder(Frame)
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(_LONGEST_LINE):
                number += 1
                if not line.strip():
                    continue
                try:
                    yield decoder.decode(line)
                except (msgspec.DecodeError, RecursionError) as error:
                    # Watching ends with the agent's end, as an object; or in the middle, with its own.
                    if number > 1 and (line.startswith(b'{"error":') or not line.endswith(b"\n")):
                        return
                    raise CdnctlError(
                        f"{file}, line {number}: this is no frame: {error}",
                        f"{_WHAT}, a frame a line",
                    ) from None
    except OSError as error:
        raise CdnctlError(f"cannot read {file}: {error.strerror}", _WHAT) from None


def _show(report: Report) -> None:
    print(f"{report.file}: {report.frames:,} frames, {report.seconds:,.0f} s")
    print(f"{'policy':<20} {'requests':>10} {'failed':>9} {'p95 ms':>8} {'shifts':>7}")
    for each in report.scores:
        failed = f"{100 * each.failed_share:.2f} %"
        print(f"{each.policy:<20} {each.requests:>10,.0f} {failed:>9} {each.p95_ms:>8.0f} {each.shifts:>7}")
    if report.shifts:
        print(f"what the planner moved, {len(report.shifts)} times one CDN's share:")
        for shift in report.shifts[:_SHIFTS_SHOWN]:
            print(f"  {shift.at_s:6.1f} s  {_plain(shift.text)}")
        if len(report.shifts) > _SHIFTS_SHOWN:
            print(f"  and {len(report.shifts) - _SHIFTS_SHOWN} more (--json has all)")
    for note in report.notes:
        print(f"note: {_plain(note)}")


def _plain(text: str) -> str:
    """Names in a file may hold anything; a terminal must not act on it."""
    return "".join(char if char.isprintable() else "?" for char in text)
