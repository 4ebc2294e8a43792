"""Prefixes that are routed here, in the agent: what is for an address of theirs that nobody has is dropped
before the host's stack gets it.

What the host has of them is found by looking: its addresses, what it answers for besides (routes of its table
`local`), and the networks that its interfaces are in. That is looked for again and again, as addresses come
and go: one that is new is reached after `LOOK_S`. Where it cannot be found out, nothing is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING

from cdnctl.config.schema import MAX_ANNOUNCED
from cdnctl.datapath import abi
from cdnctl.defence.blocklist import show_prefix
from cdnctl.defence.protected import own_networks

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

LOOK_S = 2.0


def uses(
    announced: Iterable[abi.AnyNetwork], own: Iterable[abi.AnyNetwork]
) -> dict[abi.AnyNetwork, abi.AddressUse]:
    """What the kernel is to know: prefixes of which nobody has anything but what follows in them."""
    found = dict.fromkeys(announced, abi.AddressUse.UNUSED)
    for network in own:
        for prefix in tuple(found):
            if prefix.version == network.version and prefix.overlaps(network):
                found[max(prefix, network, key=lambda each: each.prefixlen)] = abi.AddressUse.USED
    return found


class Announced:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._trouble = ""

    def use(self) -> None:
        """Have the kernel keep it as everything is now. Raises OSError."""
        own: Iterable[abi.AnyNetwork] = ()
        if self._engine.config.edge.announced:
            try:
                own = own_networks()
            except Exception as error:
                self._give_up(f"this box's own addresses cannot be read: {error}")
                return
        self._put(self._wanted(own))

    async def run(self) -> None:
        """Follow the host's addresses, until it is cancelled."""
        while True:
            if self._engine.config.edge.announced:
                own = await asyncio.to_thread(own_networks)
                self._put(self._wanted(own))
            await asyncio.sleep(LOOK_S)

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Where the kernel has it otherwise: what, as it is wanted, as it is found. Raises OSError."""
        held, wanted = self._engine.tables.announced(), self._wanted(own_networks())
        for key in sorted(held.keys() | wanted.keys()):
            if held.get(key) != wanted.get(key):
                yield show_prefix(abi.network(key)), _word(wanted.get(key)), _word(held.get(key))

    def _wanted(self, own: Iterable[abi.AnyNetwork]) -> dict[bytes, abi.AddressUse]:
        prefixes = [ip_network(prefix) for prefix in self._engine.config.edge.announced]
        found = uses(prefixes, own)
        return {abi.prefix_key(network): use for network, use in found.items()}

    def _put(self, wanted: Mapping[bytes, abi.AddressUse]) -> None:
        if len(wanted) > MAX_ANNOUNCED:
            room = f"there is room for {MAX_ANNOUNCED:,} prefixes and addresses, and they are {len(wanted):,}"
            self._give_up(room)
            return
        if self._engine.tables.announced() != wanted:
            self._engine.tables.announce(wanted)
        self._trouble = ""

    def _give_up(self, trouble: str) -> None:
        self._engine.tables.announce({})
        if trouble != self._trouble:
            self._trouble = trouble
            self._engine.tell("warning", f"edge.announced is not in force: {trouble}", "warning")


def _word(use: int | None) -> str:
    if use is None:
        return "not announced"
    return "nobody's" if use == abi.AddressUse.UNUSED else "the host's"
