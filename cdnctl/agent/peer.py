"""Who is at the other end of a Unix socket: the kernel's word, not the client's.

Its account and process are those that connected (SO_PEERCRED), and so are its groups (SO_PEERGROUPS): what
the process really had, which is what the socket's mode was asked about. The account data base is not asked:
it may be a network away, and says what a new login would get, not what this process has.

Mode and groups are checked both. The mode keeps strangers from connecting at all; the groups are looked at
again here because a mode is easily changed by accident (a `chmod -R`, a copied directory), and must then let
nobody in.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from cdnctl import paths
from cdnctl.agent.protocol import Role
from cdnctl.model import Actor

_UCRED = struct.Struct("iII")
_SO_PEERGROUPS = 59
_GROUPS_BYTES = 1024
"""As much as Python asks for: 256 groups. Of who is in more the first group alone counts."""
_NO_LOGIN = 0xFFFFFFFF
_NAME_LENGTH = 32
GROUPS: dict[Role, str] = {"operate": paths.OPERATORS_GROUP, "view": paths.VIEWERS_GROUP}


class Credentials(NamedTuple):
    """Of a process, when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    @property
    def user(self) -> str:
        """The account in force."""
        return _user_name(self.uid)


def credentials(sock: socket.socket) -> Credentials:
    """Of the peer of `sock`. Raises OSError."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    others = b""
    with contextlib.suppress(OSError):
        others = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    return Credentials(pid, uid, frozenset({gid, *(each for (each,) in struct.iter_unpack("I", others))}))


class Gate:
    """Who may come in by which socket: root, the agent's own account, and the socket's group."""

    def __init__(self, groups: dict[Role, int | None] | None = None) -> None:
        """`groups`: numbers, None where a group does not exist; those of the box if not given."""
        self._groups = {role: _gid(name) for role, name in GROUPS.items()} if groups is None else groups

    def refusal(self, who: Credentials, role: Role, edge: str) -> str:
        """Why they may not; empty when they may."""
        if who.uid in (0, os.geteuid()) or self._groups.get(role) in who.groups:
            return ""
        verb = "operate" if role == "operate" else "watch"
        return f"{who.user} may not {verb} edge {edge}: root and members of group {GROUPS[role]} may"


def actor(who: Credentials, client: str, role: Role) -> Actor:
    """The peer as an actor: account, pid, and the name it gives its program, cleaned and cut."""
    name = "".join(c for c in client if c.isascii() and c.isprintable())[:_NAME_LENGTH]
    user = _account(who.uid, who.pid)
    return Actor(user=user, uid=who.uid, pid=who.pid, client=name or "unnamed", role=role)


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


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
