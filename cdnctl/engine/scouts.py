"""What looks outside, beside the frames, in the agent's own loop: probes, names of endpoints, feeds,
and what addresses the box has.

Each goes on by itself: one that fails is begun again a little later, and told of once. None is needed for
the edge to serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cdnctl.config import Config, ProbeConfig
from cdnctl.engine.expansion import host_names
from cdnctl.engine.feeding import Feeding
from cdnctl.engine.names import DISCOVERY, Found
from cdnctl.errors import CdnctlError
from cdnctl.model import Outcome
from cdnctl.steering.probes import Health, Probe, Prober, Result, Target

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

AGAIN_S = 5.0
"""After a failure of one of them."""
LONGEST_S = 3600.0

log = logging.getLogger("cdnctl.outside")


class Scouts:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._prober: Prober | None = None
        self._cdn_of: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """All of them, until it is cancelled."""
        self._changed = asyncio.Event()
        self._prober = Prober(self._heard)
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "names of endpoints": self._follow_names,
            "feeds": self._follow_feeds,
            "this box's addresses": self._engine.announced.run,
        }
        tasks = [asyncio.create_task(self._keep(what, run)) for what, run in parts.items()]
        try:
            self.follow()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            prober, self._prober = self._prober, None
            await prober.close()

    def follow(self) -> None:
        """Go by the configuration as it is now."""
        if self._prober is None:
            return
        targets = self._targets()
        self._engine.planning.wellness.follow(targets)
        self._prober.follow(targets)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()  # whoever waits has this one

    async def _keep(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                if self._told.get(what) != said:
                    self._told[what] = said
                    log.exception("%s: begun again", what)
                    self._engine.tell("warning", f"{what} cannot be followed for now: {said}", "warning")
            await asyncio.sleep(AGAIN_S)

    async def wait(self, seconds: float) -> None:
        """So long, or until the configuration has changed."""
        changed = self._changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LONGEST_S)):
                await changed.wait()

    # -- probes -------------------------------------------------------------------------------------

    def _targets(self) -> dict[str, Target]:
        """By endpoint, how it is asked."""
        engine = self._engine
        names = host_names(engine.config_read, engine.names.addresses)
        found: dict[str, Target] = {}
        self._cdn_of = {}
        for cdn in engine.config.cdns:
            for endpoint in cdn.endpoints:
                wanted = endpoint.probe or cdn.probe
                if wanted is None or cdn.mode == "pass":
                    continue
                probe = probe_of(wanted, engine.config, names.get(endpoint.address, ""))
                found[endpoint.address] = Target(endpoint.host, wanted.port or endpoint.port, probe)
                self._cdn_of[endpoint.address] = cdn.name
        return found

    def _heard(self, key: str, result: Result, health: Health) -> None:
        probe = self._targets_probe(key)
        if probe is None:
            return
        try:
            self._engine.planning.hear(key, self._cdn_of[key], probe, result, health)
        except Exception as error:  # the next round of the planner tries again; probes go on
            log.warning("what probes of %s say could not be put into force at once: %s", key, error)

    def _targets_probe(self, key: str) -> Probe | None:
        target = self._prober.target(key) if self._prober else None
        return target.probe if target and key in self._cdn_of else None

    # -- feeds --------------------------------------------------------------------------------------

    async def _follow_feeds(self) -> None:
        feeding = Feeding(self._engine)
        while True:
            feeding.follow(self._engine.config)
            await self.wait(await feeding.look())

    # -- names --------------------------------------------------------------------------------------

    async def _follow_names(self) -> None:
        engine = self._engine
        for warning in engine.names.warnings:
            engine.tell("warning", warning, "warning")
        engine.names.warnings.clear()
        while True:
            found = await engine.names.due(engine.config_read)
            if found:
                self._adopt(found)
                engine.planning.pictures.names = engine.names.picture(engine.config_read)
            await self.wait(engine.names.wait_s())

    def _adopt(self, found: list[Found]) -> None:
        """Put what has changed into force."""
        engine, names = self._engine, self._engine.names
        for each in found:
            for note in each.refresh.notes:
                if self._told.get(each.which.host) != note:
                    self._told[each.which.host] = note
                    engine.tell("discovery", note, "warning" if each.refresh.name.failures else "info")
        before = names.take(found)
        changed = [each for each in found if each.refresh.added or each.refresh.removed]
        if not changed:
            return
        text = "; ".join(_words(each) for each in changed)
        try:
            warnings = engine.adopt_addresses()
        except (CdnctlError, OSError) as error:
            names.put_back(found, before)
            if self._told.get("adopt") != str(error):
                self._told["adopt"] = str(error)
                engine.tell("warning", f"cannot follow {text}: {error}", "warning")
            return
        self._told.pop("adopt", None)
        for warning in warnings:
            engine.tell("warning", warning, "warning")
        engine.tell("discovery", text, "notice")
        try:
            names.save()
            command = {
                "verb": "discover",
                "names": {
                    each.which.host: {"added": each.refresh.added, "removed": each.refresh.removed}
                    for each in changed
                },
                "reason": "DNS",
            }
            engine.journal.append(DISCOVERY, command, Outcome(ok=True, text=text))
        except OSError as error:
            engine.tell("warning", f"in force, but not kept: {error}", "warning")


def _words(found: Found) -> str:
    done = found.refresh
    parts = [f"has {', '.join(done.added)} now"] if done.added else []
    parts += [f"has {', '.join(done.removed)} no more"] if done.removed else []
    return f"{found.which.host} {' and '.join(parts)} (TTL {done.name.ttl_s:g} s)"


def probe_of(wanted: ProbeConfig, config: Config, host: str = "") -> Probe:
    """As the configuration says it; `host` is the name that the endpoint came from."""
    is_http = wanted.kind in ("http", "https")
    return Probe(
        kind="http" if is_http else "tls" if wanted.kind == "tls" else "tcp",
        every_s=wanted.every_s,
        timeout_s=wanted.timeout_s,
        rise=wanted.rise,
        fall=wanted.fall,
        host=wanted.host or host,
        path=wanted.path,
        status=wanted.status,
        header=(wanted.header.name, wanted.header.has) if wanted.header else None,
        body=wanted.body,
        is_tls=wanted.kind != "http",
        warn_days=wanted.warn_days,
        ca_file=str(config.path.parent / wanted.ca_file) if wanted.ca_file else "",
    )
