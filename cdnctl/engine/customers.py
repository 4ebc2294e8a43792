"""Commands about clients: limits of customers, and prefixes that are neither blocked nor limited."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import to_builtins
from msgspec.structs import replace

from cdnctl.config.schema import MAX_ALLOWED
from cdnctl.config.values import LEAST_RATE
from cdnctl.datapath import abi
from cdnctl.defence import blocklist
from cdnctl.engine import clients, objects, risks
from cdnctl.engine.planned import Planned
from cdnctl.errors import CdnctlError
from cdnctl.model import Allow, Allowed, Disallow, ListCustomers, Outcome, SetLimit
from cdnctl.state import CustomerLimit

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_MOST = {"pps": 1e9, "mbit": 1e6, "flows_per_s": 1e9}
"""As in the configuration."""
_UNITS = {"pps": "packets/s", "mbit": "Mbit/s", "flows_per_s": "new flows/s"}


class CustomerChanges:
    """Plans them on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self, _command: ListCustomers) -> Outcome:
        """All of them, and who is allowed."""
        state = self._engine.state
        return Outcome(
            ok=True, text="", customers=self._engine.customers(), allowed=sorted(state.allowed, key=_prefix)
        )

    def limit(self, command: SetLimit) -> Planned:
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
        before = clients.limit_of(config[name], engine.state.limits)
        limits = {each: limit for each, limit in engine.state.limits.items() if each != name}
        wanted = None
        if not command.clear:
            wanted = limits[name] = replace(before, **{key: value or None for key, value in asked.items()})
        now = clients.limit_of(config[name], limits)
        whose = ", as the configuration says" if command.clear else ""
        text = f"limit {name} to {words(now)}{whose}"
        return self._planned(
            {objects.limit(name): None if wanted is None else to_builtins(wanted)},
            f"would {text}, from {words(before)}",
            text.replace("limit", "limited", 1),
            command.dry_run,
            risks.limit_risk(engine, name, now),
        )

    def _forget(self, command: SetLimit) -> Planned:
        """What was set for a customer that the configuration has no more: it would hold if one came back."""
        state, name = self._engine.state, command.customer
        text = f"the limits of {name}, which is no customer any more: {words(state.limits[name])}"
        after = {objects.limit(name): None}
        return self._planned(after, f"would forget {text}", f"forgot {text}", command.dry_run)

    def allow(self, command: Allow) -> Planned:
        """Let a prefix pass the block list and the limits."""
        state = self._engine.state
        network = blocklist.parse_prefix(command.prefix)
        shown = blocklist.show_prefix(network)
        known = [each for each in state.allowed if _network(each) == network]
        already = ", which is allowed already" if known else ""
        if not command.dry_run and len(state.allowed) - len(known) >= MAX_ALLOWED:
            raise CdnctlError(f"{MAX_ALLOWED} prefixes are allowed already", "disallow one of them first")
        fresh = Allowed(prefix=shown, reason=command.reason, created_ns=time.time_ns())
        after = {objects.allow(shown): to_builtins(fresh)}
        return self._planned(after, f"would allow {shown}{already}", f"allowed {shown}", command.dry_run)

    def disallow(self, command: Disallow) -> Planned:
        """Take that back."""
        state = self._engine.state
        network = blocklist.parse_prefix(command.prefix)
        shown = blocklist.show_prefix(network)
        left = [each for each in state.allowed if _network(each) != network]
        if len(left) == len(state.allowed):
            raise CdnctlError(f"{shown} is not allowed by itself", "`cdnctl customers` lists what is")
        after = {objects.allow(shown): None}
        would = f"would no longer allow {shown}"
        return self._planned(after, would, f"no longer allowed {shown}", command.dry_run)

    def _planned(
        self, after: objects.Values, would: str, done: str, dry_run: bool, risk: str = ""
    ) -> Planned:
        warnings = []
        if not (dry_run or self._engine.state.armed):
            warnings.append("the edge is disarmed: limits take effect when it is armed again")
        return Planned(after=after, would=would, done=lambda: done, warnings=warnings, risk=risk)


def _network(allowed: Allowed) -> abi.AnyNetwork:
    return blocklist.parse_prefix(allowed.prefix)


def _prefix(allowed: Allowed) -> tuple[int, int, int]:
    network = _network(allowed)
    return network.version, int(network.network_address), network.prefixlen


def words(limit: CustomerLimit) -> str:
    """`50000 packets/s and 400 Mbit/s`, or `as much as it likes`."""
    found = [f"{getattr(limit, key):g} {unit}" for key, unit in _UNITS.items() if getattr(limit, key)]
    return " and ".join(found) or "as much as it likes"
