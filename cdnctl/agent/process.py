"""What surrounds the server in its process: privileges, namespace, lock, sockets."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cdnctl import paths
from cdnctl.agent.edge import Start
from cdnctl.agent.protocol import Role
from cdnctl.errors import AgentRuns, CdnctlError, NotPermitted, sudo_line

# linux/capability.h; the last two may be covered by SYS_ADMIN, as before Linux 5.8.
_NET_ADMIN, _SYS_ADMIN, _PERFMON, _BPF = 12, 21, 38, 39
_CLONE_NEWNET = 0x40000000
_BACKLOG = 64
_NETNS = Path("/run/netns")


def missing_privileges() -> str:
    """What this process lacks to load and attach the data path; empty when it has all."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split(None, 1)[0], 16)
    lacks = []
    if not effective >> _NET_ADMIN & 1:
        lacks.append("CAP_NET_ADMIN")
    if not effective >> _SYS_ADMIN & 1:
        lacks += [
            name for name, bit in (("CAP_BPF", _BPF), ("CAP_PERFMON", _PERFMON)) if not effective >> bit & 1
        ]
    return " and ".join(lacks)


def require_privileges() -> None:
    """Raise NotPermitted, with the line to type, when loading would fail for lack of privileges."""
    if not (lacks := missing_privileges()):
        return
    if os.geteuid() == 0:
        raise CdnctlError(
            f"root, but without {lacks}: loading and attaching the data path needs it",
            "give it to this container or unit",
        )
    raise NotPermitted("loading and attaching the data path needs root", sudo_line())


def enter_netns(name: str) -> None:
    """Move this thread (call it before starting others) into the named network namespace."""
    path = _NETNS / name
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CdnctlError(
            f"network namespace {name!r}: {error.strerror} ({path})", "`ip netns list` shows those there are"
        ) from None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise CdnctlError(f"network namespace {name!r}: cannot enter: {reason}", "enter it as root")
    finally:
        os.close(handle)


def netns_name() -> str:
    """The name of this thread's network namespace; empty where it has none, as the box's own."""
    here = os.stat("/proc/thread-self/ns/net")
    with contextlib.suppress(OSError):
        named = (path for path in _NETNS.iterdir() if os.path.samestat(here, path.stat()))
        return next((path.name for path in named), "")
    return ""


def make_run_dir() -> None:
    """Make the run directory, open to be looked into whatever the umask; one that is there stays as it is."""
    directory = paths.run_dir()
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        if not directory.is_dir():
            raise
    else:
        directory.chmod(0o755)


@contextlib.contextmanager
def sole_agent(edge: str) -> Iterator[None]:
    """Hold the lock of `edge`; raises AgentRuns when another agent holds it."""
    path = paths.lock_path(edge)
    try:
        make_run_dir()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Who can open it can lock it, and keep the agent from starting; earlier versions let everybody.
        os.fchmod(handle, 0o600)
    except OSError as error:
        raise CdnctlError(
            f"{path}: {error.strerror}", "the agent keeps its lock and sockets there; make it writable"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
        os.close(handle)
        if not (holder.isascii() and holder.isdigit()):
            raise AgentRuns(
                f"{path} is held by a process that did not say who it is: an agent that starts or ends",
                f"try again; `fuser {path}` shows the process",
            ) from None
        raise AgentRuns(
            f"an agent serves edge {edge} already (pid {holder})",
            f"watch it with `cdnctl --edge {edge}`, or end it with `kill {holder}`",
        ) from None
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)  # the file stays: removing it would let two agents lock two different files


def note_start(edge: str, config: Path) -> None:
    """Tell those who come later what this agent works with. Call it in its network namespace."""
    start = Start(str(config), netns_name())
    with contextlib.suppress(OSError):  # they will have to be told
        paths.start_path(edge).write_bytes(msgspec.json.encode(start) + b"\n")
        paths.start_path(edge).chmod(0o644)


@contextlib.contextmanager
def listening(edge: str) -> Iterator[dict[Role, socket.socket]]:
    """The two sockets of `edge`, open to their groups; gone afterwards. Hold the edge's lock."""
    wanted: list[tuple[Role, Path, str]] = [
        ("operate", paths.socket_path(edge), paths.OPERATORS_GROUP),
        ("view", paths.view_socket_path(edge), paths.VIEWERS_GROUP),
    ]
    with contextlib.ExitStack() as cleanup:
        sockets: dict[Role, socket.socket] = {}
        for role, path, group in wanted:
            # What is there is left over from an agent that was killed: we hold its lock.
            path.unlink(missing_ok=True)
            sockets[role] = cleanup.enter_context(_listen(path, group))
            cleanup.callback(path.unlink, missing_ok=True)
        yield sockets


def _listen(path: Path, group: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # closed to everybody until it has its group
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise CdnctlError(
            f"{path}: {error.strerror or error}", "make that directory writable, its path short"
        ) from None
    finally:
        os.umask(before)
    with contextlib.suppress(KeyError):
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(0o660)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock
