"""What the kernel asks of new flows under attack: level, budgets, keys of cookies, ports of amplifiers."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from cdnctl.datapath import abi
from cdnctl.datapath.abi.values import ticks
from cdnctl.datapath.kernel import Map


class ShieldTables:
    """Raises OSError when a pin is missing."""

    def __init__(self, pins: Path) -> None:
        self._shields = Map.pinned(pins / "shields")
        self._amplifiers = Map.pinned(pins / "amplifiers")

    @property
    def now(self) -> abi.Shield:
        """A copy; assign it back to put it into force."""
        return abi.Shield.from_buffer_copy(self._shields.get(abi.key(0)) or bytes(abi.size(abi.Shield)))

    @now.setter
    def now(self, shield: abi.Shield) -> None:
        self._shields.put(abi.key(0), bytes(shield))

    def change_key(self) -> None:
        """Cookies get another key; those of the one before are good until the next change.

        The key first, and then that it is used: whoever reads in between has one that was whole.
        """
        shield = self.now
        other = 1 - (shield.key_now & 1)
        for word in range(2):
            shield.key[other][word] = secrets.randbits(64)
        self.now = shield
        shield.key_now = other
        self.now = shield

    @property
    def has_keys(self) -> bool:
        """Whether any was ever made."""
        shield = self.now
        return any(shield.key[shield.key_now & 1])

    def set_amplifiers(self, ports: Iterable[int]) -> None:
        """Nobody opens a UDP flow from these, and from any other port."""
        words = [0] * abi.PORT_WORDS
        for port in ports:
            words[port // 64] |= 1 << port % 64
        held = self._amplifiers.values()
        for number, word in enumerate(words):
            raw = struct.pack("Q", word)
            if held[number] != raw:
                self._amplifiers.put(abi.key(number), raw)


def set_budgets(shield: abi.Shield, flows_per_s: Mapping[abi.Budget, float], burst_ms: float) -> None:
    """New flows a second, of each source or prefix that a budget is for; not there: as many as come."""
    for budget in abi.Budget:
        shield.ticks[budget] = ticks(flows_per_s.get(budget))
    shield.burst_ticks = round(abi.TICKS_PER_NS * 1e6 * burst_ms)


def set_pending(shield: abi.Shield, flows_per_s: float | None, at_once: int) -> None:
    """Connections of a verified source that do not come about: so many a second, and at once."""
    shield.pending_ticks = ticks(flows_per_s)
    shield.pending_burst_ticks = shield.pending_ticks * at_once


def set_allowance(shield: abi.Shield, flows_per_s: float | None) -> None:
    """New flows a second, of TCP and of UDP, that are no surge yet; None: there is none."""
    shield.surge_ticks = ticks(flows_per_s)
