"""What is known of clients by their prefixes: whose customers they are, in which region, and the limits."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

_FULL = (errno.ENOSPC, errno.E2BIG)


class Client(NamedTuple):
    """What holds for a prefix, whatever shorter ones say."""

    customer: int = 0
    """0: nobody in particular."""
    region: int = 0
    """0: everywhere."""
    flags: abi.ClientFlag = abi.ClientFlag(0)


class Clients:
    """Raises OSError when a pin is missing: then no data path is loaded."""

    def __init__(self, pins: Path) -> None:
        self._clients = Map.pinned(pins / "clients")
        self._allowed = Map.pinned(pins / "allowed_prefixes")
        self._limits = Map.pinned(pins / "customer_limits")
        self._meters = Map.pinned(pins / "meters")

    def load(self, wanted: Mapping[abi.AnyNetwork, Client]) -> bool:
        """Have exactly these prefixes, with as few writes as can be; whether there were any.

        The longest prefix of a client holds, and alone: what it should have of shorter ones must be in
        it. What is new comes before what is old goes. Raises OSError.
        """
        entries = {abi.prefix_key(network): _entry(client) for network, client in wanted.items()}
        held = dict(self._clients.items())
        changed = {key: value for key, value in entries.items() if held.get(key) != value}
        gone = held.keys() - entries.keys()
        # too many for a moment: at worst a packet looks in vain
        self._allow(max(self._allowed_count(), _allowed_of(entries)))
        try:
            self._clients.put_all(changed)
        except OSError as error:
            if error.errno not in _FULL or not gone:
                raise
            self._clients.delete_all(gone)
            self._clients.put_all(changed)
        else:
            self._clients.delete_all(gone)
        self._allow(_allowed_of(entries))
        return bool(changed or gone)

    def _allowed_count(self) -> int:
        return int.from_bytes(self._allowed.get(abi.key(0)) or b"", "little")

    def _allow(self, prefixes: int) -> None:
        if prefixes != self._allowed_count():
            self._allowed.put(abi.key(0), prefixes.to_bytes(4, "little"))

    def held(self) -> dict[abi.AnyNetwork, Client]:
        """What the kernel has."""
        return {abi.network(key): _client(value) for key, value in self._clients.items()}

    def covering(self, address: str) -> tuple[abi.AnyNetwork, Client] | None:
        """The longest prefix around an address, and what is known by it."""
        wanted = int.from_bytes(abi.packed(address), "big")
        longest, found = -1, None
        for key, value in self._clients.items():
            (length,) = struct.unpack_from("=I", key)
            rest = 128 - length
            if length > longest and int.from_bytes(key[4:20], "big") >> rest == wanted >> rest:
                longest, found = length, (key, value)
        return (abi.network(found[0]), _client(found[1])) if found else None

    def limit(self, customer: int) -> abi.Limit:
        """What a customer may take; zeros: as much as it likes."""
        return abi.Limit.from_buffer_copy(self._limits.get(abi.key(customer)) or bytes(abi.size(abi.Limit)))

    def set_limits(self, limits: Mapping[int, abi.Limit]) -> None:
        """Limits of customers by number; of all others, none.

        Under a new limit nothing has been used up yet: what was, by the old one, may take long to be over.
        """
        nothing = bytes(abi.size(abi.Limit))
        for number, held in enumerate(self._limits.values()):
            wanted = bytes(limits[number]) if number in limits else nothing
            if wanted != held:
                self._limits.put(abi.key(number), wanted)
                self._meters.put(abi.key(number), bytes(abi.size(abi.Meter)))


def _client(raw: bytes) -> Client:
    entry = abi.Client.from_buffer_copy(raw)
    return Client(entry.customer, entry.region, abi.ClientFlag(entry.flags))


def _allowed_of(entries: Mapping[bytes, bytes]) -> int:
    return sum(bool(_client(raw).flags & abi.ClientFlag.ALLOWED) for raw in entries.values())


def _entry(client: Client) -> bytes:
    return bytes(abi.Client(customer=client.customer, region=client.region, flags=client.flags))
