"""What `init` finds out by itself: interfaces and addresses by netlink, and how quickly a CDN answers."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import statistics
import time

from msgspec import Struct, field

TRIES = 3
CONNECT_TIMEOUT_S = 2.0


class Link(Struct, kw_only=True):
    """An interface of this box that packets may come by."""

    name: str
    up: bool
    default: bool = False
    """The default route leads there."""
    addresses: list[str] = field(default_factory=list)
    """Its global ones, without lengths."""


class Probed(Struct, kw_only=True):
    """What connecting to an endpoint told."""

    endpoint: str
    connect_ms: float | None = None
    """Median of the tries that were answered; None: none was."""
    answered: int = 0
    trouble: str = ""


def links() -> list[Link]:
    """The interfaces, those with a default route first; loopback and what is no link of its own left out."""
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        ways = {
            message.get_attr("RTA_OIF")
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in netlink.get_default_routes(family=family)
        }
        addresses: dict[int, list[str]] = {}
        for message in netlink.get_addr():
            address = ipaddress.ip_address(message.get_attr("IFA_ADDRESS").partition("%")[0])
            if not (address.is_link_local or address.is_loopback):
                addresses.setdefault(message["index"], []).append(str(address))
        found = [
            Link(
                name=message.get_attr("IFLA_IFNAME"),
                up=message.get_attr("IFLA_OPERSTATE") != "DOWN",
                default=message["index"] in ways,
                addresses=addresses.get(message["index"], []),
            )
            for message in netlink.get_links()
            if not message["flags"] & 0x8  # IFF_LOOPBACK
        ]
    return sorted(found, key=lambda link: (not link.default, not link.up, link.name))


def probe(address: str, port: int) -> Probed:
    """Connect to an address a few times, one after another, and hang up at once."""
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    took_ms: list[float] = []
    trouble = ""
    for _ in range(TRIES):
        began_s = time.perf_counter()
        try:
            socket.create_connection((address, port), CONNECT_TIMEOUT_S).close()
            took_ms.append(1000 * (time.perf_counter() - began_s))
        except TimeoutError:
            trouble = f"no answer within {CONNECT_TIMEOUT_S:g} s"
            break
        except OSError as error:
            trouble = error.strerror or str(error)
            break
    median = statistics.median(took_ms) if took_ms else None
    return Probed(endpoint=shown, connect_ms=median, answered=len(took_ms), trouble=trouble)


def resolve(host: str) -> list[str]:
    """The addresses of a name, each once; an address as it is. Empty when there are none."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
