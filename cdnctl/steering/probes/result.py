"""What is asked of an endpoint, and what came of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct

Kind = Literal["tcp", "tls", "http"]
Fault = Literal["", "connect", "tls", "certificate", "answer", "status", "header", "body", "slow"]
"""What went wrong; `slow` is too late, at any step."""

APPLICATION: frozenset[Fault] = frozenset({"tls", "certificate", "answer", "status", "header", "body"})
"""What packets do not show: a server that answers TCP and serves nobody."""


class Probe(Struct, frozen=True, kw_only=True):
    """How an endpoint is asked."""

    kind: Kind = "tcp"
    every_s: float = 5.0
    timeout_s: float = 2.0
    """For all of it."""
    rise: int = 2
    """Good ones in a row that make it well."""
    fall: int = 2
    """Bad ones in a row that make it ill."""
    host: str = ""
    """SNI and Host; empty: the address."""
    path: str = "/"
    status: tuple[int, int] = (200, 399)
    """First and last that are good."""
    header: tuple[str, str] | None = None
    """A header's name, and what has to be in its value."""
    body: str = ""
    """Has to be in the first `BODY_LIMIT` bytes."""
    is_tls: bool = True
    """Of `http`: by https."""
    warn_days: float = 14.0
    """A certificate that ends sooner is warned of."""
    ca_file: str = ""
    """Trusted instead of the system's authorities."""
    ports: tuple[int, int] | None = None
    """First and last source port: apart from those that NAT uses."""


BODY_LIMIT = 65536


class Result(NamedTuple):
    """Of one probe. Times are None where it did not get so far."""

    fault: Fault = ""
    text: str = ""
    """What is wrong, in words."""
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    """From the request to the first byte of the answer."""
    status: int | None = None
    certificate_days: float | None = None
    """Until the certificate ends."""

    @property
    def is_good(self) -> bool:
        """Whether all was as asked."""
        return not self.fault
