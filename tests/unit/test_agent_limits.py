"""How much a client may ask, and that one who asks too much is only in its own way."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine_double import ServedDouble, serving

from cdnctl.agent import limits, protocol
from cdnctl.agent.blocking import Client
from cdnctl.agent.streaming import AsyncClient
from cdnctl.console.session import Session
from cdnctl.errors import AgentRefused
from cdnctl.model import Actor, AnyCommand, Arm, BlockPrefix, Diff, FindBlocks, GetFrame, Outcome


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def user(burst: float) -> limits.User:
    return limits.User(limits.Bucket(1.0, burst), limits.Bucket(0.2, 0.25))


def test_a_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    clock = Clock()
    bucket = limits.Bucket(10.0, 20.0, clock)
    assert [bucket.wait_s(1.0) for _ in range(20)] == [0.0] * 20
    assert bucket.wait_s(1.0) == pytest.approx(0.1)
    clock.now_s += 0.35
    assert [bucket.wait_s(1.0) > 0 for _ in range(5)] == [False] * 3 + [True] * 2
    clock.now_s += 1000.0
    assert bucket.left == 20.0


def test_long_messages_cost_more() -> None:
    rate = limits.ClientRate(limits.Bucket(1.0, 100.0), user(1000.0))
    assert rate.wait_s(99 * limits.TOKEN_BYTES) == 0.0
    assert rate.wait_s(1) > 0.0


def test_what_the_user_may_not_have_is_not_taken_from_the_client() -> None:
    own = limits.Bucket(1.0, 10.0)
    rate = limits.ClientRate(own, user(0.0))
    assert rate.wait_s(1) > 0.0
    assert own.left == pytest.approx(10.0)


def test_one_client_cannot_use_up_what_its_user_has() -> None:
    assert limits.USER_RATE >= 4 * limits.CLIENT_RATE
    assert limits.USER_BURST >= 4 * limits.CLIENT_BURST


def test_users_that_come_and_go_are_not_kept() -> None:
    rates = limits.Rates()
    for uid in range(10 * limits._USERS_KEPT):
        rates._user("view", uid)
    assert len(rates._users) <= limits._USERS_KEPT


@pytest.fixture
def strict(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedDouble]:
    """The real limits."""
    monkeypatch.setattr("cdnctl.agent.server.FRAME_INTERVAL_S", 0.02)
    with serving() as double:
        yield double


@contextmanager
def flooding(served: ServedDouble) -> Iterator[list[Outcome]]:
    """One client that sends requests as fast as they are taken; gives what it was answered."""
    outcomes: list[Outcome] = []
    ending = threading.Event()

    def flood() -> None:
        with served.raw() as sock:
            sock.sendall(protocol.encode(protocol.ClientHello()))
            reader = sock.makefile("rb")
            requests = b"".join(
                protocol.encode(protocol.Request(id=n, command=BlockPrefix(prefix="10.9.9.9")))
                for n in range(20)
            )
            while not ending.is_set():
                sock.sendall(requests)
                for _ in range(20):
                    body = reader.read(int.from_bytes(reader.read(4), "big"))
                    message = protocol.decode_down(body)
                    if isinstance(message, protocol.Answer) and message.outcome:
                        outcomes.append(message.outcome)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield outcomes
    finally:
        ending.set()
        thread.join(10)


def test_a_flood_is_refused_held_back_and_delays_nobody(strict: ServedDouble) -> None:
    with strict.client() as other, flooding(strict) as outcomes:
        time.sleep(0.5)
        began, waits = time.monotonic(), []
        while time.monotonic() - began < 1.5:
            asked = time.perf_counter()
            assert other.request(GetFrame()).ok, "another client of the same user is not refused"
            waits.append(time.perf_counter() - asked)
            time.sleep(0.03)
    refused = [outcome for outcome in outcomes if not outcome.ok]
    assert refused
    assert "too many requests" in refused[0].text
    assert "try again in" in refused[0].remedy
    assert len(outcomes) < 2 * limits.CLIENT_BURST + 2.5 * 2 * limits.CLIENT_RATE, "it is not held back"
    assert statistics.median(waits) < 0.02
    assert sum(isinstance(command, BlockPrefix) for command, _ in strict.engine.asked) <= len(outcomes)


def test_who_comes_and_goes_all_the_time_is_sent_away(
    strict: ServedDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "USER_BURST", 20.0)
    monkeypatch.setattr(limits, "USER_RATE", 5.0)
    strict.server._rates._users.clear()

    def come_and_go() -> None:
        for _ in range(40):
            Client(strict.path).close()

    with pytest.raises(AgentRefused, match="too many connections of"):
        come_and_go()
    time.sleep(0.5)
    with strict.client() as client:
        assert client.request(Arm()).ok, "and may come back"


# --- what looks cost ---------------------------------------------------------------------------------


def test_all_clients_of_a_user_owe_what_the_looks_of_one_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rates = Clock(), limits.Rates()
    monkeypatch.setattr(limits.Bucket.__init__, "__defaults__", (clock,))
    one, two, other = rates.client("view", 7), rates.client("view", 7), rates.client("view", 8)
    one.spent(limits.LOOKS_BURST_S)
    assert two.owes_s() == 0
    one.spent(0.1)
    assert two.owes_s() == pytest.approx(0.1 / limits.LOOKS_PART["view"])
    assert other.owes_s() == 0
    clock.now_s += 0.1 / limits.LOOKS_PART["view"]
    assert two.owes_s() == pytest.approx(0)


LOOK_S = 0.05


@pytest.mark.soak
def test_costly_looks_of_many_viewers_leave_the_agent_its_time(
    strict: ServedDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, execute = [0], strict.engine.execute

    def slow(command: AnyCommand, actor: Actor) -> Outcome:
        if isinstance(command, FindBlocks):
            looks[0] += 1
            time.sleep(LOOK_S)
        return execute(command, actor)

    monkeypatch.setattr(strict.engine, "execute", slow)
    ending = threading.Event()

    def look() -> None:
        with Client(strict.view_path) as viewer:
            while not ending.is_set():
                assert viewer.request(FindBlocks()).ok

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    began_s, frames = time.monotonic(), strict.engine.seq
    waits = []
    with strict.client() as operator:
        while time.monotonic() - began_s < 1.2:
            asked_s = time.monotonic()
            assert operator.request(Arm()).ok
            waits.append(time.monotonic() - asked_s)
            time.sleep(0.03)
    took_s, made = time.monotonic() - began_s, strict.engine.seq - frames
    ending.set()
    for thread in threads:
        thread.join(10)
    most_s = limits.LOOKS_BURST_S + limits.LOOKS_PART["view"] * took_s
    assert 3 <= looks[0] <= most_s / LOOK_S + 1 + len(threads)
    assert made > 20, "frames go on"
    assert statistics.median(waits) < LOOK_S


def test_viewers_have_no_look_at_every_table(strict: ServedDouble) -> None:
    with Client(strict.view_path) as viewer, strict.client() as operator:
        refused = viewer.request(Diff())
        assert not refused.ok
        assert "root or a member of group cdnctl" in refused.text
        assert [command for command, _ in strict.engine.asked] == []
        assert operator.request(Diff()).ok


def test_a_console_that_asks_for_much_has_every_answer(strict: ServedDouble) -> None:
    """It reads the agent's own words of refusal, and comes again when they say."""
    count = int(limits.CLIENT_BURST) + 30

    async def ask() -> list[Outcome]:
        session = Session(lambda: AsyncClient(strict.path))
        running = asyncio.create_task(session.run(lambda: None))
        while session.lost:
            await asyncio.sleep(0.01)
        found = [await session.request(BlockPrefix(prefix=f"10.9.9.{number}")) for number in range(count)]
        running.cancel()
        return found

    assert [outcome.text for outcome in asyncio.run(ask())] == [
        f"blocked 10.9.9.{number}" for number in range(count)
    ]
