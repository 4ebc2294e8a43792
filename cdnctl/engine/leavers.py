"""Services and endpoints that left the configuration while flows carried their numbers.

Those flows go on, translated both ways: cutting them would help nobody, and their clients would come to
an address that no service has any more. When the last one is over, the number is free for others, and a VIP
that no service has any more is no longer ours.
"""

from __future__ import annotations

import time

from msgspec import Struct, field

from cdnctl.config import Config
from cdnctl.datapath import abi
from cdnctl.datapath.tables import Tables
from cdnctl.engine import settings
from cdnctl.engine.layout import Layout

_SETTLED_S = 0.001
"""Whatever packet has found a service before it left has opened its flow by then."""


class Leaving(Struct):
    """What became of those that left, a sentence each."""

    gone: list[str] = field(default_factory=list)
    """Forgotten: nothing is left of them."""
    staying: list[str] = field(default_factory=list)
    """Services that have flows."""


def let_go(config: Config, layout: Layout, tables: Tables) -> Leaving:
    """Forget those that no flow carries. Services must name them no more."""
    services, endpoints = _leavers(layout, tables)
    said = Leaving()
    if not (services or endpoints):
        return said
    time.sleep(_SETTLED_S)
    carried = tables.carried()
    for number, shown in services.items():
        if flows := carried.services[number]:
            what = "flow of it goes on until it ends" if flows == 1 else "flows of it go on until they end"
            said.staying.append(f"service {shown} takes no new flows, and {flows} {what}")
        elif number not in carried.services and carried.is_whole:
            tables.choice.forget_service(number)
            said.gone.append(f"service {shown} is gone for good: no flow is left of it")
    for number, shown in endpoints.items():
        if number not in carried.endpoints and carried.is_whole:
            tables.choice.forget_endpoint(number)
            tables.put_health(number, abi.Health())
            said.gone.append(f"endpoint {shown} is gone for good: no flow is left to it")
    if said.gone:
        settings.write_addresses(config, layout, tables)
    return said


def _leavers(layout: Layout, tables: Tables) -> tuple[dict[int, str], dict[int, str]]:
    wanted_services = {place.id for place in layout.services}
    wanted_endpoints = {place.id for place in layout.endpoints}
    services = {n: str(key) for key, n in tables.choice.known_services().items() if n not in wanted_services}
    endpoints = {n: str(key) for key, n in tables.choice.endpoints().items() if n not in wanted_endpoints}
    return services, endpoints
