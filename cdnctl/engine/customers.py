"""Commands about clients: limits of customers, and prefixes that are neither blocked nor limited."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from cdnctl.config.schema import MAX_ALLOWED
from cdnctl.config.values import LEAST_RATE
from cdnctl.datapath import abi
from cdnctl.defence import blocklist
from cdnctl.engine import clients
from cdnctl.errors import CdnctlError
from cdnctl.model import Allow, Allowed, Disallow, ListCustomers, Outcome, SetLimit
from cdnctl.state import CustomerLimit, State

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_MOST = {"pps": 1e9, "mbit": 1e6, "flows_per_s": 1e9}
"""As in the configuration."""
_UNITS = {"pps": "packets/s", "mbit": "Mbit/s", "flows_per_s": "new flows/s"}


class CustomerChanges:
    """Executes them on an engine; `save` puts its state on the disk and returns warnings."""

    def __init__(self, engine: Engine, save: Callable[[], list[str]]) -> None:
        self._engine = engine
        self._save = save

    def list(self, _command: ListCustomers) -> Outcome:
        """All of them, and who is allowed."""
        state = self._engine.state
        return Outcome(
            ok=True, text="", customers=self._engine.customers(), allowed=sorted(state.allowed, key=_prefix)
        )

    def limit(self, command: SetLimit) -> Outcome:
        """New limits, or the configuration's again."""
        engine, name = self._engine, command.customer
        config = {customer.name: customer for customer in engine.config.customers}
        if name not in config and command.clear and name in engine.state.limits:
            return self._forget(command)
        if name not in config:
            there = ", ".join(config) or "none: [[customer]] in the configuration makes one"
            raise CdnctlError(f"there is no customer {name!r}", f"there are {there}")
        asked = {key: getattr(command, key) for key in _MOST if getattr(command, key) is not None}
        if command.clear and asked:
            raise CdnctlError("either new limits or the configuration's", "leave one of them out")
        if not command.clear and not asked:
            raise CdnctlError("no limit given", f"as in: cdnctl limit {name} --pps 50000")
        for key, value in asked.items():
            if value and not LEAST_RATE <= value <= _MOST[key]:
                raise CdnctlError(
                    f"a limit of {value:g} {_UNITS[key]}",
                    f"from 0 (no limit), and else from {LEAST_RATE}, to {_MOST[key]:g}",
                )
        limits = {each: limit for each, limit in engine.state.limits.items() if each != name}
        before = clients.limit_of(config[name], engine.state.limits)
        if not command.clear:
            limits[name] = replace(before, **{key: value or None for key, value in asked.items()})
        after = clients.limit_of(config[name], limits)
        whose = ", as the configuration says" if command.clear else ""
        text = f"limit {name} to {words(after)}{whose}"
        if command.dry_run:
            return Outcome(ok=True, text=f"would {text}, from {words(before)}")
        return self._put(replace(engine.state, limits=limits), text.replace("limit", "limited", 1))

    def _forget(self, command: SetLimit) -> Outcome:
        """What was set for a customer that the configuration has no more: it would hold if one came back."""
        state, name = self._engine.state, command.customer
        text = f"the limits of {name}, which is no customer any more: {words(state.limits[name])}"
        if command.dry_run:
            return Outcome(ok=True, text=f"would forget {text}")
        limits = {each: limit for each, limit in state.limits.items() if each != name}
        return self._put(replace(state, limits=limits), f"forgot {text}")

    def allow(self, command: Allow) -> Outcome:
        """Let a prefix pass the block list and the limits."""
        state = self._engine.state
        network = blocklist.parse_prefix(command.prefix)
        shown = blocklist.show_prefix(network)
        known = [each for each in state.allowed if _network(each) == network]
        if command.dry_run:
            already = ", which is allowed already" if known else ""
            return Outcome(ok=True, text=f"would allow {shown}{already}")
        if len(state.allowed) - len(known) >= MAX_ALLOWED:
            raise CdnctlError(f"{MAX_ALLOWED} prefixes are allowed already", "disallow one of them first")
        fresh = Allowed(prefix=shown, reason=command.reason, created_ns=time.time_ns())
        allowed = [each for each in state.allowed if each not in known]
        return self._put(replace(state, allowed=[*allowed, fresh]), f"allowed {shown}")

    def disallow(self, command: Disallow) -> Outcome:
        """Take that back."""
        state = self._engine.state
        network = blocklist.parse_prefix(command.prefix)
        shown = blocklist.show_prefix(network)
        left = [each for each in state.allowed if _network(each) != network]
        if len(left) == len(state.allowed):
            raise CdnctlError(f"{shown} is not allowed by itself", "`cdnctl customers` lists what is")
        if command.dry_run:
            return Outcome(ok=True, text=f"would no longer allow {shown}")
        return self._put(replace(state, allowed=left), f"no longer allowed {shown}")

    def _put(self, wanted: State, text: str) -> Outcome:
        """Into the kernel, then to the disk; what the kernel refuses is not wanted either."""
        engine = self._engine
        before, engine.state = engine.state, wanted
        try:
            engine.write_clients()
        except OSError:
            engine.state = before
            with contextlib.suppress(OSError):
                engine.write_clients()  # part of it may be in force
            raise
        applied_ns = time.monotonic_ns()
        warnings = self._save()
        if not engine.state.armed:
            warnings.append("the edge is disarmed: limits take effect when it is armed again")
        return Outcome(ok=True, text=text, applied_monotonic_ns=applied_ns, warnings=warnings)


def _network(allowed: Allowed) -> abi.AnyNetwork:
    return blocklist.parse_prefix(allowed.prefix)


def _prefix(allowed: Allowed) -> tuple[int, int, int]:
    network = _network(allowed)
    return network.version, int(network.network_address), network.prefixlen


def words(limit: CustomerLimit) -> str:
    """`50000 packets/s and 400 Mbit/s`, or `as much as it likes`."""
    found = [f"{getattr(limit, key):g} {unit}" for key, unit in _UNITS.items() if getattr(limit, key)]
    return " and ".join(found) or "as much as it likes"
