"""What the kernel holds against what is wanted, by configuration and operators: `diff`; `repair` makes it so.

Both directions are looked at: what is wanted and not there, and what is there and not wanted.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from cdnctl.config import CLASSES
from cdnctl.datapath import abi
from cdnctl.datapath.blocks import Differences
from cdnctl.defence.blocklist import show_prefix
from cdnctl.engine import clients, objects, steering
from cdnctl.model import Diff, Difference, Outcome, Repair

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

SHOWN = 20
"""Of one kind; of more the last line says how many."""
_NONE = "nothing"


class Drift:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def diff(self, _command: Diff) -> Outcome:
        """All differences."""
        return self._told(self.look(self._engine.blocks.differences()))

    async def diff_aside(self, _command: Diff) -> Outcome:
        """The same, while frames and commands go on: a million blocks are compared by a thread."""
        return self._told(self.look(await self._blocks_aside()))

    def repair(self, command: Repair) -> Outcome:
        """Make the kernel as it is wanted; what was different before."""
        blocks = self._engine.blocks.differences()
        found = self.look(blocks)
        if command.dry_run or not found:
            return _planned(found)
        for _ in self._mend(blocks):
            pass
        return self._repaired(found, self._engine.blocks.differences())

    async def repair_aside(self, command: Repair) -> Outcome:
        """The same, a step at a time."""
        blocks = await self._blocks_aside()
        found = self.look(blocks)
        if command.dry_run or not found:
            return _planned(found)
        for _ in self._mend(blocks):
            await asyncio.sleep(0)
        return self._repaired(found, await self._blocks_aside())

    def _mend(self, blocks: Differences) -> Iterator[None]:
        engine = self._engine
        objects.put(engine, {objects.switch(name): wanted for name, wanted in _switches(engine)})
        engine.tables.choice.reread()
        yield from engine.blocks.mend(blocks)
        engine.put_config()
        if not engine.state.detached:
            engine.attach_all()

    def _repaired(self, found: list[Difference], blocks: Differences) -> Outcome:
        applied_ns = time.monotonic_ns()
        left = self.look(blocks)
        return Outcome(
            ok=True,
            text=f"repaired {_counted(found)}",
            applied_monotonic_ns=applied_ns,
            differences=found,
            warnings=[f"{each.what} {each.name} is {each.found} still, not {each.wanted}" for each in left],
        )

    async def _blocks_aside(self) -> Differences:
        blocks = self._engine.blocks
        found = await asyncio.to_thread(blocks.differences, blocks.wanted.held())
        return blocks.still(found)

    def _told(self, found: list[Difference]) -> Outcome:
        text = f"{len(found)} differences" if len(found) > 1 else "1 difference" if found else "no difference"
        return Outcome(ok=True, text=text, differences=found, state_version=self._engine.state.revision)

    def look(self, blocks: Differences) -> list[Difference]:
        """All there are, `blocks` among them, those that matter most first."""
        before = (
            self._of_switches,
            self._of_shield,
            self._of_door,
            self._of_announced,
            self._of_interfaces,
            self._of_endpoints,
            self._of_services,
        )
        after = self._of_limits, self._of_clients, self._of_neighbours
        found = [each for part in before for each in _few(list(part()))]
        found += _of_blocks(blocks)
        return found + [each for part in after for each in _few(list(part()))]

    def _of_switches(self) -> Iterator[Difference]:
        for name, wanted in _switches(self._engine):
            found = objects.read(self._engine, objects.switch(name))
            yield from _differ("switch", name, _yes(wanted), _yes(found))

    def _of_shield(self) -> Iterator[Difference]:
        for name, wanted, found in self._engine.shielding.differences():
            yield Difference(what="shield", name=name, wanted=wanted, found=found)
        for name, wanted, found in self._engine.suspecting.differences():
            yield Difference(what="model", name=name, wanted=wanted, found=found)

    def _of_door(self) -> Iterator[Difference]:
        for name, wanted, found in self._engine.door.differences():
            yield Difference(what="door", name=name, wanted=wanted, found=found)

    def _of_announced(self) -> Iterator[Difference]:
        for name, wanted, found in self._engine.announced.differences():
            yield Difference(what="announced", name=name, wanted=wanted, found=found)

    def _of_interfaces(self) -> Iterator[Difference]:
        engine = self._engine
        live = engine.attachment.live_interfaces()
        for name in engine.config.edge.interfaces:
            wanted = "detached" if engine.state.detached else "attached"
            yield from _differ("interface", name, wanted, "attached" if name in live else "detached")

    def _of_endpoints(self) -> Iterator[Difference]:
        engine = self._engine
        steered = engine.steering()
        weights = steering.split(engine.layout, steered.weights, steered.drained, steered.ill).weights
        known, choice = engine.tables.choice.endpoints(), engine.tables.choice
        for place in engine.layout.endpoints:
            wanted = f"number {place.id} of {place.cdn} with weight {weights[place.id]}"
            number = known.get(place.kernel_key)
            found = _NONE
            if number is not None:
                entry = choice.endpoint(number)
                names = {identity: name for name, identity in engine.layout.cdns.items()}
                found = f"number {number} of {names.get(entry.cdn, 'nobody')} with weight {entry.weight}"
            yield from _differ("endpoint", str(place.kernel_key), wanted, found)
        for key, number in known.items():
            if number not in weights and (weight := choice.endpoint(number).weight):
                yield Difference(what="endpoint", name=str(key), wanted="no weight", found=f"weight {weight}")

    def _of_services(self) -> Iterator[Difference]:
        engine, choice = self._engine, self._engine.tables.choice
        known = choice.services()
        held: dict[int, array[int]] = {}
        for place, rows in engine.pick_rows():
            number = known.get(place.kernel_key)
            if number != place.id:
                found = _NONE if number is None else f"number {number}"
                yield from _differ("service", place.name, f"number {place.id}", found)
                continue
            entry = choice.service(number)
            wrong = []
            for region, row in enumerate(rows):
                for column, content in enumerate(row):
                    table = entry.table[region][column]
                    if table not in held:
                        held[table] = choice.picks(table)
                    filled = held[table][: len(content)] == content
                    if not filled or any(slot != abi.NOWHERE for slot in held[table][len(content) :]):
                        wrong.append(CLASSES[column])
            if wrong:
                kinds = ", ".join(dict.fromkeys(wrong))
                name = f"{place.name} ({place.kernel_key})"
                yield Difference(
                    what="service", name=name, wanted="its pick tables", found=f"others, of {kinds}"
                )
        wanted_keys = {place.kernel_key for place in engine.layout.services}
        for key in known.keys() - wanted_keys:
            yield Difference(what="service", name=str(key), wanted=_NONE, found="reached by clients")

    def _of_limits(self) -> Iterator[Difference]:
        engine = self._engine
        wanted = clients.kernel_limits(engine.config, engine.layout, engine.state.limits)
        for name, number in engine.layout.customers.items():
            limit = wanted.get(number, abi.Limit())
            found = engine.tables.clients.limit(number)
            if bytes(limit) != bytes(found):
                yield Difference(what="limit", name=name, wanted=_rates(limit), found=_rates(found))

    def _of_clients(self) -> Iterator[Difference]:
        engine = self._engine
        allowed = [each.prefix for each in engine.state.allowed]
        wanted, held = clients.merge(engine.config, engine.layout, allowed), engine.tables.clients.held()
        for network in sorted(wanted.keys() | held.keys(), key=str):
            this, that = wanted.get(network), held.get(network)
            yield from _differ("client", show_prefix(network), _said(this), _said(that))

    def _of_neighbours(self) -> Iterator[Difference]:
        if self._engine.state.detached:
            return
        for hop, found in self._engine.neighbours.missing():
            yield Difference(what="neighbour", name=hop, wanted="kept resolved by the kernel", found=found)


def _switches(engine: Engine) -> tuple[tuple[str, bool], ...]:
    return (("armed", engine.state.armed), ("observing", engine.state.observing))


def _differ(what: str, name: str, wanted: str, found: str) -> Iterator[Difference]:
    if wanted != found:
        yield Difference(what=what, name=name, wanted=wanted, found=found)


def _planned(found: list[Difference]) -> Outcome:
    if not found:
        said = "nothing is to be repaired: the kernel holds what is wanted"
        return Outcome(ok=True, text=said, differences=[])
    return Outcome(ok=True, text=f"would repair {_counted(found)}", differences=found)


def _counted(found: list[Difference]) -> str:
    many = "s" if len(found) > 1 else ""
    return f"{len(found)} difference{many}, as `{found[0].what} {found[0].name}`"


def _of_blocks(blocks: Differences) -> list[Difference]:
    """No more of them are put into words than are shown: there may be a million."""
    words = (
        ("blocked", "not enforced"),
        ("not blocked", "enforced"),
        ("blocked", "enforced until another time"),
    )
    rows = (
        Difference(what="block", name=show_prefix(network), wanted=wanted, found=found)
        for networks, (wanted, found) in zip(blocks, words, strict=True)
        for network in networks
    )
    return _shortened(list(islice(rows, SHOWN)), sum(map(len, blocks)))


def _few(found: list[Difference]) -> list[Difference]:
    return _shortened(found[:SHOWN], len(found))


def _shortened(found: list[Difference], count: int) -> list[Difference]:
    """With a line for those that are not shown."""
    if count <= len(found):
        return found
    more = f"and {count - SHOWN} more"
    return [*found, Difference(what=found[0].what, name=more, wanted="", found="")]


def _yes(said: object) -> str:
    return "yes" if said else "no"


def _said(client: object) -> str:
    return _NONE if client is None else str(client).removeprefix("Client")


def _rates(limit: abi.Limit) -> str:
    given = [f"{name} {value}" for name, *_ in limit._fields_ if (value := getattr(limit, name))]
    return ", ".join(given) or "no limit"
