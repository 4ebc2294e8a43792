"""Who gets in: by the socket's mode, and by the kernel's word on who connected. The view socket's part of it.

Accounts and groups are numbers here: none of them need exist on the box.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from engine_double import EDGE, ServedDouble, serving

from cdnctl.agent import peer, protocol
from cdnctl.agent.blocking import Client
from cdnctl.agent.protocol import Role
from cdnctl.model import (
    BlockPrefix,
    Disarm,
    GetFrame,
    ListBlocks,
    Note,
    Outcome,
    Reload,
    Stop,
    Who,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")

OPERATORS, VIEWERS, OTHERS, ALICE = 54321, 54322, 54323, 54324

_TALK = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(5)
try:
    sock.connect(sys.argv[1])
except PermissionError:
    sys.exit(77)
try:
    sock.sendall(bytes.fromhex(sys.argv[2]))
    sock.shutdown(socket.SHUT_WR)
except BrokenPipeError:
    pass  # it hung up, and said why
print(b"".join(iter(lambda: sock.recv(65536), b"")).hex())
"""


@pytest.fixture
def guarded(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedDouble]:
    """The server, with sockets of those groups."""
    groups: dict[Role, int | None] = {"operate": OPERATORS, "view": VIEWERS}
    with serving(peer.Gate(groups)) as served:
        for path, group in ((served.path, OPERATORS), (served.view_path, VIEWERS)):
            os.chown(path, 0, group)
            path.chmod(0o660)
        yield served


def talk(
    path: Path, *messages: protocol.Up, uid: int = ALICE, groups: Sequence[int] = ()
) -> list[protocol.Down] | None:
    """What that account gets for these messages; None when the mode keeps it out."""
    listed = ",".join(map(str, groups))
    who = ["--reuid", str(uid), "--regid", str(OTHERS)]
    who += ["--groups", listed] if groups else ["--clear-groups"]
    said = b"".join(map(protocol.encode, messages)).hex()
    done = subprocess.run(
        ["setpriv", *who, "--inh-caps=-all", "--", "/usr/bin/python3", "-c", _TALK, str(path), said],
        capture_output=True,
        text=True,
        timeout=20,
    )
    if done.returncode == 77:
        return None
    assert done.returncode == 0, done.stderr
    data, found = bytes.fromhex(done.stdout), []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(protocol.decode_down(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


HELLO = protocol.ClientHello(client="test")
LOOK = protocol.Query(id=1, query=Who())
CHANGE = protocol.Request(id=2, command=Disarm())


def test_members_get_in(guarded: ServedDouble) -> None:
    told = talk(guarded.path, HELLO, LOOK, CHANGE, groups=[OPERATORS])
    assert told
    hello, who, changed = told
    assert isinstance(hello, protocol.ServerHello)
    assert hello.role == "operate"
    assert isinstance(who, protocol.Answer)
    assert who.outcome
    assert [(each.uid, each.user) for each in who.outcome.watchers or []] == [(ALICE, str(ALICE))]
    assert isinstance(changed, protocol.Answer)
    assert changed.outcome
    assert changed.outcome.ok
    command, actor = guarded.engine.asked[0]
    assert (command, actor.uid, actor.role) == (Disarm(), ALICE, "operate")


@pytest.mark.parametrize("groups", [[], [OTHERS], [VIEWERS]])
def test_the_mode_keeps_others_out(guarded: ServedDouble, groups: list[int]) -> None:
    assert talk(guarded.path, HELLO, CHANGE, groups=groups) is None
    assert (talk(guarded.view_path, HELLO, LOOK, groups=groups) is None) == (VIEWERS not in groups)


@pytest.mark.parametrize("groups", [[], [OTHERS], [VIEWERS]])
def test_a_mode_that_was_changed_lets_nobody_in(
    guarded: ServedDouble, groups: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    guarded.path.chmod(0o666)
    with caplog.at_level(logging.INFO, "cdnctl"):
        told = talk(guarded.path, HELLO, CHANGE, groups=groups)
    assert told == [
        protocol.Refused(
            text=f"{ALICE} may not operate edge {EDGE}: root and members of group cdnctl may",
        )
    ]
    assert guarded.engine.asked == []
    assert f"{ALICE} may not operate" in caplog.text
    assert caplog.records[-1].fields["uid"] == ALICE  # type: ignore[attr-defined]
    with Client(guarded.path) as client:
        assert client.request(GetFrame()), "the agent goes on"


def test_operators_do_not_watch_by_the_viewers_socket(guarded: ServedDouble) -> None:
    guarded.view_path.chmod(0o666)
    told = talk(guarded.view_path, HELLO, groups=[OPERATORS])
    assert told
    assert isinstance(told[0], protocol.Refused)


def test_root_needs_no_group(guarded: ServedDouble) -> None:
    for path in (guarded.path, guarded.view_path):
        assert talk(path, HELLO, uid=0)


# --- the view socket ---------------------------------------------------------------------------------


def test_the_view_socket_takes_looks(served: ServedDouble) -> None:
    with Client(served.view_path) as client:
        assert all(client.request(each).ok for each in (ListBlocks(), Who()))


def test_the_view_socket_takes_no_command(served: ServedDouble, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cdnctl"), Client(served.view_path) as client:
        for change in (
            Disarm(),
            Disarm(dry_run=True),
            Stop(),
            Note(text="x"),
            Reload(),
            BlockPrefix(prefix="10.0.0.1"),
        ):
            outcome = client.request(change)
            assert not outcome.ok
            assert "the view socket takes no command" in outcome.text
        assert client.request(GetFrame()), "and goes on"
    assert served.engine.asked == []
    assert "the view socket takes no command" in caplog.text


def test_on_the_view_socket_a_command_is_not_even_decoded(
    served: ServedDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    real = protocol.decode_up
    monkeypatch.setattr(protocol, "decode_up", lambda body: decoded.append(body) or real(body))
    with Client(served.view_path) as client:
        client.request(Disarm())
        assert decoded == []
        client.request(Who())
        assert len(decoded) == 1


def test_a_command_does_not_pass_as_a_query(served: ServedDouble) -> None:
    """Nor by another tag: what a query may hold is no command."""
    for path in (served.view_path, served.path):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            sock.sendall(protocol.encode(HELLO))
            body = protocol.encode(CHANGE)[4:].replace(b"\xa7request", b"\xa5query")
            body = body.replace(b"\xa7command", b"\xa5query")
            sock.sendall(len(body).to_bytes(4, "big") + body)
            reader = sock.makefile("rb")
            told = [
                protocol.decode_down(reader.read(int.from_bytes(reader.read(4), "big"))) for _ in range(2)
            ]
        assert isinstance(told[1], protocol.Answer)
        assert isinstance(told[1].outcome, Outcome)
        assert "cannot be read" in told[1].outcome.text
    assert served.engine.asked == []
