"""From single probes to whether an endpoint is well: rise and fall, jitter, and what real flows say.

Real flows lead whenever there are enough of them: they are the clients' own experience. But packets do not
show everything: that a server answers with 503, or that its certificate has ended, only a probe sees.
"""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from cdnctl.steering.probes.result import APPLICATION, Fault, Probe, Result

State = Literal["unknown", "well", "ill"]
JITTER = 0.2
"""A wait is longer or shorter by up to this part: not all edges ask at once."""
DOUBTFUL = 0.25
"""Of an interval: between bad ones, until it is ill."""
ENOUGH = 20
"""Attempts of real flows in the window."""


class Health(Struct, frozen=True, kw_only=True):
    """Of one endpoint."""

    state: State = "unknown"
    good: int = 0
    bad: int = 0
    """In a row."""
    fault: Fault = ""
    """Of the last bad one; empty when the last was good."""
    text: str = ""

    def after(self, result: Result, probe: Probe) -> Health:
        """With one more result. The first one decides while nothing is known."""
        good, bad = (self.good + 1, 0) if result.is_good else (0, self.bad + 1)
        state = self.state
        if good and (good >= probe.rise or state == "unknown"):
            state = "well"
        elif bad and (bad >= probe.fall or state == "unknown"):
            state = "ill"
        return replace(self, state=state, good=good, bad=bad, fault=result.fault, text=result.text)


class Passive(NamedTuple):
    """What real flows to an endpoint say, in the window."""

    attempts: int = 0
    failures: float = 0.0
    """Share of them that came to nothing."""


class Verdict(NamedTuple):
    """Probes and real flows together."""

    is_well: bool
    why: str = ""


def combined(health: Health, passive: Passive, bad_failures: float = 0.5) -> Verdict:
    """Whether an endpoint should have traffic. What nobody knows anything of should."""
    if health.state == "ill" and health.fault in APPLICATION:
        return Verdict(False, f"probes: {health.text}")
    if passive.attempts >= ENOUGH:
        if passive.failures >= bad_failures:
            return Verdict(False, f"{100 * passive.failures:.0f} % of {passive.attempts} real flows fail")
        return Verdict(True, "" if health.state != "ill" else f"real flows are well; probes: {health.text}")
    if health.state == "ill":
        return Verdict(False, f"probes: {health.text}")
    return Verdict(True)


def wait_s(probe: Probe, chance: random.Random, health: Health | None = None) -> float:
    """Until the next probe; after a first bad one soon, so that it is known within two intervals."""
    is_doubtful = health is not None and health.bad > 0 and health.state == "well"
    return probe.every_s * chance.uniform(1 - JITTER, 1 + JITTER) * (DOUBTFUL if is_doubtful else 1.0)


def certificate_warning(result: Result, probe: Probe) -> str:
    """A sentence about a certificate that ends soon; empty when it does not."""
    days = result.certificate_days
    if days is None or days >= probe.warn_days:
        return ""
    left = f"{days:.0f} days" if days >= 2 else f"{24 * days:.0f} hours"
    return f"its certificate ends in {left}"
