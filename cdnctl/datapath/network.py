"""What redirected packets need of the host: forwarding on the ingress interfaces.

`bpf_fib_lookup` refuses while forwarding is off on the interface a packet came in by. So it is switched
on where the program is attached, and back to what it was when it is detached; of IPv6 only where there
are services of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

import msgspec

from cdnctl.errors import CdnctlError
from cdnctl.state.files import replace

_NET = Path("/proc/sys/net")
_ROUTES6 = Path("/proc/thread-self/net/ipv6_route")
_DEFAULT_OF_ADVERTISEMENT = 0x0001_0000 | 0x0004_0000  # RTF_DEFAULT, RTF_ADDRCONF


def _switch(family: str, interface: str) -> Path:
    return _NET / family / "conf" / interface / "forwarding"


class Forwarding:
    """Switches forwarding on, interface by interface, and remembers what was."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._before: dict[str, str] = {}
        """By interface, and for IPv6 by `ipv6/` and the interface."""
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            self._before = msgspec.json.decode(record.read_bytes(), type=dict[str, str])

    def enable(self, interface: str, *, ipv6: bool = False) -> list[str]:
        """What this changed, a sentence each, none if nothing. Raises OSError or CdnctlError."""
        said = []
        if self._enable("ipv4", interface):
            said.append(f"IPv4 forwarding was off on {interface}: switched on, for translated packets")
        if not ipv6:
            return said
        if not _switch("ipv6", interface).exists():
            raise CdnctlError(
                f"there are IPv6 services, but IPv6 is off on {interface}",
                "switch it on: net.ipv6.conf, or ipv6.disable at boot; an MTU below 1280 switches it off too",
            )
        lost = _advertised_default(interface)  # asked before it is gone
        if self._enable("ipv6", interface):
            said.append(f"IPv6 forwarding was off on {interface}: switched on, for translated packets")
            if lost:
                said.append(
                    f"a router forgets default routes from router advertisements, and {interface} had one:"
                    f" `sysctl net.ipv6.conf.{interface}.accept_ra=2` keeps them, or set a static one"
                )
        return said

    def _enable(self, family: str, interface: str) -> bool:
        switch = _switch(family, interface)
        before = switch.read_text().strip()
        if before == "1":
            return False
        self._before.setdefault(interface if family == "ipv4" else f"{family}/{interface}", before)
        self._record.parent.mkdir(parents=True, exist_ok=True)
        replace(self._record, msgspec.json.encode(self._before))
        switch.write_text("1")
        return True

    def restore(self, only: Collection[str] | None = None) -> None:
        """Back to what was before the first `enable`, over restarts; of all interfaces or `only` some."""
        for key in list(self._before):
            family, _, interface = key.rpartition("/")
            if only is None or interface in only:
                with contextlib.suppress(OSError):
                    _switch(family or "ipv4", interface).write_text(self._before[key])
                del self._before[key]
        if self._before:
            replace(self._record, msgspec.json.encode(self._before))
        else:
            self._record.unlink(missing_ok=True)


def _advertised_default(interface: str) -> bool:
    """Whether a default route of a router advertisement would go with forwarding."""
    with contextlib.suppress(OSError):
        if (_NET / "ipv6" / "conf" / interface / "accept_ra").read_text().strip() != "1":
            return False
        for line in _ROUTES6.read_text().splitlines():
            fields = line.split()
            flags = int(fields[8], 16)
            if fields[9] == interface and flags & _DEFAULT_OF_ADVERTISEMENT == _DEFAULT_OF_ADVERTISEMENT:
                return True
    return False
