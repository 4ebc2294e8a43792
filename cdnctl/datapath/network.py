"""What redirected packets need of the host: forwarding on the ingress interfaces.

`bpf_fib_lookup` refuses while forwarding is off on the interface a packet came in by. So it is switched
on where the program is attached, and back to what it was when it is detached.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

import msgspec

from cdnctl.state import replace

_CONF = Path("/proc/sys/net/ipv4/conf")


class Forwarding:
    """Switches IPv4 forwarding on, interface by interface, and remembers what was."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._before: dict[str, str] = {}
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            self._before = msgspec.json.decode(record.read_bytes(), type=dict[str, str])

    def enable(self, interface: str) -> bool:
        """Whether this changed anything. Raises OSError."""
        switch = _CONF / interface / "forwarding"
        before = switch.read_text().strip()
        if before == "1":
            return False
        self._before.setdefault(interface, before)
        self._record.parent.mkdir(parents=True, exist_ok=True)
        replace(self._record, msgspec.json.encode(self._before))
        switch.write_text("1")
        return True

    def restore(self, only: Collection[str] | None = None) -> None:
        """Back to what was before the first `enable`, over restarts; of all interfaces or `only` some."""
        for interface in [name for name in self._before if only is None or name in only]:
            with contextlib.suppress(OSError):
                (_CONF / interface / "forwarding").write_text(self._before[interface])
            del self._before[interface]
        if self._before:
            replace(self._record, msgspec.json.encode(self._before))
        else:
            self._record.unlink(missing_ok=True)
