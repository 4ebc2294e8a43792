"""Who is at the other end of a Unix socket: the kernel's word, not the client's."""

from __future__ import annotations

import contextlib
import pwd
import socket
import struct
from pathlib import Path

from cdnctl.agent.protocol import Role
from cdnctl.model import Actor

_UCRED = struct.Struct("iII")
_NO_LOGIN = 0xFFFFFFFF
_NAME_LENGTH = 32


def actor(sock: socket.socket, client: str, role: Role) -> Actor:
    """The peer of `sock`: account, pid, and the name it gives its program, cleaned and cut."""
    pid, uid, _gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    name = "".join(c for c in client if c.isascii() and c.isprintable())[:_NAME_LENGTH]
    return Actor(user=_account(uid, pid), uid=uid, pid=pid, client=name or "unnamed", role=role)


def _account(uid: int, pid: int) -> str:
    """`alice`, or `alice as root` when somebody logged in as alice and became root.

    The login account is the kernel's audit record, which sudo leaves alone; absent in containers.
    """
    in_force = _user_name(uid)
    login = _NO_LOGIN
    with contextlib.suppress(OSError, ValueError):
        login = int(Path(f"/proc/{pid}/loginuid").read_text())
    return in_force if login in (_NO_LOGIN, uid) else f"{_user_name(login)} as {in_force}"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
