"""Whether values that are taken back are risky: what the verbs that set them would say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import convert

from cdnctl.defence import blocklist
from cdnctl.engine import clients, consequences, objects, steering
from cdnctl.engine.objects import Values
from cdnctl.state import CustomerLimit

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

ALL_FLOWS = "all new flows are translated that pass untouched now"
"""Why to confirm that an edge which only observed begins to act."""


def of_values(engine: Engine, after: Values) -> str:
    """Why it should be confirmed that these values come into force; empty: it need not.

    Without the configuration, of which whoever reads it knows what it takes away.
    """
    changed = {what: value for what, value in after.items() if objects.read(engine, what) != value}
    return (
        _switches(engine, changed) or _steering(engine, changed) or _blocks(engine, changed)
        or _limits(engine, changed)
    )  # fmt: skip


def _switches(engine: Engine, changed: Values) -> str:
    observing = changed.get(objects.switch("observing"))
    if observing is False:
        return ALL_FLOWS
    if observing or changed.get(objects.switch("bypassed")) or changed.get(objects.ATTACHMENT) is False:
        return consequences.cuts(engine.tables.live_flows())
    return ""


def _steering(engine: Engine, changed: Values) -> str:
    if not any(what.startswith(("weight ", "drain ")) for what in changed):
        return ""
    state = objects.with_values(engine.state, changed)
    before = steering.planned(engine.layout, engine.steering())
    shares = steering.planned(engine.layout, engine.steering(state))
    left, were = ([cdn for cdn, share in each.items() if share] for each in (shares, before))
    return consequences.steering_risk(consequences.moved(before, shares), left, were)


def _blocks(engine: Engine, changed: Values) -> str:
    for what, value in changed.items():
        if objects.in_blocks(what) and not objects.is_list(what) and value is not None:
            found = engine.matched(blocklist.parse_prefix(value["prefix"]))
            if risk := consequences.block_risk(found):
                return risk
    return ""


def _limits(engine: Engine, changed: Values) -> str:
    config = {customer.name: customer for customer in engine.config.customers}
    for what, value in changed.items():
        kind, _, name = what.partition(" ")
        if kind == "limit" and name in config:
            wanted = {} if value is None else {name: convert(value, CustomerLimit)}
            if risk := limit_risk(engine, name, clients.limit_of(config[name], wanted)):
                return risk
    return ""


def limit_risk(engine: Engine, name: str, limit: CustomerLimit) -> str:
    """A limit that cuts more than half of what the customer takes now."""
    takes = engine.customer(name)
    if takes is None:
        return ""
    now = (takes.pps, limit.pps), (takes.bps / 1e6, limit.mbit), (takes.flows_per_s, limit.flows_per_s)
    cut = max((1 - most / rate for rate, most in now if most and rate), default=0.0)
    return f"it cuts {100 * cut:.0f} % of what {name} takes now" if cut > consequences.MOST else ""
