"""Requests that come twice, and clients that lose their connection in the middle of one."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine_double import ServedDouble

from cdnctl.agent import outcomes, protocol
from cdnctl.agent.client import AsyncClient, Client
from cdnctl.errors import NoAgent, Uncertain
from cdnctl.model import Arm, BlockPrefix, GetFrame, Mark, Outcome, Reload, SetWeights

BLOCK = BlockPrefix(prefix="198.51.100.7")


def changes(served: ServedDouble) -> list[object]:
    return [command for command, _ in served.engine.asked]


def ask(
    client: Client,
    number: int,
    command: BlockPrefix | Arm | Mark | Reload | SetWeights,
    *,
    again: bool = False,
) -> Outcome | None:
    client._send(protocol.Request(id=number, command=command, again=again))
    answer = client._receive(10**9)
    assert isinstance(answer, protocol.Answer)
    assert answer.id == number
    return answer.outcome


# --- at the server -----------------------------------------------------------------------------------


def test_a_number_that_comes_again_gets_the_first_outcome(served: ServedDouble) -> None:
    with served.client() as client:
        first = ask(client, 7, BLOCK)
        assert ask(client, 7, BLOCK) == first
        assert ask(client, 7, BLOCK, again=True) == first
        assert changes(served) == [BLOCK]
        other = ask(client, 7, Arm())
        assert other
        assert not other.ok
        assert "another command" in other.text
        ask(client, 3, Arm())
        assert changes(served) == [BLOCK, Arm()]


def test_numbers_are_a_clients_own(served: ServedDouble) -> None:
    with served.client() as one, served.client() as two:
        ask(one, 1, BLOCK)
        ask(two, 1, BLOCK)
    assert changes(served) == [BLOCK, BLOCK]


def test_a_session_goes_on_over_another_connection(served: ServedDouble) -> None:
    with served.client() as one, served.client() as two:
        first = ask(one, 1, BLOCK)
        two._hello = one._hello
        two.close()
        two._open(10**9)
        assert ask(two, 1, BLOCK, again=True) == first
    assert changes(served) == [BLOCK]


def test_what_never_arrived_is_carried_out_when_asked_again(served: ServedDouble) -> None:
    with served.client() as client:
        outcome = ask(client, 1, BLOCK, again=True)
        assert outcome
        assert outcome.ok
    assert changes(served) == [BLOCK]


def test_what_had_to_be_forgotten_is_not_done_twice(
    served: ServedDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "KEPT", 3)
    with served.client() as client:
        for number in range(5):
            ask(client, number, Arm())
        assert ask(client, 0, Arm(), again=True) is None
        assert ask(client, 4, Arm(), again=True)
    assert len(changes(served)) == 5


def test_what_is_refused_unread_takes_no_room(served: ServedDouble) -> None:
    with served.client() as client:
        for number in range(20):
            refused = ask(client, number, Mark(text="x" * 200_000))
            assert refused
            assert "at most 300" in refused.text
        assert ask(client, 7, Mark(text="x" * 200_000), again=True) == refused
        for number, command in enumerate((Arm(), Mark(text="short")), 20):
            assert ask(client, number, command)
        long_name = ask(client, 30, SetWeights(weights={"x" * 200_000: 1}))
        assert long_name
        assert "names of at most 300" in long_name.text
    kept = served.server._outcomes._first.values()
    assert [first.is_of(Arm()) for first in kept] == [True, False]
    assert len(changes(served)) == 2


def test_of_a_long_command_only_what_became_of_it_is_kept(served: ServedDouble) -> None:
    many = SetWeights(weights={f"{at:0300}": 1 for at in range(500)})
    with served.client() as client:
        first = ask(client, 1, many)
        assert ask(client, 1, many, again=True) == first
    (kept,) = served.server._outcomes._first.values()
    assert len(pickle.dumps(kept)) < 2_000
    assert changes(served) == [many]


def test_a_long_command_with_a_number_that_had_another_is_refused(served: ServedDouble) -> None:
    with served.client() as client:
        ask(client, 1, Arm())
        refused = ask(client, 1, Mark(text="x" * 200_000))
        assert refused
        assert "another command" in refused.text


def test_outcomes_are_kept_for_their_time() -> None:
    now_s = 0.0
    kept = outcomes.Outcomes(lambda: now_s)
    key = outcomes.Key(0, "token", 1)
    kept.keep(key, Arm(), Outcome(ok=True, text="armed"))
    now_s = outcomes.KEPT_S - 1
    assert kept.find(key)
    now_s = outcomes.KEPT_S + 1
    assert kept.find(key) is None
    assert kept.is_whole


def test_a_reload_goes_on_without_its_client_and_is_told_to_who_comes_back(served: ServedDouble) -> None:
    served.engine.reload_s = 0.3
    with served.client() as client:
        client._send(protocol.Request(id=1, command=Reload()))
        while not changes(served):
            pass
        client.close()
        client._open(10**9)
        outcome = ask(client, 1, Reload(), again=True)
        assert outcome
        assert outcome.text == "reloaded: cdn corona is new"
    assert changes(served) == [Reload()]


# --- clients whose connection breaks -----------------------------------------------------------------


@contextmanager
def cutting(
    served: ServedDouble, *, cut_before: bool, cuts: int = 1, once_cut: object = None
) -> Iterator[Path]:
    """A line to the server that breaks at the first request, before it arrives or before its answer does."""
    path = served.path.with_name(f"cut-{os.getpid()}.sock")
    left = [cuts]
    threads: list[threading.Thread] = []

    def carry(client: socket.socket, server: socket.socket) -> None:
        with client, server:
            server.sendall(client.recv(65536))  # the hello
            client.sendall(server.recv(65536))
            while data := client.recv(65536):
                if left[0]:
                    left[0] -= 1
                    if not cut_before:
                        server.sendall(data)
                        server.recv(65536)
                    if callable(once_cut):
                        once_cut()
                    return
                server.sendall(data)
                client.sendall(server.recv(65536))

    def take(sock: socket.socket) -> None:
        while True:
            try:
                client = sock.accept()[0]
            except OSError:
                return
            threads.append(threading.Thread(target=carry, args=(client, served.raw())))
            threads[-1].start()

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(8)
        taking = threading.Thread(target=take, args=(sock,))
        taking.start()
        try:
            yield path
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            taking.join(5)
            for thread in threads:
                thread.join(5)


@pytest.mark.parametrize("cut_before", [False, True])
def test_a_change_whose_answer_was_lost_is_made_once(served: ServedDouble, cut_before: bool) -> None:
    with cutting(served, cut_before=cut_before) as path, Client(path) as client:
        assert client.request(BLOCK).text == "blocked 198.51.100.7"
        assert changes(served) == [BLOCK]
        assert client.request(Arm()).ok, "the connection goes on"


@pytest.mark.parametrize("cut_before", [False, True])
async def test_the_same_in_asyncio(served: ServedDouble, cut_before: bool) -> None:
    def run() -> str:
        async def ask() -> str:
            client = AsyncClient(path, frames=False, history=0)
            await client.connect()
            text = (await client.request(BLOCK)).text
            await client.close()
            return text

        return asyncio.run(ask())

    with cutting(served, cut_before=cut_before) as path:
        assert await asyncio.to_thread(run) == "blocked 198.51.100.7"
    assert changes(served) == [BLOCK]


def test_a_look_is_taken_again(served: ServedDouble) -> None:
    with cutting(served, cut_before=False) as path, Client(path) as client:
        assert client.request(GetFrame()).frame


def test_of_another_agent_nothing_is_asked(served: ServedDouble) -> None:
    def become_another() -> None:
        served.server.instance = "another"

    with cutting(served, cut_before=True, once_cut=become_another) as path, Client(path) as client:
        with pytest.raises(Uncertain, match="started anew: the change may or may not"):
            client.request(BLOCK)
        assert changes(served) == []
        assert client.request(GetFrame()).frame


def test_with_the_agent_gone_it_is_said_what_is_not_known(served: ServedDouble) -> None:
    path = served.path.with_name(f"cut-{os.getpid()}.sock")
    with cutting(served, cut_before=False, once_cut=path.unlink), Client(path) as client:
        with pytest.raises(NoAgent, match="the change may or may not have been made") as raised:
            client.request(BLOCK)
    assert raised.value.remedy.startswith("`cdnctl journal -n 1` tells whether it was; start one: ")
    assert changes(served) == [BLOCK]


def test_a_plan_that_did_not_come_says_that_nothing_changed(served: ServedDouble) -> None:
    path = served.path.with_name(f"cut-{os.getpid()}.sock")
    with cutting(served, cut_before=False, once_cut=path.unlink), Client(path) as client:
        with pytest.raises(NoAgent, match="hung up; it was only to say what would happen"):
            client.request(BlockPrefix(prefix="198.51.100.7", dry_run=True))


@pytest.mark.parametrize(
    ("last_word", "said"),
    [
        ("", "hung up before anything was asked of it"),
        ("the agent ends", "hung up: the agent ends; the change may or may not have been made"),
    ],
)
async def test_an_agent_that_ends_is_said_with_what_is_not_known(
    tmp_path: Path, last_word: str, said: str
) -> None:
    """It takes the connection, and greets and takes leave, or not even that."""

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if last_word:
            writer.write(protocol.encode(protocol.ServerHello(edge="ams1", role="operate", instance="x")))
            await reader.readexactly(protocol.HEADER)
            await asyncio.sleep(0.1)
            writer.write(protocol.encode(protocol.Refused(text=last_word)))
        writer.close()

    def ask() -> None:
        with Client(path) as client:
            client.request(BLOCK)

    path = tmp_path / "ams1.sock"
    async with await asyncio.start_unix_server(end, path):
        with pytest.raises(NoAgent, match=said):
            await asyncio.to_thread(ask)
        if last_word:
            client = AsyncClient(path)
            await client.connect()
            with pytest.raises(NoAgent, match=said):
                await client.request(BLOCK)
            await client.close()


def test_two_breaks_are_one_too_many(served: ServedDouble) -> None:
    with cutting(served, cut_before=False, cuts=2) as path, Client(path) as client:
        with pytest.raises(NoAgent, match="hung up; the change may or may not have been made"):
            client.request(BLOCK)
    assert changes(served) == [BLOCK]
