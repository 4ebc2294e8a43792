"""Arithmetic of shares: what fits, and how far a round may go."""

from __future__ import annotations

from collections.abc import Mapping

Shares = dict[str, float]


def normal(weights: Mapping[str, float]) -> Shares:
    """In sum 1, or all 0."""
    total = sum(weights.values())
    return {cdn: weight / total if total else 0.0 for cdn, weight in weights.items()}


def fitted(shares: Mapping[str, float], most: Mapping[str, float]) -> Shares:
    """`shares`, but of those in `most` none has more than that; the others take it up by their shares.

    When all together take less than everything, all who are limited are over by the same factor.
    """
    fitting = dict(shares)
    limited: set[str] = set()
    for _ in shares:
        over = [cdn for cdn, share in fitting.items() if cdn in most and share > most[cdn] + 1e-12]
        if not over:
            return fitting
        limited.update(over)
        left = 1 - sum(most[cdn] for cdn in limited)
        others = sum(share for cdn, share in shares.items() if cdn not in limited)
        if left <= 0 or others <= 0:
            # Nobody is left to take the rest: everybody over his limit by the same factor, those whose
            # share is nothing excepted.
            taking = {cdn: most.get(cdn, share) if share else 0.0 for cdn, share in shares.items()}
            return normal(taking)
        for cdn, share in shares.items():
            fitting[cdn] = most[cdn] if cdn in limited else share * left / others
    return fitting


def moved(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The part of everything that goes elsewhere."""
    return sum(max(0.0, share - before.get(cdn, 0.0)) for cdn, share in after.items())


def towards(before: Mapping[str, float], after: Mapping[str, float], most: float) -> Shares:
    """From `before` towards `after`, so far that no more than `most` of everything moves."""
    distance = moved(before, after)
    part = min(1.0, most / distance) if distance else 1.0
    return {cdn: before.get(cdn, 0.0) + (share - before.get(cdn, 0.0)) * part for cdn, share in after.items()}


def bounded(weights: Mapping[str, float], kept: Mapping[str, float], most_moved: float) -> dict[str, float]:
    """`kept`, or so much more of it that no more than `most_moved` of these weights is moved away."""
    total = sum(weights.values())
    away = sum(weight * (1 - kept[cdn]) for cdn, weight in weights.items())
    part = min(1.0, most_moved * total / away) if away > 0 else 1.0
    return {cdn: 1 - (1 - kept[cdn]) * part for cdn in weights}


def kept_shares(weights: Mapping[str, float], kept: Mapping[str, float], most_moved: float) -> Shares:
    """The shares of weights of which such parts are kept, but no more than `most_moved` goes elsewhere."""
    after = normal({cdn: weight * kept.get(cdn, 1.0) for cdn, weight in weights.items()})
    return towards(normal(weights), after, most_moved)
