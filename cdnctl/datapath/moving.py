"""Everything that an edge's tables hold, moved into tables of another layout, under traffic.

    fill       all of it, again and again until little has changed; takes its time, and nobody waits
    refresh    what operators and agents write, again
    swapping   flows are held (hold.py): none begins, changes or ends; what has changed last is copied, and
               the programs are swapped; then flows are let go

So both tables say the same while some interfaces have the old program and some the new one, and no port can
be given to two. The price is that SYNs, FINs and resets, and datagrams of flows that were not answered yet,
are dropped meanwhile: for some hundredths of a second and what the drivers take, once for each move. TCP
sends them again; a client whose SYN it was waits for a second. Packets of established flows all pass.

What fails before the swap leaves the old tables in force. After it there is no way back, and none is needed:
all that is left to do is counting.

A flow whose SNAT address or port is no more is cut, and counted.
"""

from __future__ import annotations

import contextlib
import errno
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from cdnctl.config import Config
from cdnctl.datapath import abi, kernel
from cdnctl.datapath.counters import Counters
from cdnctl.datapath.hold import SETTLED_S, Hold
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.lines import Addresses
from cdnctl.datapath.numbering import Numbering
from cdnctl.datapath.program import Program, note_moved
from cdnctl.datapath.tables import Tables
from cdnctl.datapath.transfer import FLEETING, LASTING, Cut, Transfer
from cdnctl.errors import CdnctlError

WRITTEN = (
    "mode", "settings", "shields", "amplifiers", "local_addresses", "local_cells", "link_ids", "links",
    "service_ids", "services", "picks", "capacities", "customer_limits", "allowed_prefixes", "clients",
    "management", "announced", "invited", "models",
)  # fmt: skip
"""Tables of the agent's, small enough to be copied again at once."""
BLOCKS = ("block_bits", "block6_bits", "block_wide", "block_prefix")
"""With single addresses (datapath/lines.py) maybe large; the agent makes them exact afterwards."""
BLOCKED = ("block_lines", "block_hits", "block_exact")
BY_ENDPOINT = ("endpoints", "health")
"""Arrays by an endpoint's number; `endpoint_ids` leads there."""
LEARNED = ("heard_of", "weight_out", "loads", "meters", "sources", "verified", "manners", "sweeps")
"""What the kernel found out: a moment of it may be lost."""
COUNTED = (*(name for name, _ in abi.Counted._fields_), "counted_before")
"""Totals: none may be lost."""
FLOWS = (*FLEETING, *LASTING, "reverse", "fragments")
"""Of clients and CDNs."""
QUIC = ("quic_ids", "quic_offers")
"""Connections' ids, which lead to an endpoint."""
NOT_MOVED = ("identity", "held_until", "hops", "sketches", "budgets", "retries", "surges", "census")
"""What a table is, and what is found out anew in no time, or lives for seconds."""

CUT = "flows were cut: their SNAT address or port, or the room for their endpoint, is no more"
_FULL = (errno.E2BIG, errno.ENOSPC)
_LITTLE = 64
"""So many changes are copied in a few milliseconds."""
_ROUNDS = 6
_TRIES = 3


def begin(program: Program, config: Config) -> Move | None:
    """What is to be done before a prepared program can be attached, if there is anything."""
    if program.before is None:
        return None
    return Move(program.before, program.pins, Numbering.planned(Tables(program.before), config))


