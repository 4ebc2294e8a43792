"""A block list of a million: the agent answers in small parts, and the console stays quick meanwhile.

The list and what searches it are the agent's own; only the kernel's counts of hits are left out. The console
asks it in the same process, as slowly as a line to an agent would be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest
from driver import console
from frames import incident

from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.widgets.blocked import BlockedTable
from cdnctl.defence.blocklist import Blocklist
from cdnctl.engine.queries import Queries
from cdnctl.model import AnyCommand, Block, FindBlocks, ListCustomers, Outcome

FIRST = int(IPv4Address("11.0.0.0"))
PART_S = 0.05
"""For so long at most an agent may be busy with one question, on a machine with neighbours."""
PAINT_S = 0.25
"""From a key to the picture while a search goes on; by Pilot, on that machine."""

Ask = Callable[[AnyCommand], Outcome]


def agent(count: int) -> Ask:
    """What answers questions about a list of so many, of which one in ten thousand has a word of its own."""
    wanted = Blocklist()
    wanted.fill(
        Block(
            prefix=str(IPv4Address(FIRST + number)),
            reason=f"rare {number}" if number % 10_000 == 0 else "flood",
            source="feed",
            created_ns=1 + number,
        )
        for number in range(count)
    )
    blocks = SimpleNamespace(wanted=wanted, shown=list)
    queries = Queries(SimpleNamespace(blocks=blocks))  # type: ignore[arg-type]

    def answer(command: AnyCommand) -> Outcome:
        if isinstance(command, ListCustomers):
            return Outcome(ok=True, text="", customers=[], allowed=[])
        return queries.table[type(command)](command)

    return answer


COUNTS = [pytest.param(60_000), pytest.param(1_000_000, marks=pytest.mark.soak)]


@pytest.mark.soak
@pytest.mark.parametrize("count", COUNTS)
def test_the_agent_is_never_busy_for_long(count: int) -> None:
    ask = agent(count)
    took: list[float] = []

    def timed(command: FindBlocks) -> Outcome:
        began = time.perf_counter()
        outcome = ask(command)
        took.append(time.perf_counter() - began)
        return outcome

    found, cursor, looked_at = 0, None, 0
    while True:
        outcome = timed(FindBlocks(text="rare", cursor=cursor, limit=200))
        assert outcome.page is not None
        found += len(outcome.blocks or ())
        looked_at += outcome.page.looked_at
        if (cursor := outcome.page.next) is None:
            break
    assert (found, looked_at) == (count // 10_000, count)
    assert sorted(took)[len(took) * 95 // 100] < PART_S
    print(f"{count:,}: searched in {sum(took):.2f} s, {len(took)} parts of {max(took) * 1e3:.0f} ms at most")


@pytest.mark.parametrize("count", COUNTS)
def test_what_covers_an_address_is_found_at_once(count: int) -> None:
    ask = agent(count)
    address = str(IPv4Address(FIRST + count // 2))
    outcome = ask(FindBlocks(text=address))
    assert outcome.page is not None
    assert outcome.page.next is None
    assert outcome.page.looked_at == 33
    assert [block.prefix for block in outcome.blocks or ()] == [address]
    assert ask(FindBlocks(text="8.8.8.8")).blocks == []


@pytest.mark.parametrize("count", COUNTS)
async def test_keys_are_heeded_while_a_search_goes_on(count: int) -> None:
    ask = agent(count)
    async with console(incident()[:2], (120, 40), answer=ask) as desk:
        await desk.go("lists")
        await desk.until(lambda: f"1 to 200 of {count:,}" in desk.text)
        slowest: list[float] = []
        await desk.press("slash", *"rare", "enter")
        for _ in range(10):
            began = time.perf_counter()
            await desk.pilot.press("j")
            await desk.pilot.pause(0)
            slowest.append(time.perf_counter() - began)
        assert sorted(slowest)[8] < PAINT_S
        await desk.until(lambda: f"of {count:,}" in desk.text and "looked through" not in desk.text, 30)
        assert len(desk.house.query_one(BlockedTable).records) == count // 10_000
        print(f"{count:,}: key to picture {max(slowest) * 1e3:.0f} ms at most while it is searched")
        await desk.press("escape")
        assert not isinstance(desk.app.screen, ChangeDialog)
