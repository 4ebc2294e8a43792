"""The configuration of a lab's edge, as an operator would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdnctl.lab.topology import EDGE_SERVICES, PORT, SNAT, SNAT6, VIP, VIP6, Site, Topology


def document(
    topology: Topology, weights: Sequence[int], extra: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, Any]:
    """A file's tables. `extra` adds to them or replaces: its `cdn` in each CDN, `service` in both."""
    more = {section: dict(values or {}) for section, values in extra.items()}
    config: dict[str, Any] = {
        "edge": {
            "name": topology.lab,
            "interfaces": topology.edge_links,
            "snat": [*SNAT, *SNAT6],
            "announced": EDGE_SERVICES,
            **more.pop("edge", {}),
        },
        "cdn": [
            {"name": site.name, "endpoints": endpoints(site), "weight": weight, **more.get("cdn", {})}
            for site, weight in zip(topology.sites, weights, strict=True)
        ],
        "service": [
            {"name": name, "vip": vip, "port": PORT, **more.get("service", {})}
            for name, vip in (("www", VIP), ("www6", VIP6))
        ],
    }
    for section in more.keys() - {"cdn", "service"}:
        if more[section]:
            config[section] = more[section]
    return config


def endpoints(site: Site) -> list[str]:
    """A CDN's, of both families."""
    return [f"{site.endpoint}:{PORT}", f"[{site.endpoint6}]:{PORT}"]
