"""Puts what the configuration says once and for all into the kernel: settings, limits, addresses."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Mapping

from cdnctl.config import Config, cost, ports, snat_rows
from cdnctl.datapath import abi, kernel
from cdnctl.datapath.lines import shift_of
from cdnctl.datapath.tables import Tables
from cdnctl.engine import clients
from cdnctl.engine.layout import Layout
from cdnctl.state import CustomerLimit

FIRST_GENERATION = 1
_FRAGMENTS = {"follow": abi.FragmentPolicy.FOLLOW, "drop": abi.FragmentPolicy.DROP}
_FAMILIES = (4, 6)
"""In the order of the kernel's rows."""


def write_settings(config: Config, tables: Tables) -> None:
    """All that is the configuration's; the sums of weights are written with the weights."""
    settings = tables.settings
    if not settings.generation:
        settings.generation = FIRST_GENERATION
        settings.seed = secrets.randbits(32)
        settings.sample_one_in = 1
    reflex, quota = config.reflex, config.quota
    settings.port_min_host = config.edge.snat_ports[0]
    settings.ports = ports(config)
    settings.snat_rows = snat_rows(config)
    for row, family in enumerate(_FAMILIES):
        addresses = config.edge.snat_of(family)
        settings.snat_count[row] = len(addresses)
        for index, address in enumerate(addresses):
            settings.snat[row][index] = abi.address(address)
    settings.block_line_shift = shift_of(cost.block_lines(config))
    settings.fragments = _FRAGMENTS[config.edge.fragments]
    settings.dark_connects = reflex.dark_connects
    settings.refused_connects = reflex.refused_connects
    settings.slow_connects = reflex.slow_connects
    settings.distinct_prefixes = reflex.distinct_prefixes
    settings.established_s = reflex.established_s
    settings.udp_s = reflex.udp_s
    settings.out_ns = int(reflex.out_s * 1e9)
    settings.max_out_ns = int(reflex.max_out_s * 1e9)
    settings.rescue_after_ns = int(reflex.rescue_after_ms * 1e6)
    settings.slow_start_ns = int(reflex.slow_start_s * 1e9)
    settings.source_busy = quota.busy_pps
    settings.busy_share = -(-quota.busy_pps // kernel.possible_cpus())
    source = quota.per_source
    settings.source_limit = (
        abi.limit(
            pps=source.pps,
            mbit=source.mbit,
            flows_per_s=source.flows_per_s,
            burst_ms=cost.burst_ms(source.burst_ms, pps=source.pps, mbit=source.mbit),
        )
        if source
        else abi.Limit()
    )
    settings.log_bindings = config.log.nat
    tables.settings = settings


def write_capacities(config: Config, layout: Layout, tables: Tables) -> None:
    """Of all CDNs; those without any, and numbers that nobody has, take as much as comes."""
    wanted = dict.fromkeys(range(abi.MAX_CDNS), abi.Limit())
    for cdn in config.cdns:
        if capacity := cdn.capacity:
            wanted[layout.cdns[cdn.name]] = abi.limit(
                mbit=capacity.mbit, flows_per_s=capacity.flows_per_s, burst_ms=capacity.burst_ms
            )
    for number, limit in wanted.items():
        tables.choice.put_capacity(number, limit)


def write_clients(
    config: Config,
    layout: Layout,
    tables: Tables,
    limits: Mapping[str, CustomerLimit],
    allowed: Iterable[str],
) -> None:
    """Customers, their limits, regions, and who is allowed; live flows ask again if that changed."""
    tables.clients.set_limits(clients.kernel_limits(config, layout, limits))
    if tables.clients.load(clients.merge(config, layout, allowed)):
        tables.bump_generation()


def write_management(config: Config, tables: Tables) -> None:
    """The operators' own networks."""
    tables.set_management([ipaddress.ip_network(prefix) for prefix in config.edge.management])


def forget_before(layout: Layout, tables: Tables) -> None:
    """Who gets a number that another had before begins to count at nothing. Before any number is given."""
    entries, held = tables.choice.endpoint_entries(), tables.choice.endpoints().values()
    for number in set(layout.cdns.values()) - {entries[each].cdn for each in held}:
        tables.counters.forget_cdn(number)
    for number in {place.id for place in layout.services} - set(tables.choice.known_services().values()):
        tables.counters.forget_service(number)
    known = {client.customer for client in tables.clients.held().values()}
    for number in set(layout.customers.values()) - known:
        tables.counters.forget_customer(number)


def write_addresses(config: Config, layout: Layout, tables: Tables) -> None:
    """VIPs and SNAT addresses are ours: from here on their packets are looked at.

    So are VIPs of services that have left, while flows carry them.
    """
    for vip, index in layout.vips.items():
        tables.put_local(vip, abi.LocalKind.VIP, index)
    for family in _FAMILIES:
        for index, address in enumerate(config.edge.snat_of(family)):
            tables.put_local(address, abi.LocalKind.SNAT, index)
    tables.keep_local({*config.edge.snat, *layout.vips, *tables.choice.vips()})


def port_room(config: Config, layout: Layout) -> dict[int, int]:
    """SNAT ports towards each endpoint that is translated to."""
    translated = {cdn.name for cdn in config.cdns if cdn.mode == "nat"}
    return {
        place.id: len(config.edge.snat_of(place.family)) * ports(config)
        for place in layout.endpoints
        if place.cdn in translated
    }
