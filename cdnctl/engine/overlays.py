"""Operators' words on top of a configuration, when that becomes another one.

A weight or a drain stays what it was, and yet means something else where the configuration's own weights, or
the CDNs of a service, are others. Whoever changed it while a reload waits to be confirmed would see it undone
by the revert, or would keep the revert from being possible; so it is guarded as what the reload changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from cdnctl.config import Config
from cdnctl.engine import objects
from cdnctl.engine.objects import Values
from cdnctl.state import State


def bears_on(before: Config, after: Config) -> list[str]:
    """Weights, drains and limits that mean something else with the one than with the other."""
    cdns = _other(
        {each.name: each.weight for each in before.cdns}, {each.name: each.weight for each in after.cdns}
    )
    one, other = _members(before), _members(after)
    for service in {*one, *other}:
        was, is_now = one.get(service, frozenset()), other.get(service, frozenset())
        if was != is_now or cdns & (was | is_now):  # of its CDNs one must be left, whatever is drained
            cdns = cdns | was | is_now
    customers = _other(_limits(before), _limits(after))
    return [
        *(what(name) for name in sorted(cdns) for what in (objects.weight, objects.drain)),
        *map(objects.limit, sorted(customers)),
    ]


def otherwise(before: State, after: State) -> Values:
    """What another state says otherwise: all of it kept in a state, so no blocks."""
    known = dict.fromkeys([*objects.objects_of(before), *objects.objects_of(after)])
    return {
        what: value
        for what in known
        if (value := objects.of_state(after, what)) != objects.of_state(before, what)
    }


def _members(config: Config) -> dict[str, frozenset[str]]:
    """The CDNs of each service."""
    return {
        service.name: frozenset(cdn.name for cdn in config.cdns_of(service)) for service in config.services
    }


def _limits(config: Config) -> dict[str, object]:
    return {each.name: (each.pps, each.mbit, each.flows_per_s) for each in config.customers}


def _other(before: Mapping[str, object], after: Mapping[str, object]) -> frozenset[str]:
    """The names of what is new, gone, or another."""
    return frozenset(name for name in {*before, *after} if before.get(name) != after.get(name))
