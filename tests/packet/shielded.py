"""A data path under a level of the shield, with budgets, keys and a clock that stands still."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from harness import DataPath, Seen, zero
from metered import Clock
from segments import Flag, flags_of, numbers_of, segment
from session import CLIENT, Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Budget, Level, Verdict
from cdnctl.datapath.shield import set_budgets

SECOND_MS = 1000.0
DEAL_NS = 1 << 34
"""So often the places of budgets are dealt anew."""


class Shielded(NamedTuple):
    """The data path and its time."""

    path: DataPath
    clock: Clock

    def level(
        self,
        level: Level,
        budgets: Mapping[Budget, float] | None = None,
        burst_ms: float = 100,
        **fields: int,
    ) -> None:
        """From now on; `budgets` are new flows a second."""
        shield = self.path.tables.shield.now
        shield.level = level
        set_budgets(shield, dict(budgets or {}), burst_ms)
        for name, value in fields.items():
            setattr(shield, name, value)
        self.path.tables.shield.now = shield

    def verified(self) -> set[str]:
        """Addresses of the sources that are, or were."""
        return {abi.show_address(key) for key in self.path.map("verified").keys()}

    def verify(self, address: str) -> None:
        """As if it had proved itself."""
        entry = abi.Verified(until_ns=self.clock.ns + 10**12)
        self.path.map("verified").put(abi.packed(address), bytes(entry))

    def syn(self, client: str = CLIENT, service: str = "solo", **fields: int) -> tuple[Session, Seen]:
        """The SYN of a client that has not been seen yet, and what became of it."""
        session = Session(self.path, service, client=client, isn=random.getrandbits(32), **fields)
        return session, session.syn()

    def opens(self, client: str = CLIENT, service: str = "solo") -> Verdict:
        """What becomes of it."""
        return self.syn(client, service)[1].verdict


def shielded(path: DataPath) -> Shielded:
    """At calm. Places are dealt by a seed that no other test has had."""
    path.change(dark_connects=1_000_000, seed=random.getrandbits(32))
    zero(path.map("budgets"))
    zero(path.map("surges"))
    path.tables.shield.change_key()
    path.tables.shield.change_key()
    clock = Clock(path)
    clock.sleep(((DEAL_NS - clock.ns) % DEAL_NS) / 1e6)  # seventeen seconds before they are dealt again
    return Shielded(path, clock)


def challenge_in(seen: Seen) -> int:
    """The number that the challenge asks for."""
    assert flags_of(seen.frame) == Flag.ACK, seen
    return numbers_of(seen.frame)[1]


def proof(session: Session, number: int, flags: Flag = Flag.RST) -> Seen:
    """A real stack's answer to a challenge (RFC 9293, 3.10.7.3)."""
    return session.path.run(segment(session.client, session.service, flags, seq=number))
