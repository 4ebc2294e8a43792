"""What is known of clients by their prefixes: customers, regions, and who is never blocked or limited.

In the kernel the longest prefix of a client holds, and alone. So a prefix that says nothing of a
customer, of a region or of being allowed gets here what the next shorter one around it has.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from cdnctl.config import Config, CustomerConfig, cost
from cdnctl.datapath import abi
from cdnctl.datapath.clients import Client
from cdnctl.engine.layout import Layout
from cdnctl.state import CustomerLimit


def merge(config: Config, layout: Layout, allowed: Iterable[str] = ()) -> dict[abi.AnyNetwork, Client]:
    """One entry a prefix, each complete by itself."""
    said: dict[abi.AnyNetwork, Client] = {}

    def say(prefix: str, **what: Any) -> None:
        network = ipaddress.ip_network(prefix)
        said[network] = said.get(network, Client())._replace(**what)

    for region in config.regions:
        for prefix in region.prefixes:
            say(prefix, region=layout.regions[region.name])
    for customer in config.customers:
        for prefix in customer.prefixes:
            say(prefix, customer=layout.customers[customer.name])
    for prefix in allowed:
        say(prefix, flags=abi.ClientFlag.ALLOWED)
    return _inherit(said)


def _inherit(said: Mapping[abi.AnyNetwork, Client]) -> dict[abi.AnyNetwork, Client]:
    whole: dict[abi.AnyNetwork, Client] = {}
    around: list[abi.AnyNetwork] = []
    # Sorted so, what covers a prefix comes before it, and what lies in it right behind.
    for network in sorted(said, key=lambda each: (each.version, int(each.network_address), each.prefixlen)):
        while around and not _covers(around[-1], network):
            around.pop()
        own = said[network]
        if around:
            outer = whole[around[-1]]
            own = Client(own.customer or outer.customer, own.region or outer.region, own.flags | outer.flags)
        whole[network] = own
        around.append(network)
    return whole


def _covers(outer: abi.AnyNetwork, inner: abi.AnyNetwork) -> bool:
    if outer.version != inner.version or outer.prefixlen > inner.prefixlen:
        return False
    shift = inner.max_prefixlen - outer.prefixlen
    return int(outer.network_address) >> shift == int(inner.network_address) >> shift


def limit_of(customer: CustomerConfig, limits: Mapping[str, CustomerLimit]) -> CustomerLimit:
    """What holds now: an operator's word as a whole, else the configuration's."""
    return limits.get(customer.name) or CustomerLimit(
        pps=customer.pps, mbit=customer.mbit, flows_per_s=customer.flows_per_s
    )


def kernel_limits(
    config: Config, layout: Layout, limits: Mapping[str, CustomerLimit]
) -> dict[int, abi.Limit]:
    """By the customers' numbers; those without a limit are not in it."""
    found = {}
    for customer in config.customers:
        now = limit_of(customer, limits)
        if now.pps or now.mbit or now.flows_per_s:
            found[layout.customers[customer.name]] = abi.limit(
                pps=now.pps,
                mbit=now.mbit,
                flows_per_s=now.flows_per_s,
                burst_ms=cost.burst_ms(customer.burst_ms, pps=now.pps, mbit=now.mbit),
            )
    return found
