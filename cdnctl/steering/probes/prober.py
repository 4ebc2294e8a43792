"""Asks many endpoints, again and again, each in its own time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cdnctl.steering.probes.ask import ask
from cdnctl.steering.probes.health import Health, wait_s
from cdnctl.steering.probes.result import Probe, Result

AT_ONCE = 16
"""Probes under way; more wait for their turn."""


class Target(NamedTuple):
    """An endpoint, and how it is asked."""

    address: str
    port: int
    probe: Probe


Heard = Callable[[str, Result, Health], None]
"""Called with the target's name after each probe, in the loop that the prober was made in."""


class Prober:
    """Probes targets by name until it is closed. Of one event loop."""

    def __init__(self, heard: Heard, chance: random.Random | None = None) -> None:
        self.health: dict[str, Health] = {}
        self._heard = heard
        self._chance = chance or random.Random()
        self._tasks: dict[str, tuple[Target, asyncio.Task[None]]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    def follow(self, targets: Mapping[str, Target]) -> None:
        """Probe these from now on. Who stays as he was goes on undisturbed, with what is known of him."""
        for name, (target, task) in list(self._tasks.items()):
            if targets.get(name) != target:
                task.cancel()
                del self._tasks[name]
                self.health.pop(name, None)
        for name, target in targets.items():
            if name not in self._tasks:
                self._tasks[name] = (
                    target,
                    asyncio.create_task(self._watch(name, target), name=f"probe {name}"),
                )

    def target(self, name: str) -> Target | None:
        """What is probed by that name."""
        return self._tasks[name][0] if name in self._tasks else None

    async def close(self) -> None:
        """End all probes; none is under way on return."""
        tasks = [task for _, task in self._tasks.values()]
        self._tasks = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, name: str, target: Target) -> None:
        # The first soon, but not all in the same instant.
        await asyncio.sleep(self._chance.uniform(0, min(1.0, target.probe.every_s)))
        while True:
            async with self._turn:
                result = await ask(target.address, target.port, target.probe, self._chance)
            health = self.health.get(name, Health()).after(result, target.probe)
            self.health[name] = health
            self._heard(name, result, health)
            await asyncio.sleep(wait_s(target.probe, self._chance, health))