class Move:
    """From the tables pinned in `before` to those in `after`; one use."""

    def __init__(self, before: Path, after: Path, numbering: Numbering) -> None:
        self._before, self._after = before, after
        self._numbering = numbering
        self._transfer = Transfer(before, after, numbering)
        self._mode = abi.Mode(0)
        """The old tables', before it was copied."""
        self._held_ns = 0
        """Since then both tables say the same."""
        self.cut = 0
        """Flows that were open, and are cut."""
        self.warnings: list[str] = []
        """What went wrong after the swap."""

    # -- beforehand --

    def fill(self) -> None:
        """Copy all, and then what changes meanwhile."""
        for name in BLOCKS:
            self._copy(name)
        Addresses(self._after).copy_from(Addresses(self._before))
        for name in QUIC:
            self._copy_ids(name)
        self._transfer.fill()
        for _ in range(_ROUNDS):
            if self._transfer.catch_up() <= _LITTLE:
                break

    def refresh(self) -> None:
        """Copy what the agent wrote and the kernel learned; from now on the agent writes the new ones."""
        self._mode = Tables(self._before).mode
        for name in (*WRITTEN, *LEARNED):
            self._copy(name)
        self._copy_endpoints()
        self._count_on()

    def told(self) -> list[str]:
        """What an operator should know of it, once it is over."""
        return ([f"{self.cut} {CUT}"] if self.cut else []) + self.warnings

    # -- the swap --

    @contextlib.contextmanager
    def swapping(self) -> Iterator[None]:
        """Within this block the programs are swapped. When it fails all is as it was."""
        hold = Hold((self._before, self._after))
        self._transfer.catch_up()
        try:
            self._copy_last(hold)
            yield
        except BaseException:
            let_go(hold, self._before)
            raise
        try:
            self._finish(hold)
        except (OSError, CdnctlError) as error:
            self.warnings.append(f"the new tables are in force, but something was not copied: {error}")

    def _copy_last(self, hold: Hold) -> None:
        """What changed until now; in the time that is held, or nothing is exact."""
        for _ in range(_TRIES):
            hold.begin()
            self._held_ns = time.monotonic_ns()
            self._transfer.catch_up()
            if self._numbering.is_same:  # they live for seconds
                self._copy("fragments")
            if not hold.has_lapsed:
                break
        else:
            raise CdnctlError(
                "flows change faster than they can be moved", "try again when there is less traffic"
            )
        self._transfer.excuse()
        self._cut(self._transfer.cut())
        note_moved(self._after, self._held_ns)
        if hold.has_lapsed:
            raise CdnctlError("there is too much to be cut in one go", "take SNAT addresses off one by one")
        hold.extend()

    def _finish(self, hold: Hold) -> None:
        """The swap is over; the old program may have begun with a packet that it is not done with."""
        try:
            if hold.has_lapsed:  # drivers took their time, and flows began on both sides
                hold.begin()
                self._cut(self._transfer.merge(self._held_ns))
        finally:
            let_go(hold, self._after)
        time.sleep(SETTLED_S)
        self._count_on()
        follow_mode(Tables(self._before), Tables(self._after), self._mode)
        for name in QUIC:
            self._copy_ids(name)

    # -- tables --

    def _copy(self, name: str) -> None:
        """As it is, as far as there is room."""
        old, new = self._pair(name)
        try:
            for count, keys, values in old.batches():
                new.put_batch(count, keys, values)
        except OSError as error:
            if error.errno in kernel.NO_BATCHES:
                new.put_all(dict(old.items()))
            elif error.errno not in _FULL:
                raise

    def _copy_endpoints(self) -> None:
        numbers = self._numbering.endpoints
        old, new = self._pair("endpoint_ids")
        held = ((key, numbers.get(int.from_bytes(value, "little"))) for key, value in old.items())
        new.put_all({key: abi.key(number) for key, number in held if number is not None})
        for name in BY_ENDPOINT:
            old, new = self._pair(name)
            values = old.values()
            new.put_all({abi.key(number): values[before] for before, number in numbers.items()})

    def _copy_ids(self, name: str) -> None:
        """They lead to a place: an endpoint's number below a mark of its address (place_of() in quic.h)."""
        numbers = self._numbering.endpoints
        old, new = self._pair(name)
        size = old.info.key_size
        for count, keys, values in old.batches():
            places = array("I", values)
            if not self._numbering.is_same:
                kept = [n for n in range(count) if places[n] & 0xFFFF in numbers]
                keys = b"".join(keys[n * size : (n + 1) * size] for n in kept)
                places = array("I", (places[n] & ~0xFFFF | numbers[places[n] & 0xFFFF] for n in kept))
            if places:
                new.put_batch(len(places), keys, places.tobytes())

    def _count_on(self) -> None:
        Counters(self._after).follow(Counters(self._before))

    def _cut(self, cut: Cut) -> None:
        self.cut += cut.flows
        cut.count(Counters(self._after))

    def _pair(self, name: str) -> tuple[Map, Map]:
        return Map.pinned(self._before / name), Map.pinned(self._after / name)


def let_go(hold: Hold, home: Path) -> None:
    """Go on in these tables. Answers were held too: that an endpoint was silent meanwhile says nothing."""
    try:
        tables = Tables(home)
        for number in tables.choice.endpoints().values():
            health = tables.health(number)
            if health.unanswered:
                health.unanswered = 0
                tables.put_health(number, health)
    finally:
        hold.end(home)


def follow_mode(old: Tables, new: Tables, before: abi.Mode) -> None:
    """What operators switched past the agent, in the old tables only, since it was as `before`."""
    if (mode := old.mode) != before:
        new.mode = mode
