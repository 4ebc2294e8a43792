"""Puts operators' weights and drains into the kernel: endpoint weights, pick tables, services."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cdnctl.config import Config
from cdnctl.datapath import abi
from cdnctl.datapath.tables import Tables
from cdnctl.engine.layout import Layout
from cdnctl.errors import CdnctlError
from cdnctl.steering import maglev, shares


def split(layout: Layout, weights: Mapping[str, int], drained: Collection[str]) -> shares.Split[int]:
    """Endpoint weights by id, shares by CDN."""
    return shares.split(
        weights, drained, {cdn: [place.id for place in layout.endpoints_of(cdn)] for cdn in layout.cdns}
    )


def check(config: Config, weights: Mapping[str, int], drained: Collection[str]) -> None:
    """Raises CdnctlError when a service would be left without any CDN."""
    for service in config.services:
        cdns = [cdn.name for cdn in config.cdns_of(service)]
        if not any(weights[cdn] and cdn not in drained for cdn in cdns):
            raise CdnctlError(
                f"service {service.name} would be left without a CDN",
                f"leave one of {', '.join(cdns)} undrained and with a weight above 0",
            )


def apply(
    config: Config, layout: Layout, tables: Tables, weights: Mapping[str, int], drained: Collection[str]
) -> None:
    """Write it all; each service flips to its new table in one step. Call `check` first."""
    result = split(layout, weights, drained)
    _settle(tables, result.weights)
    limits = {cdn.name: cdn.latency_limit_ms for cdn in config.cdns}
    for place in layout.endpoints:
        limit_us = int((limits[place.cdn] or 0) * 1000)
        tables.put_endpoint(
            place.id, place.address, place.port, place.cdn_id, result.weights[place.id], limit_us
        )
    settings = tables.settings
    settings.weight_total = sum(result.weights.values())
    tables.settings = settings
    for service in config.services:
        names = {cdn.name for cdn in config.cdns_of(service)}
        entries = [
            maglev.Entry(place.id, place.key, result.weights[place.id])
            for place in layout.endpoints
            if place.cdn in names and result.weights[place.id]
        ]
        policy = abi.Policy.LATENCY if service.policy == "latency" else abi.Policy.WEIGHTED
        tables.put_service(
            layout.services[service.name], service.vip, service.port, policy, maglev.table(entries)
        )


def _settle(tables: Tables, weights: Mapping[int, int]) -> None:
    """Breakers before new weights: who leaves the rotation, or comes into it, starts afresh.

    An endpoint without a weight gets no flows, so no probes either, and would stay out, and hold its
    part of the weight that may be out, for ever. One that is out and keeps a weight holds its new one.
    """
    for identity in range(abi.MAX_ENDPOINTS):
        health = tables.health(identity)
        if health.state != abi.Breaker.OUT:
            continue
        weight, before = weights.get(identity, 0), tables.endpoint(identity).weight
        if not weight or not before:
            fresh = abi.Health(
                ejections_total=health.ejections_total, last_new_flow_ns=health.last_new_flow_ns
            )
            tables.put_health(identity, fresh)
        elif health.reserved_weight != weight:
            health.reserved_weight = weight
            tables.put_health(identity, health)
    reconcile(tables)


def reconcile(tables: Tables) -> None:
    """Make the weight that is out the sum of what ejected endpoints hold.

    The kernel keeps the sum true by itself; this mends what a change of weights, written while the
    kernel ejects or reopens, may have got wrong. Cheap enough for every frame.
    """
    out = 0
    for identity in range(abi.MAX_ENDPOINTS):
        health = tables.health(identity)
        out += health.reserved_weight if health.state == abi.Breaker.OUT else 0
    if out != tables.weight_out:
        tables.weight_out = out
