"""Sampled packets on the console's own connection: as long as they are wanted, and no longer."""

from __future__ import annotations

import asyncio
import time

from engine_double import ServedDouble

from cdnctl.agent.client import AsyncClient
from cdnctl.model import PacketFilter, Sampled, SampledPacket, Term

PACKET = SampledPacket("10.1.0.1", "203.0.113.80", 4, 80, "tcp", "S", 60, "blocked", True, "")


async def test_packets_come_beside_frames_and_end_when_nobody_looks(served: ServedDouble) -> None:
    asked: list[PacketFilter] = []

    def sampled(wanted: PacketFilter) -> Sampled:
        asked.append(wanted)
        return Sampled(at_ns=time.time_ns(), one_in=4, packets=[PACKET])

    served.engine.sampled = sampled  # type: ignore[attr-defined]
    client = AsyncClient(served.path)
    await client.connect()
    try:
        wanted = [[Term("verdict", "blocked")]]
        client.watch(wanted)
        taken: list[Sampled] = []
        async with asyncio.timeout(10):
            async for _frame in client.frames():
                taken += client.take_sampled()
                if len(taken) >= 2:
                    break
        assert taken[0].packets == [PACKET]
        assert asked[-1] == wanted
        client.watch(None)
        async with asyncio.timeout(10):
            while any(session.wants_packets is not None for session in served.server._sessions):
                await asyncio.sleep(0.02)
        count = len(asked)
        async with asyncio.timeout(10):
            frames = 0
            async for _frame in client.frames():
                frames += 1
                if frames >= 2:
                    break
        assert len(asked) == count
    finally:
        await client.close()
