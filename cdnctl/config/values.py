"""What single values of the file may be: types with the words to say when a value is something else."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from msgspec import Meta

from cdnctl.paths import NAME


def host_address(text: str) -> str:
    """`text` if it is an IPv4 address that one host may have; raises ValueError if not."""
    address = ipaddress.IPv4Address(text)
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        raise ValueError(f"{text} is no address of one host")
    return text


def prefix(text: str) -> str:
    """`text` if it is an IPv4 prefix without host bits; raises ValueError if not."""
    ipaddress.IPv4Network(text)
    return text


def parse_endpoint(text: str) -> tuple[str, int]:
    """`"198.51.100.10:443"` as address and port; raises ValueError."""
    address, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and str(int(port)) == port and 1 <= int(port) <= 65535):
        raise ValueError(f"{text!r} is no address with a port")
    return host_address(address), int(port)


def endpoint(text: str) -> str:
    """`text` if `parse_endpoint` can read it; raises ValueError if not."""
    parse_endpoint(text)
    return text


Name = Annotated[
    str, Meta(pattern=rf"^{NAME.pattern}\Z", description="a name in quotes: 1 to 32 of a-z, 0-9 and '-'")
]
Interface = Annotated[
    str, Meta(pattern=r"^[^\s/:]{1,15}\Z", description='the name of an interface, as in "eth0"')
]
Address = Annotated[str, Meta(description='the IPv4 address of one host, as in "203.0.113.10"'), host_address]
EndpointKey = Annotated[
    str, Meta(description='an IPv4 address and a port, as in "198.51.100.10:443"'), endpoint
]
Prefix = Annotated[
    str,
    Meta(description='an IPv4 prefix without host bits, as in "10.0.0.0/8" (IPv6 passes the edge untouched)'),
    prefix,
]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port: a whole number from 1 to 65535")]
Weight = Annotated[int, Meta(ge=0, le=1000, description="a whole number from 0 to 1000")]
Count = Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")]
Entries = Annotated[int, Meta(ge=1024, le=2**26, description=f"a whole number from 1024 to {2**26}")]
Seconds = Annotated[float, Meta(gt=0, le=86400, description="seconds: a number above 0, at most 86400")]
Milliseconds = Annotated[
    float, Meta(gt=0, le=60000, description="milliseconds: a number above 0, at most 60000")
]
