"""The suite: all ways in turn, round by round, and what comes of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from cdnctl.lab import gauges
from cdnctl.lab.processes import end, undisturbed
from tests.bench.peers import figures as figures_of
from tests.bench.peers import load, place, servers
from tests.bench.peers.figures import FLOOR, Figures, rows
from tests.bench.peers.place import HOME, Place
from tests.bench.peers.processors import busy_at_rest
from tests.bench.peers.ways import Nftables, Ours, Way, proxies
from tests.bench.results import Result, Unsound

RATE = 1000.0
"""New connections/s of the clients at a fixed pace: less than a fifth of what the slowest way can do."""
_PACED = 2
"""Processes that take their parts of it."""
_EACH_S = 1
"""wrk takes whole seconds."""


_SPOILED = 2
"""Rounds at a pace that was not kept, which are measured once more: one lost SYN holds up its client for a
second, and so half of a round. More of them, and it is the way that loses them."""
_MOST_AT_REST = 0.5
"""Processors' worth of work that goes on anyway; it is taken off, but only as it was before."""


class Plan(NamedTuple):
    """How much is measured."""

    rounds: int
    """Of what a request on a new connection costs: all ways of a round within seconds, for the box is not as
    fast at one time as at another."""
    all_ways: bool
    """And all that is asked of them; else only what rows with a gate need."""
    paced: int
    """Rounds of how long it takes: a neighbour of the box spoils a round or two, and the median does without
    them."""
    paced_s: float
    timed: int
    """Passes in which the kernel times our programs."""


FULL = Plan(rounds=8, all_ways=True, paced=16, paced_s=0.5, timed=3)
QUICK = Plan(rounds=3, all_ways=False, paced=7, paced_s=0.25, timed=1)


class Box(NamedTuple):
    """What is there to measure."""

    place: Place
    ways: list[Way]
    ours: Ours


@contextlib.contextmanager
def _box(all_ways: bool) -> Iterator[Box]:
    """All servers, each in its namespace; everything is gone afterwards, and so is what a killed run left."""
    stack = contextlib.ExitStack()
    try:
        place.remove()
        stack.callback(place.remove)
        HOME.mkdir()
        links = Place()
        log = stack.enter_context((HOME / "log").open("wb"))
        ours = Ours(log)
        stack.callback(ours.close)
        for process in servers.origins(log):
            stack.callback(end, process)
        ways = [Way(), *proxies(log, stack, ["HAProxy", "nginx stream"] if all_ways else ["HAProxy"])]
        if all_ways:
            ways.append(Nftables())
        ours.wait()
        yield Box(links, [*ways, ours], ours)
    finally:
        with undisturbed():
            stack.close()


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """All rows. Raises Unsound, CdnctlError."""
    plan = QUICK if quick else FULL
    say("servers and links")
    with _box(plan.all_ways) as box:
        at_rest = busy_at_rest(0.5)
        if at_rest > _MOST_AT_REST:
            raise Unsound(f"something else keeps {at_rest:.1f} processors busy: it would be counted as ours")
        figures = {way.name: Figures() for way in box.ways}
        for number in _rounds(plan.rounds, lambda: figures_of.costs(figures)):
            say(f"what a new connection costs, round {number + 1}")
            for way in _shuffled(box.ways, number):
                if plan.all_ways or way.name != FLOOR:
                    with way:
                        _cost(box, way, figures[way.name], at_rest)
            if plan.all_ways:
                say(f"what other requests cost, round {number + 1}")
                for way in _shuffled(box.ways, number):
                    with way:
                        _other_costs(box, way, figures[way.name], at_rest)
        spoiled = list[Unsound]()
        for number in _rounds(plan.paced, lambda: figures_of.added(figures)):
            say(f"how long it takes, round {number + 1}")
            for name, times_us in _paced(box, number, plan.paced_s, spoiled).items():
                figures[name].times_us.append(times_us)
        say("our programs' own run time")
        run_us = [_run_us(box) for _ in range(plan.timed)]
    return rows(figures, run_us)


def _settle(box: Box, way: Way, seconds: int) -> None:
    """Load that is not measured."""
    box.place.next_source()
    if seconds:
        load.new_connections(way.target, seconds)


def _rounds(count: int, rows: Callable[[], Iterable[Result]]) -> Iterator[int]:
    """So many, and up to twice as many while they have not decided a gate."""
    yield from range(count)
    for number in range(count, 2 * count):
        if any(row.is_open for row in rows()):
            yield number


def _shuffled(ways: list[Way], number: int) -> list[Way]:
    """In an order of the round's own: what one leaves behind (sockets, tracked connections) is not always for
    the same to clear away."""
    return random.Random(number).sample(ways, len(ways))


def _cost(box: Box, way: Way, figures: Figures, at_rest: float) -> None:
    """One round of one way, which is active: what the box has to do for a new connection."""
    _settle(box, way, way.settling_s)
    lost = box.place.lost()
    box.place.next_source()
    cost = load.new_connections(way.target, _EACH_S, way.own_s).without(at_rest)
    figures.new.append(cost)
    figures.own_us.append(cost.own_us_per_request)
    box.place.check(lost, way.name)


def _other_costs(box: Box, way: Way, figures: Figures, at_rest: float) -> None:
    """And for others. It also gives ports time that TIME_WAIT keeps."""
    _settle(box, way, way.settling_s)
    lost = box.place.lost()
    box.place.next_source()
    figures.kept.append(load.kept_alive(way.target, _EACH_S).without(at_rest))
    figures.big.append(load.downloads(way.target, _EACH_S).without(at_rest))
    box.place.check(lost, way.name)


def _paced(box: Box, number: int, seconds: float, spoiled: list[Unsound]) -> dict[str, list[float]]:
    """One round of all ways, whole: times of requests (us) by way. What spoiled one is added to `spoiled`."""
    while True:
        times: dict[str, list[float]] = {}
        try:
            for way in _shuffled(box.ways, number):
                with way:
                    times[way.name] = _times_us(box, way, seconds)
        except Unsound as error:
            spoiled.append(Unsound(f"{way.name}: {error}"))
            if len(spoiled) > _SPOILED:
                raise Unsound("; ".join(map(str, spoiled))) from error
        else:
            return times


def _times_us(box: Box, way: Way, seconds: float) -> list[float]:
    """One round of one way, which is active: how long requests at a fixed pace take."""
    lost = box.place.lost()
    sources = [box.place.next_source() for _ in range(_PACED)]
    times = load.request_times_us(way.target, sources, RATE, seconds)
    box.place.check(lost, way.name)
    return times


def _run_us(box: Box) -> float:
    """Run time of our programs for each new connection, as long as the kernel's clock for it is on."""
    ours = box.ours
    with ours, gauges.timing():
        _settle(box, ours, ours.settling_s)
        box.place.next_source()
        return load.new_connections(ours.target, _EACH_S, lambda: ours.runs().ns / 1e9).own_us_per_request
