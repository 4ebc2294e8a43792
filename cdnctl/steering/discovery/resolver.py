"""Asks DNS: the shell round the core, with limits on time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cdnctl.steering.discovery.core import Answer

LIFETIME_S = 5.0
"""For all servers and tries together."""


async def resolve(
    name: str,
    family: Literal[4, 6],
    servers: Sequence[str] | None = None,
    port: int = 53,
    lifetime_s: float = LIFETIME_S,
) -> Answer:
    """The addresses of a name, with the least TTL of the chain that led to them.

    By the box's own resolvers, or `servers`. Never raises for what DNS says or does not say.
    """
    import dns.asyncresolver
    import dns.exception
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver(configure=servers is None)
        if servers is not None:
            resolver.nameservers = list(servers)
            resolver.port = port
        resolver.lifetime = lifetime_s
        resolver.cache = None
        found = await resolver.resolve(name, "A" if family == 4 else "AAAA", search=False)
    except dns.resolver.NXDOMAIN:
        return Answer(failure=f"{name}: no such name")
    except dns.resolver.NoAnswer:
        return Answer(failure=f"{name}: has no IPv{family} address")
    except dns.exception.Timeout:
        return Answer(failure=f"{name}: no answer within {lifetime_s:g} s")
    except (dns.exception.DNSException, OSError, ValueError) as error:
        return Answer(failure=f"{name}: {' '.join(str(error).split()) or type(error).__name__}")
    return Answer(
        addresses=tuple(each.address for each in found),
        ttl_s=float(found.chaining_result.minimum_ttl),
    )
