"""Who may talk to the SNAT addresses, in the agent: the kernel's list follows feeds, the configuration, and
whoever must be reached.

The door is shut only when every feed of ranges has been read: a provider whose list never came would be shut
out with everybody else. Until the feeds were looked at for the first time it stays as it is in the kernel, so
that a restart neither opens nor shuts it. Whoever is new is on the list before the door is shut, and before
anybody leaves the list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from cdnctl.config.schema import MAX_INVITED
from cdnctl.datapath import abi
from cdnctl.defence.blocklist import show_prefix
from cdnctl.defence.feeds.prefixes import Prefixes
from cdnctl.defence.guests import Around, guests, passing
from cdnctl.defence.protected import surroundings
from cdnctl.model import Door as Picture

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

LOOK_S = 20.0
"""Whoever logs in is looked for as often."""


class _List(NamedTuple):
    """What a feed of ranges brought."""

    brought: Mapping[int, Prefixes] | None
    """None: it was never good."""
    keys: frozenset[bytes]
    """The same, as the kernel has it."""


class _Plan(NamedTuple):
    """How it should be."""

    guests: frozenset[bytes]
    closed: bool | None
    """None: as it is."""
    trouble: str = ""

    @property
    def is_settled(self) -> bool:
        """Nobody else is on the list."""
        return self.closed is not None


class Door:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lists: dict[str, _List] = {}
        self._around = Around()
        self._looked_s = -LOOK_S
        self._in_force: tuple[_Plan, int] | None = None
        """And in which tables."""
        self._told = Picture()
        self._refused = ""
        """The kernel's words, when it would not have it."""

    # -- what it goes by ----------------------------------------------------------------------------

    def use(self) -> None:
        """Have the kernel keep it as everything is now. Raises OSError."""
        if self._engine.config.edge.snat_from == "providers":
            self._note_surroundings()
        self._put(self._plan())

    async def look(self, brought: Mapping[str, Mapping[int, Prefixes] | None]) -> None:
        """Feeds of ranges were looked at: what each brought, by its name; None: it was never good."""
        self._lists = {name: each for name, each in self._lists.items() if name in brought}
        for name, groups in brought.items():
            known = self._lists.get(name)
            if known is None or known.brought is not groups:
                self._lists[name] = _List(groups, await asyncio.to_thread(_keys, groups))
        if self._engine.config.edge.snat_from == "providers" and time.monotonic() - self._looked_s >= LOOK_S:
            await asyncio.to_thread(self._note_surroundings)
        plan = self._plan()
        if self._in_force != (plan, self._engine.tables.identity):
            try:
                self._put(plan)
                self._refused = ""
            except OSError as error:
                self._refused = f"the kernel does not take the list: {error.strerror}"
        self._tell()

    def _note_surroundings(self) -> None:
        self._looked_s = time.monotonic()
        self._around.note(surroundings(), self._looked_s)

    def _plan(self) -> _Plan:
        config = self._engine.config
        if config.edge.snat_from == "anyone":
            return _Plan(frozenset(), False)
        names = [feed.name for feed in config.feeds if feed.kind == "ranges"]
        known = [self._lists[name] for name in names if name in self._lists]
        wanted = frozenset(map(abi.prefix_key, guests(config, self._around.lately))).union(
            *(each.keys for each in known)
        )
        if unread := [name for name in names if name not in self._lists]:
            return _Plan(wanted, None, f"{_named(unread)} still to be read")
        if never := [name for name in names if self._lists[name].brought is None]:
            return _Plan(wanted, False, f"{_named(never)} never been read: `cdnctl planner` says why")
        if len(wanted) > MAX_INVITED:
            return _Plan(
                frozenset(),
                False,
                f"there is room for {MAX_INVITED:,} prefixes, and the feeds of ranges and all else come to"
                f" {len(wanted):,}",
            )
        if (unseen := self._around.now.unread) and not self._engine.tables.invited_only:
            return _Plan(wanted, False, unseen[0])
        return _Plan(wanted, True)

    # -- the kernel ---------------------------------------------------------------------------------

    def _put(self, plan: _Plan) -> None:
        tables = self._engine.tables
        self._in_force = None
        if plan.closed is False:
            tables.invited_only = False
        tables.invite(plan.guests, others=not plan.is_settled)
        if plan.closed:
            tables.invited_only = True
        self._in_force = plan, tables.identity

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Where the kernel has it otherwise: what, as it is wanted, as it is found. Raises OSError."""
        plan, tables = self._plan(), self._engine.tables
        if plan.closed is not None and tables.invited_only != plan.closed:
            yield "snat_from", _who(plan.closed), _who(tables.invited_only)
        held = tables.invited()
        words = "may talk to SNAT addresses", "may not"
        for key in sorted(plan.guests - held):
            yield show_prefix(abi.network(key)), *words
        for key in sorted(held - plan.guests) if plan.is_settled else ():
            yield show_prefix(abi.network(key)), *words[::-1]

    # -- words --------------------------------------------------------------------------------------

    def picture(self) -> Picture:
        """For a frame."""
        plan = self._in_force[0] if self._in_force else None
        config = self._engine.config.edge
        if config.snat_from == "anyone":
            return Picture()
        return Picture(
            wanted=config.snat_from,
            closed=self._engine.tables.invited_only,
            prefixes=len(plan.guests) if plan else 0,
            trouble=self._refused or (plan.trouble if plan else ""),
        )

    def warnings(self) -> list[str]:
        """What an operator should know who has just changed it."""
        now = self.picture()
        if now.wanted == "anyone":
            return []
        said = [f"{_open(now)}"] if not now.closed and now.trouble else []
        for peer in passing(self._engine.config, self._around.now):
            said.append(
                f"{peer} may talk to SNAT addresses while somebody is logged in from there over SSH, and for"
                " an hour more; edge.management lets it in for good"
            )
        return said

    def _tell(self) -> None:
        """Once for each change."""
        now = self.picture()
        before, self._told = self._told, now
        if (now.closed, now.trouble) == (before.closed, before.trouble):
            return
        tell = self._engine.tell
        if now.closed and not before.closed:
            tell("door", f"{now.prefixes:,} prefixes may talk to SNAT addresses, and nobody else", "notice")
        elif now.wanted == "anyone":
            tell("door", "anybody may talk to SNAT addresses", "notice")
        if now.trouble:
            tell("door", f"the list is not new: {now.trouble}" if now.closed else _open(now), "warning")


def _keys(groups: Mapping[int, Prefixes] | None) -> frozenset[bytes]:
    return frozenset(abi.prefix_key(each) for part in (groups or {}).values() for each in part.networks())


def _open(now: Picture) -> str:
    return f"anybody may talk to SNAT addresses, for {now.trouble}"


def _who(closed: bool) -> str:
    return "providers" if closed else "anyone"


def _named(feeds: Iterable[str]) -> str:
    names = list(feeds)
    return f"feed {names[0]} has" if len(names) == 1 else f"feeds {', '.join(names)} have"
