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
        mask = sum(1 << entry.id for entry in entries)
        policy = abi.Policy.LATENCY if service.policy == "latency" else abi.Policy.WEIGHTED
        tables.put_service(
            layout.services[service.name], service.vip, service.port, policy, mask, maglev.table(entries)
        )
