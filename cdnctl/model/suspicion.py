"""How sources behave, and the model that tells which of them are suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, field

from cdnctl.model.base import Base

ModelMode = Literal["off", "observe", "on"]
"""`observe`: manners are kept and weighed, and decide nothing."""
MODEL_MODES: tuple[ModelMode, ...] = ("off", "observe", "on")
"""In the order of the kernel's numbers."""
ModelWish = Literal["config", "off", "observe", "on"]
"""Operators'; `config`: what the configuration says."""

FEATURES = ("rate", "unfinished", "open", "held", "fruitless", "gap", "bytes", "known")
"""What is weighed of a source, each from 0 to 255, in the order of the kernel's numbers."""
FEATURE_WORDS = {
    "rate": "flows asked for of late",
    "unfinished": "share of those let in without a finished handshake",
    "open": "finished and not ended",
    "held": "share of the finished ones that are not ended",
    "fruitless": "share of the ended ones that were answered nothing",
    "gap": "time from one flow to the next",
    "bytes": "length of first packets",
    "known": "time since it first came",
}

Weight = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Bias = Annotated[int, Meta(ge=-(2**62), le=2**62)]


class Fit(Base, frozen=True, kw_only=True):
    """A linear model in whole numbers: suspicious is whose score is above 0."""

    form: Annotated[int, Meta(ge=1, le=1)] = 1
    """Of the file that it is kept in."""
    name: Annotated[str, Meta(max_length=80)] = ""
    """Empty: there is none."""
    weights: dict[str, Weight] = field(default_factory=dict)
    """By feature; those not named count nothing."""
    bias: Bias = 0

    @property
    def row(self) -> tuple[int, ...]:
        """The weights in the kernel's order."""
        return tuple(self.weights.get(name, 0) for name in FEATURES)

    def score(self, features: Sequence[int]) -> int:
        """Exactly the kernel's."""
        return self.bias + sum(map(int.__mul__, self.row, features))


class Manner(Base, frozen=True, kw_only=True):
    """How a source behaved when it last asked for a flow."""

    source: str
    """An address; of IPv6 the first of its /64."""
    features: list[int] = field(default_factory=list)
    score: int = 0


class Suspicion(Base, frozen=True, kw_only=True):
    """What the model does now."""

    mode: ModelMode = "off"
    fit: Fit = field(default_factory=Fit)
    times: int = 1
    """Who is suspicious gets so many times fewer flows than his budget gives others."""
    sources: int = 0
    """That asked for a flow within the last half minute, and have a place."""
    suspicious: int = 0
    """Of them."""


def attack_mark(name: str, prefixes: Sequence[str]) -> str:
    """The text of the mark that says who attacks from now on; `cdnctl train` learns from it."""
    return f"attack {name} from {', '.join(prefixes)}"


def over_mark(name: str) -> str:
    """And that nobody does any more."""
    return f"attack {name} is over"
