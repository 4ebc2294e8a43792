"""Which edge is meant, where its agent listens, and what that was started with."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import tomllib
from pathlib import Path

import msgspec

from cdnctl import paths
from cdnctl.errors import NoAgent, UsageError, sudo_line

_PROBE_S = 0.2
_LOCKS = Path("/proc/locks")
_PEER = struct.Struct("3i")
"""struct ucred: who listens, as the kernel says."""


class Start(msgspec.Struct, frozen=True):
    """What an agent was started with."""

    config: str
    netns: str = ""
    """The network namespace that it lives in; empty: the box's own, or one without a name."""


def start_of(edge: str) -> Start | None:
    """What the edge's last agent was started with: it runs, or the data path that it left may go on."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(paths.start_path(edge).read_bytes(), type=Start)
    return None


def config_of(edge: str) -> Path:
    """The file that is meant when none is named: its agent's own, but for one that `CDNCTL_CONFIG` names."""
    file = paths.config_path()
    if not edge or (os.environ.get("CDNCTL_CONFIG") and edge_of_config(file) == edge):
        return file
    start = start_of(edge)
    return Path(start.config) if start else file


def find_edge(edge: str | None = None) -> Path:
    """The socket of the edge meant: `edge`, else `CDNCTL_EDGE`, else the only agent there is.

    Raises UsageError when several agents run and none is named, NoAgent when none does. The socket
    of a named edge is returned even if nobody listens: connecting tells.
    """
    if name := named_edge(edge):
        return paths.socket_path(name)
    found = [path for path in sockets() if _is_alive(path)]
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise UsageError(
            f"several edges run here: {names}", f"name one: --edge {found[0].stem}, or CDNCTL_EDGE"
        )
    if found:
        return found[0]
    raise no_agent()


def named_edge(edge: str | None) -> str:
    """`edge` or `CDNCTL_EDGE`, checked; empty when neither names one."""
    name = edge or os.environ.get("CDNCTL_EDGE") or ""
    if not name:
        return ""
    try:
        return paths.check_name(name)
    except ValueError as error:
        raise UsageError(f"--edge: {error}") from None


def sockets() -> list[Path]:
    """Where agents listen or did until they were killed, by edge name."""
    with contextlib.suppress(OSError):
        return sorted(path for path in paths.run_dir().glob("*.sock") if "." not in path.stem)
    return []


def view_path(path: Path) -> Path:
    """The view socket beside an agent's main socket."""
    return path.with_name(f"{path.stem}.view.sock")


def pinned_edges() -> list[str]:
    """Edges whose data path is pinned in bpffs, agent or not; empty when bpffs cannot be read."""
    with contextlib.suppress(OSError):
        return sorted(path.name for path in (paths.BPFFS / "cdnctl").iterdir() if path.is_dir())
    return []


def edge_of_config(path: Path) -> str:
    """Just the edge's name in the file, unchecked otherwise; empty when it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return paths.check_name(tomllib.loads(path.read_text())["edge"]["name"])
    return ""


def guess_edge(edge: str | None = None) -> str:
    """The edge meant when no agent answers: named, listening or pinned, left over, configured.

    Of the edges with a socket, one that neither listens nor is pinned is only a leftover, and counts
    when there is nothing better: in an emergency it must not make the edge ambiguous.
    With a run directory of one's own (`CDNCTL_RUN_DIR`) the pins are asked last, and of them only those
    that no agent holds: bpffs is shared, and what is pinned there may be another run directory's edge,
    alive and well.
    """
    all_pinned = pinned_edges()
    known = [path.stem for path in sockets()]
    real = [path.stem for path in sockets() if path.stem in all_pinned or _is_alive(path)]
    pinned = [] if os.environ.get("CDNCTL_RUN_DIR") else all_pinned
    configured = edge_of_config(paths.config_path())
    for names in ([named_edge(edge)], real, pinned, known, [configured], _unheld(all_pinned)):
        candidates = [name for name in names if name]
        if len(candidates) > 1:
            raise UsageError(f"several edges are here: {', '.join(candidates)}", "name one with --edge")
        if candidates:
            return candidates[0]
    raise UsageError("which edge is not known: no agent answers and none is named", "name one with --edge")


def _unheld(edges: list[str]) -> list[str]:
    """Those whose lock no agent holds, in whatever run directory; as far as this user may see."""
    held: set[str] = set()
    with contextlib.suppress(OSError):
        for words in map(str.split, _LOCKS.read_text().splitlines()):
            if words[1] == "FLOCK":
                held |= _open_locks(words[4])
    return [edge for edge in edges if edge not in held]


def _open_locks(pid: str) -> set[str]:
    """Names of the edges whose lock files a process has open."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for link in Path("/proc", pid, "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                name = link.readlink().name
                found |= {name.removesuffix(".lock")} if name.endswith(".lock") else set()
    return found


def no_agent(edge: str = "") -> NoAgent:
    """The error for an edge nobody serves, with what to do about it."""
    pinned = pinned_edges()
    wanted = f"edge {edge}" if edge else "any edge here"
    start = sudo_line([sys.argv[0], "attach", *(["--edge", edge] if edge else [])])
    goes_on = ""
    if edge in pinned or (not edge and pinned):
        goes_on = f"; the data path of {edge or ', '.join(pinned)} goes on without one"
    return NoAgent(f"no agent serves {wanted}{goes_on}", f"start one: {start}")


def agent_pid(path: Path) -> int:
    """The process that listens at an agent's main socket, whether it answers or not; 0 when nothing tells."""
    with contextlib.suppress(OSError, ValueError):  # root alone may read it
        return int(path.with_suffix(".lock").read_text())
    for each in (path, view_path(path)):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PROBE_S)
            sock.connect(str(each))
            pid, _uid, _gid = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            return int(pid)
    return 0


def _is_alive(path: Path) -> bool:
    """Whether a process listens; one that is stopped or that we may not reach counts.

    Who may only watch is told by the view socket: an agent listens at both or at none.
    """
    try:
        return _listens(path)
    except PermissionError:
        with contextlib.suppress(PermissionError):
            return not view_path(path).exists() or _listens(view_path(path))
        return True


def _listens(path: Path) -> bool:
    """Raises PermissionError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PROBE_S)
        try:
            sock.connect(str(path))
        except PermissionError:
            raise
        except (TimeoutError, BlockingIOError):
            return True
        except OSError:
            return False
        return True
