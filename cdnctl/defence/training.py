"""Fits a linear model to lessons, in whole numbers, and says how well it judges, beside plain thresholds.

It is a logistic regression, in which honest and attacking sources count alike; its bias is then moved so that
of the honest lessons that it learned from at most `FALSE_ALARMS` are suspicious: who is suspected wrongly has
less of his budget for it, and there are many honest ones. What is judged it has not seen: sources that were
held out, and each attack once more by a model that has learned nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

from cdnctl.defence.lessons import HONEST, Lesson
from cdnctl.errors import CdnctlError
from cdnctl.model import FEATURES, Fit

FALSE_ALARMS = 0.01
LARGEST = 1 << 20
"""The largest weight, in whole numbers: scores stay far within 64 bits."""
FEWEST = 20
"""Lessons of a kind, to be learned from."""
_SIXTEENTHS, _MEMORY_S = 16, 24.0
"""What is counted of a source is in sixteenths, and on average goes back so long (bpf/manner.h)."""

Judge = Callable[[Lesson], bool]


class Judged(Struct, kw_only=True):
    """How well an attack is told from what is honest; precision over it and all honest ones held out."""

    attack: str
    lessons: int
    """Of it, that were judged."""
    precision: float
    recall: float
    threshold_precision: float
    threshold_recall: float
    """The same by plain thresholds: more flows than a source's budget."""
    unseen_recall: float | None = None
    """By a model that has learned nothing of this attack; None: it is the only one."""
    unseen_precision: float | None = None


class Report(Struct, kw_only=True):
    """What training came to."""

    fit: Fit
    learned_from: int
    judged_on: int
    false_alarms: float
    """The share of honest lessons that are suspicious, among those held out."""
    attacks: list[Judged] = field(default_factory=list)


def train(
    lessons: Sequence[Lesson], name: str, *, leave_out: Sequence[str] = (), source_flows_per_s: float = 20.0
) -> Report:
    """Raises CdnctlError where there is too little to learn from, or nothing to learn with."""
    kinds = {lesson.attack for lesson in lessons}
    learned = [each for each in lessons if not each.is_held_out and each.attack not in leave_out]
    held_out = [each for each in lessons if each.is_held_out or each.attack in leave_out]
    _require(learned, kinds, leave_out)
    fit = _fit(learned, name)
    honest = [each for each in held_out if each.attack == HONEST]
    attacks = sorted(kinds - {HONEST})
    report = Report(
        fit=fit,
        learned_from=len(learned),
        judged_on=len(held_out),
        false_alarms=_share(honest, suspects(fit)),
    )
    for attack in attacks:
        of_it = [each for each in held_out if each.attack == attack]
        judged = _judged(attack, of_it, honest, fit, over_budget(source_flows_per_s))
        others = [each for each in learned if each.attack != attack]
        if attack in leave_out:
            judged.unseen_precision, judged.unseen_recall = judged.precision, judged.recall
        elif {each.attack for each in others} > {HONEST}:
            unseen = [each for each in lessons if each.attack == attack]
            judge = suspects(_fit(others, name))
            judged.unseen_precision, judged.unseen_recall = _rates(unseen, honest, judge)
        report.attacks.append(judged)
    return report


def suspects(fit: Fit) -> Judge:
    """As the kernel does."""
    return lambda lesson: fit.score(lesson.features) > 0


def over_budget(flows_per_s: float) -> Judge:
    """A plain threshold: who has asked for more flows of late than a source's budget gives in that time."""
    least = _octaves(int(flows_per_s * _MEMORY_S * _SIXTEENTHS))
    rate = FEATURES.index("rate")
    return lambda lesson: lesson.features[rate] > least


def _octaves(number: int) -> int:
    """As histogram.h has them: eight steps an octave."""
    octave = max(0, (number | 1).bit_length() - 1)
    return octave * 8 + ((number >> (octave - 3)) & 7 if octave >= 3 else 0)


def _require(learned: Sequence[Lesson], kinds: set[str], leave_out: Sequence[str]) -> None:
    if unknown := sorted(set(leave_out) - kinds):
        raise CdnctlError(
            f"no attack {unknown[0]} is in these recordings",
            f"there are {', '.join(sorted(kinds - {HONEST}))}",
        )
    honest = sum(each.attack == HONEST for each in learned)
    if honest < FEWEST or len(learned) - honest < FEWEST:
        raise CdnctlError(
            f"too little to learn from: {honest} looks at honest sources, {len(learned) - honest} at others",
            f"record for longer, with `cdnctl model observe` and marks of who attacks: {FEWEST} of each",
        )


def _fit(lessons: Sequence[Lesson], name: str) -> Fit:
    regression = _regression()
    values = [list(each.features) for each in lessons]
    attacks = [each.attack != HONEST for each in lessons]
    regression.fit([[value / 255 for value in row] for row in values], attacks)
    weights = [float(weight) for weight in regression.coef_[0]]
    largest = max(map(abs, weights)) or 1.0
    whole = [round(weight / largest * LARGEST) for weight in weights]
    plain = Fit(name=name, weights=dict(zip(FEATURES, whole, strict=True)))
    learned = round(float(regression.intercept_[0]) * 255 / largest * LARGEST)
    scores = sorted(plain.score(each.features) for each in lessons if each.attack == HONEST)
    allowed = scores[max(0, math.ceil(len(scores) * (1 - FALSE_ALARMS)) - 1)]
    return Fit(name=name, weights=plain.weights, bias=min(learned, -allowed))


def _regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression  # heavy, and few have it
    except ImportError as error:
        raise CdnctlError(
            f"training needs scikit-learn ({error})",
            "pip install 'cdnctl[train]', into cdnctl's own environment; running a model needs none of it",
        ) from None
    return LogisticRegression(class_weight="balanced", max_iter=1000)


def _judged(
    attack: str, of_it: Sequence[Lesson], honest: Sequence[Lesson], fit: Fit, threshold: Judge
) -> Judged:
    precision, recall = _rates(of_it, honest, suspects(fit))
    plain_precision, plain_recall = _rates(of_it, honest, threshold)
    return Judged(
        attack=attack,
        lessons=len(of_it),
        precision=precision,
        recall=recall,
        threshold_precision=plain_precision,
        threshold_recall=plain_recall,
    )


def _rates(of_it: Sequence[Lesson], honest: Sequence[Lesson], judge: Judge) -> tuple[float, float]:
    """Precision and recall."""
    found, wrong = sum(map(judge, of_it)), sum(map(judge, honest))
    return (found / (found + wrong) if found + wrong else 0.0), (found / len(of_it) if of_it else 0.0)


def _share(lessons: Sequence[Lesson], judge: Judge) -> float:
    return sum(map(judge, lessons)) / len(lessons) if lessons else 0.0
