"""Prefixes that are routed here, in the agent: what is for an address of theirs that nobody has is dropped
before the host's stack gets it.

What the host has of them is found by looking: its addresses, what it answers for besides (routes of its table
`local`), and the networks that its interfaces are in. That is looked for again and again, as addresses come
and go: one that is new is reached after `LOOK_S`. Where it cannot be found out, nothing is dropped; nor is
anything without an agent, for the kernel believes what it was told for half a minute.
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
    prefixes = tuple(announced)
    found = dict.fromkeys(prefixes, abi.AddressUse.UNUSED)
    for network in own:
        for prefix in prefixes:
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
        try:
            wanted = self._wanted()
        except Exception as error:
            self._give_up(error)
        else:
            self._put(wanted)

    async def run(self) -> None:
        """Follow the host's addresses, until it is cancelled."""
        while True:
            if self._engine.config.edge.announced:
                try:
                    wanted = await asyncio.to_thread(self._wanted)
                except Exception as error:
                    self._give_up(error)
                else:
                    self._put(wanted)
            await asyncio.sleep(LOOK_S)

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Where the kernel has it otherwise: what, as it is wanted, as it is found. Raises OSError."""
        held = self._engine.tables.announced()
        try:
            wanted = self._wanted()
        except Exception:
            wanted = {}  # and so it is in force: see `_give_up`
        for key in sorted(held.keys() | wanted.keys()):
            if held.get(key) != wanted.get(key):
                yield show_prefix(abi.network(key)), _word(wanted.get(key)), _word(held.get(key))

    def _wanted(self) -> dict[bytes, abi.AddressUse]:
        """Raises what netlink does."""
        prefixes = [ip_network(prefix) for prefix in self._engine.config.edge.announced]
        found = uses(prefixes, own_networks() if prefixes else ())
        return {abi.prefix_key(network): use for network, use in found.items()}

    def _put(self, wanted: Mapping[bytes, abi.AddressUse]) -> None:
        if len(wanted) > MAX_ANNOUNCED:
            room = f"there is room for {MAX_ANNOUNCED:,} prefixes and addresses, and they are {len(wanted):,}"
            self._give_up(room)
            return
        self._engine.tables.announce(wanted)
        self._trouble = ""

    def _give_up(self, why: object) -> None:
        self._engine.tables.announce({})
        trouble = (
            f"this box's own addresses cannot be read: {why}" if isinstance(why, Exception) else f"{why}"
        )
        if trouble != self._trouble:
            self._trouble = trouble
            self._engine.tell("warning", f"edge.announced is not in force: {trouble}", "warning")


def _word(use: int | None) -> str:
    if use is None:
        return "not announced"
    return "nobody's" if use == abi.AddressUse.UNUSED else "the host's"
