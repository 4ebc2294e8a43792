"""Endpoints by DNS name: asked for at their TTL, followed with care (cdnctl.steering.discovery), and kept.

A change of addresses comes into force as a reload does that changes nothing else: what is new is there
before what is old goes, and flows of an address that is gone go on until they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from cdnctl.config import Config
from cdnctl.engine.expansion import families
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor, NamePicture
from cdnctl.state import files
from cdnctl.steering.discovery import USUAL, Answer, Name, Refresh, Settings, refresh, resolve

DISCOVERY = Actor(user="discovery", uid=0, pid=os.getpid(), client="planner", role="operate")
AGAIN_S = 2.0
"""Somebody else changes the configuration: it is tried again."""

Family = Literal[4, 6]
Ask = Callable[[str, Family, Config], Coroutine[Any, Any, Answer]]

log = logging.getLogger("cdnctl.discovery")


class Which(NamedTuple):
    """A name, of one family."""

    host: str
    family: Family


class Found(NamedTuple):
    """What an answer has changed."""

    which: Which
    refresh: Refresh


class _Kept(Struct, kw_only=True):
    """On disk."""

    names: dict[str, Name] = field(default_factory=dict)
    """By host and family, as `edge.example.net 4`."""


async def ask_dns(host: str, family: Family, config: Config) -> Answer:
    """By the configuration's servers, or the box's own."""
    return await resolve(host, family, list(config.dns.servers) or None, config.dns.port)


class Names:
    """Of one edge."""

    def __init__(self, directory: Path, ask: Ask = ask_dns) -> None:
        self._path = directory / "names.json"
        self._ask = ask
        self._names: dict[Which, Name] = {}
        self._due_s: dict[Which, float] = {}
        self._trouble: dict[Which, str] = {}
        self.warnings: list[str] = []
        self._load()

    def _load(self) -> None:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            self.warnings.append(f"{self._path} cannot be read ({error}): names are asked for anew")
            return
        for key, name in kept.names.items():
            host, _, family = key.partition(" ")
            # Their times were another clock's; addresses are the last good ones, and asked for soon.
            self._names[Which(host, 6 if family == "6" else 4)] = replace(name, added_at_s=0.0)

    def save(self) -> None:
        """Keep the last good addresses. Raises OSError."""
        kept = _Kept(names={f"{host} {family}": each for (host, family), each in self._names.items()})
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        files.replace(self._path, msgspec.json.encode(kept) + b"\n")

    def addresses(self, host: str, family: int) -> list[str]:
        """Those in force."""
        name = self._names.get(Which(host, 6 if family == 6 else 4))
        return name.addresses if name else []

    def picture(self, config: Config) -> list[NamePicture]:
        """For a frame: each name once, its families together."""
        now_s, made = time.monotonic(), []
        for cdn in config.cdns:
            for each in cdn.names:
                of = [Which(each.host, 6 if family == 6 else 4) for family in families(config, cdn)]
                known = [self._names[which] for which in of if which in self._names]
                made.append(
                    NamePicture(
                        name=each.host,
                        cdn=cdn.name,
                        addresses=[address for name in known for address in name.addresses],
                        ttl_s=min((name.ttl_s for name in known), default=0.0),
                        next_in_s=max(
                            0.0, min((self._due_s.get(w, now_s) for w in of), default=now_s) - now_s
                        ),
                        failures=max((name.failures for name in known), default=0),
                        trouble="; ".join(filter(None, (self._trouble.get(which, "") for which in of))),
                    )
                )
        return made

    # -- asking -------------------------------------------------------------------------------------

    def wanted(self, config: Config) -> dict[Which, int]:
        """What is to be asked for, and how many addresses of it are used."""
        found: dict[Which, int] = {}
        for cdn in config.cdns:
            for name in cdn.names:
                for family in families(config, cdn):
                    which = Which(name.host, 6 if family == 6 else 4)
                    found[which] = max(found.get(which, 0), name.most)
        return found

    async def learn(self, config: Config) -> None:
        """Ask for those that no address is known of: what is to come into force needs them."""
        unknown = {
            which: most
            for which, most in self.wanted(config).items()
            if not self.addresses(which.host, which.family)
        }
        found = await self._ask_all(unknown, config)
        self._names.update({each.which: each.refresh.name for each in found})
        if found:
            with contextlib.suppress(OSError):  # they are asked for again then
                self.save()

    async def due(self, config: Config) -> list[Found]:
        """Ask for those whose time has come; what is otherwise now, which `take` puts into force."""
        wanted, now_s = self.wanted(config), time.monotonic()
        self._due_s = {which: self._due_s.get(which, now_s) for which in wanted}
        self._trouble = {which: each for which, each in self._trouble.items() if which in wanted}
        asked = {which: most for which, most in wanted.items() if self._due_s[which] <= now_s}
        return await self._ask_all(asked, config)

    def wait_s(self) -> float:
        """Until the next is due."""
        return max(0.05, min(self._due_s.values(), default=1e9) - time.monotonic())

    def take(self, found: list[Found]) -> dict[Which, Name]:
        """Have these; what was before, for `put_back`."""
        before = {each.which: self._names[each.which] for each in found if each.which in self._names}
        self._names.update({each.which: each.refresh.name for each in found})
        return before

    def put_back(self, found: list[Found], before: dict[Which, Name]) -> None:
        """These could not be put into force."""
        for each in found:
            self._names.pop(each.which, None)
        self._names.update(before)
        for each in found:
            self._due_s[each.which] = time.monotonic() + AGAIN_S

    async def _ask_all(self, wanted: dict[Which, int], config: Config) -> list[Found]:
        answers = await asyncio.gather(*(self._ask(*which, config) for which in wanted))
        return list(self._read(wanted, answers))

    def _read(self, wanted: dict[Which, int], answers: list[Answer]) -> Iterator[Found]:
        for (which, most), answer in zip(wanted.items(), answers, strict=True):
            now_s = time.monotonic()
            settings: Settings = USUAL._replace(most=most)
            done = refresh(self._names.get(which, Name()), answer, now_s, settings)
            self._due_s[which] = now_s + done.next_in_s
            self._trouble[which] = "; ".join(done.notes) if done.name.failures else ""
            yield Found(which, done)


def resolve_first(names: Names, config: Config) -> None:
    """Before there is a loop: at a start, what no address is known of. Raises CdnctlError."""
    if not names.wanted(config):
        return
    try:
        asyncio.run(names.learn(config))
    except RuntimeError as error:
        raise CdnctlError(f"names of endpoints cannot be asked for: {error}") from None
