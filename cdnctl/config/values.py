"""What single values of the file may be: types with the words to say when a value is something else."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from msgspec import Meta

from cdnctl.paths import NAME

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4 addresses in IPv6's form (RFC 4291, 2.5.5.2)."""


def some(members: tuple[str, ...]) -> tuple[str, ...]:
    """One or more of them, where none at all would be taken for all; raises ValueError."""
    if not members:
        raise ValueError("none would be nobody: for all of them leave the key out")
    return members


def host_address(text: str) -> str:
    """An IPv4 or IPv6 address that one host may have, in its usual spelling; raises ValueError."""
    address = ipaddress.ip_address(text)
    if address.version == 6 and address.is_link_local:
        raise ValueError(f"{text} is link-local: it says nothing without an interface")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        raise ValueError(f"{text} is IPv4 in IPv6's clothes: write {address.ipv4_mapped}")
    if (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address.is_reserved
        or "%" in text
    ):
        raise ValueError(f"{text} is no address of one host")
    return str(address)


def prefix(text: str) -> str:
    """An IPv4 or IPv6 prefix without host bits, in its usual spelling; raises ValueError."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        if network.subnet_of(_MAPPED):
            raise ValueError(f"{text} is IPv4 in IPv6's clothes: write it as IPv4")
        if network.supernet_of(_MAPPED):  # the kernel's tables hold IPv4 there
            raise ValueError(f"{text} would be all of IPv4, too: all of IPv6 that is routed is 2000::/3")
    return str(network)


def family(text: str) -> int:
    """4 or 6: of an address, of a prefix, or of an address with a port."""
    return 6 if text.count(":") > 1 else 4


def parse_endpoint(text: str) -> tuple[str, int]:
    """`"198.51.100.10:443"` or `"[2001:db8::10]:443"` as address and port; raises ValueError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and str(int(port)) == port and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r} is no address with a port")
    bracketed = host.startswith("[") and host.endswith("]")
    address = host_address(host[1:-1] if bracketed else host)
    if bracketed != (family(address) == 6):
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, an IPv4 address does not")
    return address, int(port)


def show_endpoint(address: str, port: int) -> str:
    """The inverse of `parse_endpoint`."""
    return f"[{address}]:{port}" if family(address) == 6 else f"{address}:{port}"


def parse_listen(text: str) -> tuple[str, int]:
    """An address of this host, loopback and the unspecified one too, and a port; raises ValueError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and str(int(port)) == port and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r} is no address with a port")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    if bracketed != (address.version == 6) or address.is_multicast:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, an IPv4 address does not")
    return str(address), int(port)


def listen(text: str) -> str:
    """In its usual spelling, or nothing at all; raises ValueError if it is neither."""
    return show_endpoint(*parse_listen(text)) if text else ""


def endpoint(text: str) -> str:
    """`text` in its usual spelling if `parse_endpoint` can read it; raises ValueError if not."""
    return show_endpoint(*parse_endpoint(text))


_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def host_name(text: str) -> str:
    """A DNS name in lower case, without the last dot; raises ValueError."""
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{text!r} is no host name")
    if labels[-1].isdigit():
        raise ValueError(f"{text!r} is an address: write it into endpoints")
    return name


def parse_name(text: str) -> tuple[str, int]:
    """`"edge.example.net:443"` as name and port; raises ValueError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and str(int(port)) == port and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r} is no name with a port")
    return host_name(host), int(port)


def name_key(text: str) -> str:
    """`text` in its usual spelling if `parse_name` can read it; raises ValueError if not."""
    host, port = parse_name(text)
    return f"{host}:{port}"


HostName = Annotated[str, Meta(description='a host name, as in "www.example.com"'), host_name]
NameKey = Annotated[str, Meta(description='a DNS name and a port, as in "edge.example.net:443"'), name_key]
Name = Annotated[
    str, Meta(pattern=rf"^{NAME.pattern}\Z", description="a name in quotes: 1 to 32 of a-z, 0-9 and '-'")
]
Interface = Annotated[
    str, Meta(pattern=r"^[^\s/:]{1,15}\Z", description='the name of an interface, as in "eth0"')
]
Address = Annotated[
    str,
    Meta(description='the IPv4 or IPv6 address of one host, as in "203.0.113.10" or "2001:db8::10"'),
    host_address,
]
EndpointKey = Annotated[
    str,
    Meta(description='an address and a port, as in "198.51.100.10:443" or "[2001:db8::10]:443"'),
    endpoint,
]
Listen = Annotated[
    str,
    Meta(description='an address and a port, as in "127.0.0.1:9469", or "" for none'),
    listen,
]
Prefix = Annotated[
    str,
    Meta(description='a prefix without host bits, as in "10.0.0.0/8" or "2001:db8::/32"'),
    prefix,
]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port: a whole number from 1 to 65535")]
Weight = Annotated[int, Meta(ge=0, le=1000, description="a whole number from 0 to 1000")]
Count = Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")]
Entries = Annotated[int, Meta(ge=1024, le=2**26, description=f"a whole number from 1024 to {2**26}")]
Mss = Annotated[int, Meta(ge=536, le=65495, description="bytes: a whole number from 536 to 65495")]
Seconds = Annotated[float, Meta(gt=0, le=86400, description="seconds: a number above 0, at most 86400")]
Pause = Annotated[float, Meta(ge=0, le=3600, description="seconds: a number from 0 to 3600")]
Lifetime = Annotated[int, Meta(ge=1, le=36000, description="seconds: a whole number from 1 to 36000")]
"""Slots note the time in seconds modulo 65,536."""
Milliseconds = Annotated[
    float, Meta(gt=0, le=60000, description="milliseconds: a number above 0, at most 60000")
]
LEAST_RATE = 0.001
"""The kernel counts in ticks that no slower rate has room in."""
PerSecond = Annotated[
    float, Meta(ge=LEAST_RATE, le=1e9, description=f"a number above 0: from {LEAST_RATE} to 1e9")
]
Mbit = Annotated[
    float, Meta(ge=LEAST_RATE, le=1e6, description=f"Mbit/s, a number above 0: from {LEAST_RATE} to 1e6")
]
