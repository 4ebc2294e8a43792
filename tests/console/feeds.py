"""A feed for the console's tests: frames are given, commands are kept and answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from cdnctl.errors import CdnctlError, NoAgent
from cdnctl.model import (
    AnyCommand,
    BlockPrefix,
    Drain,
    Frame,
    Outcome,
    PacketFilter,
    Sampled,
    SetWeights,
    Undrain,
)


class ScriptedFeed:
    """One agent for a whole test; reconnecting finds the same one again."""

    def __init__(self, frames: list[Frame], role: str = "operate") -> None:
        self.edge = frames[-1].edge if frames else "ams1"
        self.role = role
        self.commands: list[AnyCommand] = []
        """What was asked for in earnest."""
        self.tried: list[AnyCommand] = []
        """Dry runs."""
        self.answer: Callable[[AnyCommand], Outcome] = default_answer
        self.down: CdnctlError | None = None
        self.connects = 0
        self.watched: list[PacketFilter | None] = []
        self.sampled: list[Sampled] = []
        """What the next frame brings."""
        self.waited_s: dict[type[AnyCommand], float] = {}
        """How long the console would wait for the answer, by the kind of what it asked last."""
        self._frames = asyncio.Queue[Frame | None]()
        for frame in frames:
            self._frames.put_nowait(frame)

    async def connect(self) -> None:
        self.connects += 1
        if self.down:
            raise self.down

    async def frames(self) -> AsyncIterator[Frame]:
        while (frame := await self._frames.get()) is not None:
            yield frame
        raise self.down or NoAgent("the agent hung up")

    async def request(self, command: AnyCommand, timeout_s: float = 10.0) -> Outcome:
        self.waited_s[type(command)] = timeout_s
        if self.down:
            raise self.down
        (self.tried if getattr(command, "dry_run", False) else self.commands).append(command)
        return self.answer(command)

    def watch(self, wanted: PacketFilter | None) -> None:
        self.watched.append(wanted)

    def take_sampled(self) -> list[Sampled]:
        taken, self.sampled = self.sampled, []
        return taken

    async def close(self) -> None:
        pass

    def send(self, *frames: Frame) -> None:
        """More frames."""
        for frame in frames:
            self._frames.put_nowait(frame)

    def break_off(self, error: CdnctlError | None = None) -> None:
        """The connection ends, and new ones fail while `down` is set."""
        self.down = error or NoAgent("the agent hung up")
        self._frames.put_nowait(None)


def default_answer(command: AnyCommand) -> Outcome:
    """What an agent would say, roughly."""
    if isinstance(command, BlockPrefix):
        return Outcome(
            ok=True, text=f"block {command.prefix}: matches 12 live flows, 52.3 kpps, no CDN, not you"
        )
    if isinstance(command, SetWeights):
        total = sum(command.weights.values()) or 1
        shares = {name: weight / total for name, weight in command.weights.items()}
        return Outcome(ok=True, text="new weights", shares=shares)
    if isinstance(command, Drain | Undrain):
        return Outcome(
            ok=True, text=f"{type(command).__name__.lower()} {command.cdn}", shares={command.cdn: 0.0}
        )
    return Outcome(ok=True, text="done")
