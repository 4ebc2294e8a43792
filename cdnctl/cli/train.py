"""`cdnctl train`: a model of sources' manners, fitted to recordings. Needs no agent."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import msgspec

from cdnctl.cli import show
from cdnctl.cli.recordings import find
from cdnctl.defence.lessons import Lesson, lessons
from cdnctl.defence.training import Judged, Report, train
from cdnctl.errors import CdnctlError
from cdnctl.model import FEATURE_WORDS, FEATURES
from cdnctl.recording.reader import Reader


def run(options: argparse.Namespace) -> int:
    """Learn, judge, and write the model."""
    learned: list[Lesson] = []
    for file in options.files:
        with Reader(find(file)) as reader:
            learned += lessons(reader.frames())
    if not learned:
        raise CdnctlError(
            "no source's manner is in " + ", ".join(map(str, options.files)),
            "record while the model observes or is on: `cdnctl model observe`, `cdnctl record FILE`",
        )
    name = options.name or (options.output.stem if options.output else "trained")
    report = train(learned, name, leave_out=options.leave_out)
    if options.output:
        _write(options.output, msgspec.json.format(msgspec.json.encode(report.fit), indent=2) + b"\n")
    if options.json:
        show.print_json(report)
    else:
        print("\n".join(lines(report, options.output)))
    return 0


def lines(report: Report, output: Path | None) -> list[str]:
    """For people."""
    learned = (
        f"learned from {report.learned_from:,} looks at sources, judged on {report.judged_on:,} of others;"
        f" of honest ones {100 * report.false_alarms:.2f} % are suspicious"
    )
    said = [
        learned,
        f"{'attack':<24} {'looks':>7}  {'precision':>9} {'recall':>7}  {'by thresholds':>15}  {'unseen':>15}",
    ]
    said += [_line(each) for each in report.attacks]
    row = zip(FEATURES, report.fit.row, strict=True)
    said.append("weights: " + ", ".join(f"{name} {weight:+,}" for name, weight in row if weight))
    strongest = max(FEATURES, key=lambda name: abs(report.fit.weights.get(name, 0)))
    said.append(f"what tells most: {FEATURE_WORDS[strongest]}")
    if output:
        said.append(f"{output}: `cdnctl model load {output}`, then `cdnctl model on`")
    else:
        said.append("not written: -o FILE does that")
    return said


def _line(each: Judged) -> str:
    def pair(precision: float | None, recall: float | None) -> str:
        return "-" if precision is None or recall is None else f"{_percent(precision)} {_percent(recall)}"

    return (
        f"{each.attack:<24} {each.lessons:>7,}  {_percent(each.precision):>9} {_percent(each.recall):>7}"
        f"  {pair(each.threshold_precision, each.threshold_recall):>15}"
        f"  {pair(each.unseen_precision, each.unseen_recall):>15}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all; what was there is replaced."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CdnctlError(
            f"cannot write {path}: {error.strerror}", "name a file that can be written"
        ) from None
