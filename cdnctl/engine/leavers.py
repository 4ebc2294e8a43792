"""Services and endpoints that left the configuration while flows carried their numbers.

Those flows go on. When the last one is over, the number is free for others, and a VIP that no service has
any more is no longer ours.
"""

from __future__ import annotations

from cdnctl.config import Config
from cdnctl.datapath import abi
from cdnctl.datapath.tables import Tables
from cdnctl.engine import settings
from cdnctl.engine.layout import Layout


def let_go(config: Config, layout: Layout, tables: Tables) -> list[str]:
    """Forget those that no flow carries; one sentence each. Services must name them no more."""
    services, endpoints = _leavers(layout, tables)
    if not (services or endpoints):
        return []
    carried, said = tables.carried(), []
    for number, shown in services.items():
        if number not in carried.services:
            tables.choice.forget_service(number)
            said.append(f"service {shown} is gone for good: no flow is left of it")
    for number, shown in endpoints.items():
        if number not in carried.endpoints:
            tables.choice.forget_endpoint(number)
            tables.put_health(number, abi.Health())
            said.append(f"endpoint {shown} is gone for good: no flow is left to it")
    if said:
        settings.write_addresses(config, layout, tables)
    return said


def _leavers(layout: Layout, tables: Tables) -> tuple[dict[int, str], dict[int, str]]:
    wanted_services = {place.id for place in layout.services}
    wanted_endpoints = {place.id for place in layout.endpoints}
    services = {n: str(key) for key, n in tables.choice.known_services().items() if n not in wanted_services}
    endpoints = {n: str(key) for key, n in tables.choice.endpoints().items() if n not in wanted_endpoints}
    return services, endpoints
