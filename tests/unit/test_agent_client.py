"""Finding an agent, talking to it in asyncio, and what is said when there is none."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine_double import EDGE, ServedDouble

from cdnctl import paths
from cdnctl.agent import blocking, edge, protocol, start
from cdnctl.agent.client import AsyncClient, Client, find_edge
from cdnctl.errors import AgentRefused, AgentSilent, NoAgent, UsageError
from cdnctl.model import Arm, Stop


@contextmanager
def listener(path: Path) -> Iterator[None]:
    """Somebody who listens and never answers, like an agent under SIGSTOP."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(1)
        yield


def test_no_agent_is_said_with_the_remedy(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["cdnctl", "status"])
    monkeypatch.setattr(edge, "pinned_edges", list)
    with pytest.raises(NoAgent) as raised:
        find_edge()
    assert "no agent serves" in raised.value.message
    assert raised.value.remedy.endswith("cdnctl attach")
    monkeypatch.setattr(edge, "pinned_edges", lambda: ["ams1"])
    with pytest.raises(NoAgent, match="the data path of ams1 goes on without one"):
        find_edge()


def test_the_edge_is_named_or_the_only_one(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener(paths.socket_path("ams1")), listener(paths.view_socket_path("ams1")):
        assert find_edge() == paths.socket_path("ams1")
        with listener(paths.socket_path("fra1")):
            with pytest.raises(UsageError, match="ams1, fra1") as raised:
                find_edge()
            assert raised.value.exit_code == 2
            assert find_edge("fra1") == paths.socket_path("fra1")
            monkeypatch.setenv("CDNCTL_EDGE", "ams1")
            assert find_edge() == paths.socket_path("ams1")
            assert find_edge("fra1") == paths.socket_path("fra1")
            monkeypatch.delenv("CDNCTL_EDGE")
        # A socket that outlived its agent does not count.
        assert find_edge() == paths.socket_path("ams1")
    with pytest.raises(UsageError, match="no valid name"):
        find_edge("../../etc")


def test_without_an_agent_the_edge_is_guessed(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "pinned_edges", list)
    with pytest.raises(UsageError, match="which edge is not known"):
        edge.guess_edge()
    paths.config_path().write_text('[edge]\nname = "fra1"\n')
    assert edge.guess_edge() == "fra1"
    monkeypatch.setattr(edge, "pinned_edges", lambda: ["ams1"])
    assert edge.guess_edge() == "fra1", "the pins may be those of another run directory"
    monkeypatch.setattr(edge, "sockets", list)
    monkeypatch.delenv("CDNCTL_RUN_DIR")
    assert edge.guess_edge() == "ams1"
    monkeypatch.setattr(edge, "pinned_edges", lambda: ["ams1", "ams2"])
    with pytest.raises(UsageError, match="ams1, ams2"):
        edge.guess_edge()
    assert edge.guess_edge("lon1") == "lon1"


def test_the_only_data_path_is_meant_unless_an_agent_elsewhere_holds_it(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = f"only-{os.getpid()}"
    monkeypatch.setattr(edge, "pinned_edges", lambda: [name])
    assert edge.guess_edge() == name
    elsewhere = tmp_path_factory.mktemp("elsewhere") / f"{name}.lock"
    with elsewhere.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="which edge is not known"):
            edge.guess_edge()
    assert edge.guess_edge() == name
    monkeypatch.setattr(edge, "pinned_edges", lambda: [name, "other"])
    with pytest.raises(UsageError, match=f"several edges are here: {name}, other"):
        edge.guess_edge()


def test_left_over_sockets_do_not_make_the_edge_ambiguous(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "pinned_edges", list)
    for name in ("fra1", "lon1"):
        paths.socket_path(name).touch()
    with pytest.raises(UsageError, match="fra1, lon1"):
        edge.guess_edge()
    monkeypatch.setattr(edge, "pinned_edges", lambda: ["lon1", "elsewhere"])
    assert edge.guess_edge() == "lon1"
    with listener(paths.socket_path("ams1")):
        with pytest.raises(UsageError, match="ams1, lon1"):
            edge.guess_edge()
        monkeypatch.setattr(edge, "pinned_edges", list)
        assert edge.guess_edge() == "ams1"


def test_an_agent_of_another_version_is_no_reason_to_start_one(
    served: ServedDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdnctl.agent.protocol.VERSION", 3)
    monkeypatch.setattr(start, "_start", lambda *_: pytest.fail("started a second agent"))
    hello = protocol.encode(protocol.ClientHello(version=1, client="old"))
    monkeypatch.setattr(
        protocol,
        "encode",
        lambda message, real=protocol.encode: (
            hello if isinstance(message, protocol.ClientHello) else real(message)
        ),
    )
    paths.config_path().write_text(f'[edge]\nname = "{EDGE}"\n')
    with pytest.raises(AgentRefused, match="speaks protocol 3, the client 1"):
        start.ensure_agent()


def test_a_hung_agent_is_told_from_none(run_dir: Path) -> None:
    path = paths.socket_path("ams1")
    with listener(path), pytest.raises(AgentSilent, match=r"does not answer within 0\.1 s"):
        Client(path, timeout_s=0.1)
    with pytest.raises(NoAgent):
        Client(path)
    path.unlink()
    with pytest.raises(NoAgent):
        Client(path)


def test_who_may_not_operate_watches(served: ServedDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    real = blocking._connect_to

    def refuse(path: Path, timeout_s: float) -> socket.socket:
        if path == served.path:
            raise PermissionError
        return real(path, timeout_s)

    monkeypatch.setattr(blocking, "_connect_to", refuse)
    with served.client() as client:
        assert client.role == "view"


def test_the_connection_is_not_read_as_another_protocol(run_dir: Path) -> None:
    path = paths.socket_path("ams1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        sock.listen(1)

        def answer() -> None:
            peer, _ = sock.accept()
            with peer:
                peer.sendall(b"\xff" * 64)
                peer.recv(4096)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Exception, match="the agent sent a message of 4294967295 bytes"):
            Client(path)
        thread.join()


# --- asyncio -----------------------------------------------------------------------------------------


async def test_async_frames_and_requests_go_together(served: ServedDouble) -> None:
    client = AsyncClient(served.path, client="console", history=5)
    await client.connect()
    assert (client.edge, client.role) == (EDGE, "operate")

    async def take(count: int) -> list[int]:
        found: list[int] = []
        async for frame in client.frames():
            found.append(frame.seq)
            if len(found) == count:
                break
        return found

    seqs, *outcomes = await asyncio.gather(take(10), *(client.request(Arm()) for _ in range(10)))
    assert [outcome.ok for outcome in outcomes] == [True] * 10
    assert [seq - seqs[0] for seq in seqs] == list(range(10))
    await client.close()
    with pytest.raises(NoAgent):
        await client.request(Arm())


async def test_async_frames_end_with_the_agents_last_word(served: ServedDouble) -> None:
    client = AsyncClient(served.path)
    await client.connect()
    assert (await client.request(Stop())).ok
    with pytest.raises(NoAgent, match="the agent ends"):
        async for _frame in client.frames():
            pass
    await client.close()


async def test_async_errors(run_dir: Path) -> None:
    path = paths.socket_path("ams1")
    with pytest.raises(NoAgent):
        await AsyncClient(path).connect()
    with listener(path), pytest.raises(AgentSilent):
        await AsyncClient(path).connect(timeout_s=0.1)
