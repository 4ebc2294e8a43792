"""What probes say of endpoints, beside what real flows do; and which endpoints are left out for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cdnctl.model.planning import ProbeState
from cdnctl.steering.picks import Server
from cdnctl.steering.probes import Health, Passive, Probe, Result, certificate_warning, combined


class Heard(NamedTuple):
    """The last of an endpoint."""

    cdn: str
    probe: Probe
    result: Result
    health: Health


class Told(NamedTuple):
    """What is new, for the ticker."""

    text: str
    is_good: bool
    cdn: str


class Wellness:
    """Of all endpoints that are probed, by `198.51.100.10:443`."""

    def __init__(self) -> None:
        self._heard: dict[str, Heard] = {}
        self._warned: set[str] = set()
        """Whose certificates were warned of."""

    def follow(self, endpoints: Iterable[str]) -> None:
        """Forget all others: they are not probed any more."""
        wanted = set(endpoints)
        self._heard = {key: each for key, each in self._heard.items() if key in wanted}
        self._warned &= wanted

    def hear(self, key: str, cdn: str, probe: Probe, result: Result, health: Health) -> list[Told]:
        """A probe's result; what an operator is to hear of it."""
        before = self._heard.get(key)
        self._heard[key] = Heard(cdn, probe, result, health)
        told = []
        was = before.health.state if before else "unknown"
        if health.state == "ill" != was:
            told.append(Told(f"{cdn} ({key}): probes: {health.text}", False, cdn))
        elif health.state == "well" and was == "ill":
            told.append(Told(f"{cdn} ({key}): probes are good again", True, cdn))
        warning = certificate_warning(result, probe)
        if warning and key not in self._warned:
            self._warned.add(key)
            told.append(Told(f"{cdn} ({key}): {warning}", False, cdn))
        elif not warning and result.certificate_days is not None:
            self._warned.discard(key)
        return told

    def bad(self, passives: Mapping[str, Passive]) -> dict[str, str]:
        """Endpoints that should have no new flows, and why; `passives` are by CDN."""
        found = {
            key: combined(each.health, passives.get(each.cdn, Passive())) for key, each in self._heard.items()
        }
        return {key: verdict.why for key, verdict in found.items() if not verdict.is_well}

    def of_cdn(self, cdn: str) -> list[tuple[str, Heard]]:
        """The endpoints of one, and what was heard of them."""
        return [(key, each) for key, each in self._heard.items() if each.cdn == cdn]

    def state_of(self, cdn: str) -> ProbeState:
        """Of all its endpoints together: the worst."""
        states = {each.health.state for _, each in self.of_cdn(cdn)}
        order: tuple[ProbeState, ...] = ("ill", "unknown", "well")
        return next((state for state in order if state in states), "")

    def text_of(self, cdn: str) -> str:
        """What is wrong with one of them, or its certificate."""
        heard = self.of_cdn(cdn)
        ill = [f"{key}: {each.health.text}" for key, each in heard if each.health.state == "ill"]
        ends = [
            f"{key}: {warning}"
            for key, each in heard
            if (warning := certificate_warning(each.result, each.probe))
        ]
        return "; ".join(ill + ends)

    def certificate_days(self, cdn: str) -> float | None:
        """Until the first of its certificates ends."""
        days = [each.result.certificate_days for _, each in self.of_cdn(cdn)]
        return min((each for each in days if each is not None), default=None)


def left_out(
    bad: Iterable[str], services: Sequence[Sequence[Server]], weights: Mapping[str, float], most: float
) -> list[str]:
    """Of the bad endpoints those that may be left out.

    Nobody is the last of a service, and the CDNs that have no endpoint left for it have no more than `most`
    of its weight together; but one alone may go whatever it weighs, as by the kernel's reflex. `weights` are
    by CDN, 0 for those that are drained.
    """
    out: list[str] = []
    for key in bad:
        trial = {*out, key}
        if all(_serves(servers, weights, trial, most) for servers in services):
            out.append(key)
    return out


def _serves(servers: Sequence[Server], weights: Mapping[str, float], out: set[str], most: float) -> bool:
    taking = [server for server in servers if weights.get(server.cdn)]
    if not any(server.key in out for server in taking):
        return True
    cdns = {server.cdn for server in taking}
    gone = cdns - {server.cdn for server in taking if server.key not in out}
    if gone == cdns:
        return False
    return len(gone) <= 1 or sum(weights[cdn] for cdn in gone) <= most * sum(weights[cdn] for cdn in cdns)
