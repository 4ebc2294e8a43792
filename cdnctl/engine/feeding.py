"""Feeds in the agent: fetched in their time, screened, compared, and only then put into force.

What takes long (fetching, reading a million lines) is done by a thread; frames go on. The last good version
of each is on disk: an agent that starts has it at once, and whoever publishes rubbish changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from cdnctl.config import Config, FeedConfig
from cdnctl.defence.feeds import following, screen
from cdnctl.defence.feeds.fetch import fetch, is_url
from cdnctl.defence.feeds.formats import parse
from cdnctl.defence.feeds.prefixes import Prefixes
from cdnctl.defence.feeds.schedule import Due, first
from cdnctl.defence.feeds.store import Store, Stored
from cdnctl.defence.protected import Protected, protected, surroundings
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor, FeedPicture, Outcome, Severity
from cdnctl.paths import state_dir

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

SKIPPED_SHOWN = 5
GUARD_EVERY_S = 20.0
"""Whoever logs in is looked for in lists as often."""

log = logging.getLogger("cdnctl.feeds")


class Good(NamedTuple):
    """A version that may come into force."""

    stored: Stored
    groups: dict[int, Prefixes]
    """By their end, wall time in nanoseconds; 0 is never."""
    format: str
    entries: int
    skipped: list[str]
    skipped_total: int
    added: int
    removed: int
    version: following.Version | None
    """To follow the next one by."""
    last: screen.Last


class Feed:
    """One of them."""

    def __init__(self, config: FeedConfig) -> None:
        self.config = config
        self.due = Due()
        self.good: Good | None = None
        self.good_at_ns = 0
        self.trouble = ""
        self.is_read = False
        """Whether the last good version was looked for on disk."""

    def picture(self, now_s: float) -> FeedPicture:
        """For a frame."""
        good = self.good
        return FeedPicture(
            name=self.config.name,
            kind=self.config.kind,
            format=good.format if good else "",
            entries=good.entries if good else 0,
            prefixes=sum(map(len, good.groups.values())) if good else 0,
            skipped=good.skipped_total if good else 0,
            skipped_shown=good.skipped[:SKIPPED_SHOWN] if good else [],
            added=good.added if good else 0,
            removed=good.removed if good else 0,
            good_at_ns=self.good_at_ns,
            next_in_s=max(0.0, self.due.at_s - now_s),
            failures=self.due.failures,
            trouble=self.trouble,
        )


class Feeding:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = Store(state_dir(engine.config.edge.name) / "feeds")
        self._feeds: dict[str, Feed] = {}
        self._chance = random.Random()
        self._guarded: tuple[Protected, ...] = ()
        self._guarded_s = -GUARD_EVERY_S
        self._is_settled = False

    def follow(self, config: Config) -> None:
        """Go by these. What a feed that is gone brought goes with it. Raises OSError."""
        wanted = {feed.name: feed for feed in config.feeds}
        for name, feed in list(self._feeds.items()):
            if name not in wanted or wanted[name].kind != feed.config.kind:
                self._engine.blocks.enlist(name, {})
                del self._feeds[name]
                with contextlib.suppress(OSError):
                    self._store.forget(name)
                self._tell(f"feed {name} is gone, and what it alone brought", "notice")
        for name in self._engine.blocks.listed.by_feed().keys() - wanted.keys():
            self._engine.blocks.enlist(name, {})  # a former agent of ours, or a former self, knew it
        for name, config_of in wanted.items():
            known = self._feeds.setdefault(name, Feed(config_of))
            if known.config != config_of:
                known.config, known.due = config_of, Due()

    async def look(self) -> float:
        """Whatever is due; how long until something is again, in seconds."""
        now_s = time.monotonic()
        # Ranges first: blocks are screened by them.
        for feed in sorted(self._feeds.values(), key=lambda each: each.config.kind != "ranges"):
            if not feed.is_read or feed.due.at_s <= now_s:
                await self._refresh(feed)
        if not self._is_settled:
            self._is_settled = True
            if any(feed.config.kind == "blocks" for feed in self._feeds.values()):
                self._engine.blocks.settle()  # what a former agent's feeds brought, and none does now
        await self._look_around()
        ranges = (feed for feed in self._feeds.values() if feed.config.kind == "ranges")
        await self._engine.door.look({each.config.name: each.good and each.good.groups for each in ranges})
        self.show()
        left = min((feed.due.at_s for feed in self._feeds.values()), default=now_s + GUARD_EVERY_S)
        return max(0.1, min(left - time.monotonic(), GUARD_EVERY_S if self._feeds else 3600.0))

    def show(self) -> None:
        """In the next frame."""
        now_s = time.monotonic()
        self._engine.planning.pictures.feeds = [feed.picture(now_s) for feed in self._feeds.values()]

    # -- one of them --------------------------------------------------------------------------------

    async def _refresh(self, feed: Feed) -> None:
        config = feed.config
        try:
            if not feed.is_read:
                await self._read_last(feed)
                if feed.due.at_s > time.monotonic():
                    return
            guarded = await asyncio.to_thread(self._protected, config)
            place = config.place(self._engine.config.path)
            found = await asyncio.to_thread(_get, config, place, feed.good, guarded)
            if found is not None:
                self._take(feed, found)
                await asyncio.to_thread(self._store.save, config.name, found.stored)
            feed.good_at_ns, feed.trouble = time.time_ns(), ""
            feed.due = feed.due.after(time.monotonic(), config.every_s, True, self._chance)
        except (CdnctlError, OSError) as error:
            feed.due = feed.due.after(time.monotonic(), config.every_s, False, self._chance)
            said = error.message if isinstance(error, CdnctlError) else str(error)
            if said != feed.trouble:
                feed.trouble = said
                stays = "; its last good version stays" if feed.good else ""
                self._tell(f"feed {config.name}: {said.splitlines()[0]}{stays}", "warning")

    async def _read_last(self, feed: Feed) -> None:
        """What was good before this agent came."""
        feed.is_read = True
        config = feed.config
        stored = await asyncio.to_thread(self._store.load, config.name)
        if stored is None or stored.source != config.place(self._engine.config.path):
            return
        guarded = await asyncio.to_thread(self._protected, config)
        found = await asyncio.to_thread(_read, config, stored, None, guarded)
        self._take(feed, found, was_kept=True)
        feed.good_at_ns = stored.at_ns
        age_s = max(0.0, (time.time_ns() - stored.at_ns) / 1e9)
        # A file costs nothing to look at; it may have changed while nobody did.
        feed.due = first(
            time.monotonic(), config.every_s, age_s if is_url(stored.source) else None, self._chance
        )

    def _protected(self, config: FeedConfig) -> list[Protected]:
        """What a list may not touch; takes a few milliseconds, and asks netlink."""
        if config.kind == "ranges":
            return []
        found = protected(self._engine.config, surroundings()) + screen.private()
        for feed in self._feeds.values():
            if feed.config.kind == "ranges" and feed.good:
                whose = feed.config.cdn or feed.config.name
                for prefixes in feed.good.groups.values():
                    found += screen.ranges_of(whose, prefixes)
        return found

    def _take(self, feed: Feed, found: Good, *, was_kept: bool = False) -> None:
        """Put it into force. Raises CdnctlError or OSError; then the version before is."""
        engine, config = self._engine, feed.config
        brings = sum(map(len, found.groups.values()))
        if config.kind == "blocks":
            others = sum(
                count for name, count in engine.blocks.listed.by_feed().items() if name != config.name
            )
            room = engine.config.limits.block_entries - len(engine.blocks.wanted) - others
            if brings > room:
                raise CdnctlError(
                    f"it has {brings:,} prefixes, and the block list has room for {max(0, room):,}",
                    "raise [limits] block_entries, or leave a feed out",
                )
            engine.blocks.enlist(config.name, found.groups)
        feed.good = found
        if was_kept:
            return
        verb = "blocks" if config.kind == "blocks" else "protects"
        text = (
            f"feed {config.name} {verb} {brings:,} prefixes of {found.entries:,} entries:"
            f" {found.added:,} added, {found.removed:,} removed, {found.skipped_total:,} skipped"
        )
        self._tell(text, "notice")
        command = {"verb": "feed", "name": config.name, "source": config.source, "skipped": found.skipped}
        try:
            engine.journal.append(_actor(config.name), command, Outcome(ok=True, text=text))
        except OSError as error:
            log.warning("in force, but not in the journal: %s", error)

    async def _look_around(self) -> None:
        """Whoever must be reached now, and is in a list, is let in at once."""
        now_s = time.monotonic()
        if now_s - self._guarded_s < GUARD_EVERY_S or not len(self._engine.blocks.listed):
            return
        self._guarded_s = now_s
        for feed in self._feeds.values():
            if feed.config.kind != "blocks" or feed.good is None:
                continue
            guarded = await asyncio.to_thread(self._protected, feed.config)
            if not any(
                prefixes.overlapping(each.network)
                for prefixes in feed.good.groups.values()
                for each in guarded
            ):
                continue
            found = await asyncio.to_thread(_read, feed.config, feed.good.stored, None, guarded)
            self._take(feed, found)

    def _tell(self, text: str, severity: Severity) -> None:
        self._engine.tell("feed", text, severity)


def _actor(feed: str) -> Actor:
    return Actor(user=f"feed {feed}", uid=0, pid=os.getpid(), client="planner", role="operate")


def _get(config: FeedConfig, place: str, last: Good | None, guarded: list[Protected]) -> Good | None:
    """The list as it is now; None if it is the same. Raises FeedError."""
    stored = fetch(place, last.stored if last else None)
    return None if stored is None else _read(config, stored, last, guarded)


def _read(config: FeedConfig, stored: Stored, last: Good | None, guarded: list[Protected]) -> Good:
    """What a list brings: by what has changed in it, or read as a whole. Raises FeedError."""
    if last is not None and last.version is not None:
        followed = following.follow(last.version, stored.data, guarded, config.name)
        if followed is not None and _is_plausible(followed.version.entries, last.last, config):
            version = followed.version
            return last._replace(
                stored=stored,
                groups={0: version.prefixes},
                entries=version.entries,
                skipped=[*_shown(followed.skipped), *last.skipped][: screen.SKIPPED_SHOWN],
                skipped_total=last.skipped_total + len(followed.skipped),
                added=len(followed.change.added),
                removed=len(followed.change.removed),
                version=version,
                last=screen.Last(version.entries, version.prefixes),
            )
    entries = parse(stored.data, config.name)
    brought = screen.screen(entries, guarded)
    change = screen.require_plausible(brought, last.last if last else None, config.name, config.shrinks_to)
    whole = brought.whole()
    return Good(
        stored=stored,
        groups=_groups(brought.prefixes, stored.at_ns),
        format=brought.format,
        entries=brought.entries,
        skipped=_shown(brought.skipped),
        skipped_total=brought.skipped_total,
        added=len(change.added),
        removed=len(change.removed),
        version=following.begin(stored.data, entries, guarded, whole, brought.codes),
        last=screen.Last(brought.entries, whole),
    )


def _is_plausible(entries: int, last: screen.Last, config: FeedConfig) -> bool:
    """If not, it is read as a whole, which says so."""
    return entries >= config.shrinks_to * last.entries


def _groups(prefixes: Mapping[int | None, Prefixes], at_ns: int) -> dict[int, Prefixes]:
    return {
        0 if lifetime_s is None else at_ns + int(lifetime_s * 1e9): each
        for lifetime_s, each in prefixes.items()
    }


def _shown(skipped: Iterable[screen.Skipped]) -> list[str]:
    return [f"line {each.line}: {each.prefix} {each.why}" for each in skipped]
