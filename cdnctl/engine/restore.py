"""What of a saved state can be used: the file may be edited by hand, and the configuration changes."""

from __future__ import annotations

import heapq

from msgspec.structs import astuple

from cdnctl.config import Config
from cdnctl.config.schema import MAX_ALLOWED
from cdnctl.config.values import LEAST_RATE
from cdnctl.defence import codes
from cdnctl.defence.blocklist import parse_code, parse_prefix
from cdnctl.model import Block
from cdnctl.state import State

_HEAVIEST = 1000
_LAST_NS = 2**63 - 1
_FASTEST = 1e9
_SHOWN = 5
"""Wrong blocks that are told one by one."""


def clean(state: State, config: Config) -> list[str]:
    """Leave out of `state`, in place, what cannot be put into force; one warning for each.

    A state must never keep an edge from starting. What it says of CDNs that the configuration has not
    stays in it, without effect: they may come back.
    """
    return [
        *_names(state, config),
        *_weights(state, config),
        *_drains(state, config),
        *_limits(state),
        *_allowed(state),
        *_blocks(state, config),
    ]


def _names(state: State, config: Config) -> list[str]:
    cdns = {*state.weights, *state.drained} - {cdn.name for cdn in config.cdns}
    customers = state.limits.keys() - {customer.name for customer in config.customers}
    said = "which the configuration has not: ignored"
    return [f"state.toml speaks of CDN {name}, {said}" for name in sorted(cdns)] + [
        f"state.toml speaks of customer {name}, {said} (`cdnctl limit {name} --clear` forgets it)"
        for name in sorted(customers)
    ]


def _weights(state: State, config: Config) -> list[str]:
    wrong = {name: weight for name, weight in state.weights.items() if not 0 <= weight <= _HEAVIEST}
    for name in wrong:
        del state.weights[name]
    warnings = [
        f"state.toml gives {name} the weight {weight}, and weights are from 0 to {_HEAVIEST}: left out"
        for name, weight in wrong.items()
    ]
    # Weights of 0 alone may leave a service without a CDN as well: the configuration's never do.
    for service in config.services:
        cdns = config.cdns_of(service)
        if not any(state.weights.get(cdn.name, cdn.weight) for cdn in cdns):
            for cdn in cdns:
                state.weights.pop(cdn.name, None)
            warnings.append(
                f"the weights in state.toml leave service {service.name} without a CDN:"
                " those of its CDNs are the configuration's again"
            )
    return warnings


def _drains(state: State, config: Config) -> list[str]:
    warnings = []
    weights = {cdn.name: state.weights.get(cdn.name, cdn.weight) for cdn in config.cdns}
    for service in config.services:
        serving = {cdn.name for cdn in config.cdns_of(service)}
        if any(weights[name] and name not in state.drained for name in serving):
            continue
        ignored = [name for name in state.drained if name in serving]
        state.drained = [name for name in state.drained if name not in serving]
        warnings.append(
            f"the drains in state.toml leave service {service.name} without a CDN:"
            f" {', '.join(ignored)} {'is' if len(ignored) == 1 else 'are'} not drained"
        )
    return warnings


def _limits(state: State) -> list[str]:
    wrong = [
        name
        for name, limit in state.limits.items()
        if not all(value is None or LEAST_RATE <= value <= _FASTEST for value in astuple(limit))
    ]
    for name in wrong:
        del state.limits[name]
    return [
        f"state.toml limits {name} to something that is no number from {LEAST_RATE}: left out"
        for name in wrong
    ]


def _allowed(state: State) -> list[str]:
    warnings, kept = [], []
    for allowed in state.allowed[:MAX_ALLOWED]:
        try:
            parse_prefix(allowed.prefix)
            kept.append(allowed)
        except ValueError as error:
            warnings.append(f"an allowed prefix in state.toml is left out: {error}")
    if (excess := len(state.allowed) - MAX_ALLOWED) > 0:
        warnings.append(f"{excess} allowed prefixes in state.toml are left out: {MAX_ALLOWED} at most")
    state.allowed = kept
    return _few(warnings, "allowed prefixes")


def _few(warnings: list[str], what: str) -> list[str]:
    if len(warnings) <= _SHOWN:
        return warnings
    return [*warnings[:_SHOWN], f"{len(warnings) - _SHOWN} more {what} in state.toml are left out"]


def _blocks(state: State, config: Config) -> list[str]:
    warnings, kept = [], []
    is_plain = codes.of_plain
    for block in state.blocks:
        # nearly all are so, and there may be a million
        if is_plain(block.prefix) and 0 <= block.created_ns <= _LAST_NS >= block.expires_ns >= 0:
            kept.append(block)
            continue
        why = _why_not(block)
        if why is None:
            kept.append(block)
        else:
            warnings.append(f"a block in state.toml is left out: {why}")
    state.blocks = kept
    warnings = _few(warnings, "blocks")
    if (excess := len(kept) - config.limits.block_entries) > 0:
        state.blocks = heapq.nlargest(config.limits.block_entries, kept, key=lambda block: block.created_ns)
        warnings.append(
            f"the {excess} oldest blocks in state.toml are left out: [limits] block_entries is"
            f" {config.limits.block_entries}"
        )
    return warnings


def _why_not(block: Block) -> str | None:
    try:
        parse_code(block.prefix)
    except ValueError as error:
        return str(error)
    if not (0 <= block.created_ns <= _LAST_NS and 0 <= block.expires_ns <= _LAST_NS):
        return f"{block.prefix} begins or ends at no time that there is"
    return None
