"""The edge's own addresses: a hash, and cells in front of it that answer for most packets.

A cell says what its address is while there is one; with more of them in it, and while it is written, it
says that the hash must be asked. So the hash is written first, and whoever reads sees one or the other.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from functools import reduce
from operator import xor
from pathlib import Path

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

_FACTOR = 0x9E3779B1
_WORDS = struct.Struct("=4I")


def cell_of(key: bytes) -> int:
    """Which cell an address can be in (local_cell_of in bpf/parse.h)."""
    folded: int = reduce(xor, _WORDS.unpack(key))
    return (folded * _FACTOR & 0xFFFF_FFFF) >> (32 - abi.LOCAL_CELLS_LOG)


class LocalAddresses:
    """VIPs and SNAT addresses; keys are packed addresses. Raises OSError."""

    def __init__(self, pins: Path) -> None:
        self._hash = Map.pinned(pins / "local_addresses")
        self._cells = Map.pinned(pins / "local_cells")

    def get(self, key: bytes) -> bytes | None:
        """What an address is (struct local), None when it is nobody's."""
        return self._hash.get(key)

    def put(self, key: bytes, local: abi.Local) -> None:
        """Declare an address ours."""
        self._hash.put(key, bytes(local))
        self._write(cell_of(key))

    def keep(self, wanted: Collection[bytes]) -> None:
        """Disown every other address, and those that only a cell knows: their writer was killed midway."""
        self._hash.delete_all([key for key in self._hash.keys() if key not in wanted])
        for number, raw in enumerate(self._cells.values()):
            if any(raw):
                self._write(number)

    def _write(self, number: int) -> None:
        """A cell as the hash has it."""
        held = [(key, raw) for key, raw in self._hash.items() if cell_of(key) == number]
        cell = abi.LocalCell()
        if len(held) == 1:
            [(key, raw)] = held
            local = abi.Local.from_buffer_copy(raw)
            cell = abi.LocalCell(abi.Address.from_buffer_copy(key), local.kind, local.index)
        elif held:
            cell.kind = abi.LocalKind.CROWDED
        before = abi.LocalCell.from_buffer_copy(self._cells.get(abi.key(number)) or b"")
        if bytes(before) == bytes(cell):
            return
        # A writer and a reader at once: whatever else is written, the reader asks the hash meanwhile. One
        # that has read the kind just before finds the address as it was, or not its own.
        for address, index in ((before.address, before.index), (cell.address, cell.index)):
            busy = abi.LocalCell(address, abi.LocalKind.CROWDED, index)
            self._cells.put(abi.key(number), bytes(busy))
        self._cells.put(abi.key(number), bytes(cell))
