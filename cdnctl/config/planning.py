"""The tables of the planner: how it moves, how endpoints are asked, what comes from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from cdnctl.config.table import Table
from cdnctl.config.values import HostName, Name, NameKey, Port, parse_name

PlannerMode = Literal["off", "observe", "on"]
ProbeKind = Literal["tcp", "tls", "http", "https"]

MAX_FEEDS = 32
MAX_NAMES = 8
"""DNS names of one CDN."""

Often = Annotated[float, Meta(ge=0.5, le=86400, description="seconds: a number from 0.5 to 86400")]
Timeout = Annotated[float, Meta(ge=0.05, le=60, description="seconds: a number from 0.05 to 60")]
Rarely = Annotated[float, Meta(ge=1, le=30 * 86400, description="seconds: a number from 1 to 2592000")]
Part = Annotated[float, Meta(gt=0, le=1, description="a share: a number above 0, at most 1")]
InARow = Annotated[int, Meta(ge=1, le=20, description="a whole number from 1 to 20")]
Status = Annotated[int, Meta(ge=100, le=599, description="a status of HTTP: from 100 to 599")]
Text = Annotated[str, Meta(max_length=500, description="a text of at most 500 characters")]
Days = Annotated[float, Meta(ge=0, le=3650, description="days: a number from 0 to 3650")]
Price = Annotated[float, Meta(gt=0, le=1e6, description="a price: a number above 0, at most 1e6")]


class PlannerConfig(Table, frozen=True, kw_only=True):
    """`[planner]`: what moves weights by itself, beyond the kernel's reflex."""

    mode: Annotated[PlannerMode, Meta(description='"off", "observe" or "on"')] = "observe"
    """`observe`: it plans, and says what it would do, but moves nothing. `cdnctl planner` overlays it."""
    step: Annotated[float, Meta(gt=0, le=0.5, description="a share: above 0, at most 0.5")] = 0.1
    """Of all new flows, the most that a round moves."""
    most_moved: Annotated[float, Meta(gt=0, le=0.5, description="a share: above 0, at most 0.5")] = 0.5
    """Of all weight, no more is ever moved away, and no more is left for what probes say."""
    horizon_s: Rarely = 1800.0
    """A peak that is predicted within so long is made room for."""


class HeaderConfig(Table, frozen=True, kw_only=True):
    """`probe.header`: what an answer has to have."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z", description='as in "X-Cache"')]
    has: Text


class ProbeConfig(Table, frozen=True, kw_only=True):
    """`cdn.probe`, and `probe` of an endpoint: how it is asked whether it serves."""

    shorthand: ClassVar[str] = "kind"

    kind: Annotated[ProbeKind, Meta(description='"tcp", "tls", "http" or "https"')]
    port: Port | None = None
    """None: the endpoint's own."""
    every_s: Often = 5.0
    timeout_s: Timeout = 2.0
    """For all of it."""
    rise: InARow = 2
    """Good ones in a row that make it well."""
    fall: InARow = 2
    """Bad ones in a row that make it ill; after the first the next come sooner."""
    host: Annotated[HostName | None, Meta(description='a host name, as in "www.example.com"')] = None
    """SNI and Host; None: the endpoint's own name, or its address."""
    path: Annotated[str, Meta(pattern=r"^/[!-~]*\Z", description='a path, as in "/health"')] = "/"
    status: Annotated[
        tuple[Status, Status], Meta(description="the first and the last that is good, as in [200, 399]")
    ] = (200, 399)
    header: Annotated[
        HeaderConfig | None, Meta(description='a table, as in { name = "X-Cache", has = "HIT" }')
    ] = None
    body: Text = ""
    """Has to be in the first 64 KiB of the answer."""
    warn_days: Days = 14.0
    """A certificate that ends sooner is warned of."""
    ca_file: Text = ""
    """Trusted instead of the system's authorities."""


class NameConfig(Table, frozen=True, kw_only=True):
    """A member of `cdn.names`; a name and port alone will do."""

    shorthand: ClassVar[str] = "name"

    name: NameKey
    regions: Annotated[tuple[Name, ...], Meta(description="a list of names of regions")] = ()
    most: Annotated[int, Meta(ge=1, le=16, description="a whole number from 1 to 16")] = 4
    """So many of its addresses are used, of either family, the quickest first."""

    @property
    def host(self) -> str:
        """The name without the port."""
        return parse_name(self.name)[0]

    @property
    def port(self) -> int:
        """The port."""
        return parse_name(self.name)[1]


class DnsConfig(Table, frozen=True, kw_only=True):
    """`[dns]`: how names of endpoints are asked for."""

    servers: Annotated[
        tuple[Annotated[str, Meta(description="the address of a name server")], ...],
        Meta(max_length=4, description="a list of at most 4 addresses"),
    ] = ()
    """None named: those of this box."""
    port: Port = 53


class FeedConfig(Table, frozen=True, kw_only=True):
    """`[[feed]]`: a list from outside, of whom to block or of a provider's own ranges."""

    name: Name
    source: Annotated[str, Meta(min_length=1, max_length=2000, description="a file, or an URL")]
    kind: Annotated[Literal["blocks", "ranges"], Meta(description='"blocks" or "ranges"')] = "blocks"
    """`ranges`: a provider's own, which no block may cover."""
    cdn: Name | None = None
    """Whose ranges they are."""
    every_s: Rarely = 3600.0
    shrinks_to: Part = 0.5
    """A list that has less than this part of its last good version is refused."""

    def place(self, config: Path) -> str:
        """The URL, or the file, as seen from the configuration's directory."""
        return self.source if "://" in self.source else str(config.parent / self.source)


__all__ = [
    "MAX_FEEDS",
    "MAX_NAMES",
    "DnsConfig",
    "FeedConfig",
    "HeaderConfig",
    "NameConfig",
    "PlannerConfig",
    "PlannerMode",
    "Price",
    "ProbeConfig",
    "ProbeKind",
]
