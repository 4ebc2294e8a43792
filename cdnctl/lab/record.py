"""What a lab has made, on disk while it runs; and how that is removed by whoever comes next.

The record is written before the first thing is made and removed after the last one is gone, so a lab
that was killed with -9 has left either nothing or a record.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from cdnctl import paths
from cdnctl.lab import netns
from cdnctl.lab.processes import Identity, LabError, start_time

TEMPORARY_PREFIX = "cdnctl-lab-"
TAPS = paths.BPFFS / "cdnctl-lab"
"""Pins of the labs' taps, apart from those of edges."""
END_S = 3.0
"""How long a process of a dead lab may take to end before it is made to."""


class Record(msgspec.Struct, kw_only=True):
    """The things of one lab that outlive its process."""

    name: str
    owner: Identity
    directory: str
    """Temporary files: configuration, logs, state, nginx's home."""
    namespaces: list[str]
    pins: list[str]
    """Directories of bpffs."""
    made: list[str]
    """Common directories that were not there before; they go when they are empty."""
    processes: list[Identity] = msgspec.field(default_factory=list)

    def save(self) -> None:
        """Write it, whole or not at all."""
        path = record_path(self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self))
        fresh.replace(path)

    def add(self, pid: int, what: str) -> None:
        """Note a process."""
        self.processes = [p for p in self.processes if p.alive()] + [Identity.of(pid, what)]
        self.save()

    def files(self) -> list[Path]:
        """Sockets, locks and whatever else an agent keeps beside them; no name has a dot in it."""
        return sorted(paths.run_dir().glob(f"{self.name}.*"))

    def leftovers(self) -> list[str]:
        """What of it is still there, in words; empty when all is gone."""
        left = [f"process {p.pid} ({p.what})" for p in self.processes if p.alive()]
        left += [f"namespace {name}" for name in self.namespaces if netns.path(name).exists()]
        left += [path for path in (self.directory, *self.pins) if os.path.lexists(path)]
        return left + [str(path) for path in self.files()]

    def remove_all(self) -> list[str]:
        """End the processes, remove everything and the record; return what would not go."""
        end_all(self.processes)
        for name in self.namespaces:
            with contextlib.suppress(OSError):
                netns.remove(name)
        for directory in self.pins:
            if Path(directory).parent in (paths.BPFFS / "cdnctl", TAPS):
                shutil.rmtree(directory, ignore_errors=True)
        for file in self.files():
            with contextlib.suppress(OSError):
                file.unlink()
        if Path(self.directory).name.startswith(TEMPORARY_PREFIX):
            shutil.rmtree(self.directory, ignore_errors=True)
        left = self.leftovers()
        if not left:
            record_path(self.name).unlink(missing_ok=True)
            for directory in (str(TAPS), *self.made):  # the first is only labs' own
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        return left


def end_all(processes: list[Identity]) -> None:
    """SIGTERM to those that still are who they were, SIGKILL after `END_S`."""
    for process in processes:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)
    deadline = time.monotonic() + END_S
    while any(process.alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in processes:
        process.send(signal.SIGKILL)
    deadline = time.monotonic() + END_S
    while any(process.alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def record_path(name: str) -> Path:
    """Where the record of the lab called `name` is."""
    return paths.run_dir() / f"lab-{paths.check_name(name)}.json"


def load(name: str) -> Record | None:
    """The record of a lab, running or dead; None when there is none."""
    try:
        return msgspec.json.decode(record_path(name).read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LabError(f"{record_path(name)} is damaged: {error}", "look at it, then remove it") from error


def cleanup(name: str) -> list[str]:
    """Remove what a dead lab of this name left; return what it was, in words.

    LabError when that lab is alive, or when something of it will not go.
    """
    record = load(name)
    if record is None:
        return []
    if record.owner.alive() and record.owner.pid != os.getpid():
        raise LabError(
            f"a lab called {name} is running (pid {record.owner.pid})", "take another name, with --name"
        )
    found = record.leftovers()
    if left := record.remove_all():
        raise LabError(f"left by an earlier lab and not to be removed: {', '.join(left)}")
    return found


def claim(name: str, namespaces: list[str], say: Callable[[str], None]) -> Record:
    """Clean up after a dead lab of this name, then open the record of a new one, of this process.

    LabError when the name is taken: by a lab that is alive or just starts, by somebody's edge or namespace.
    """
    pins = [paths.pin_dir(name), TAPS / name]
    common = [paths.run_dir(), paths.BPFFS / "cdnctl", TAPS]
    earlier = load(name)
    made = [str(path) for path in common if not path.exists()] + (earlier.made if earlier else [])
    with _alone(name):
        for leftover in cleanup(name):
            say(f"removed what an earlier lab left: {leftover}")
        sockets = (paths.socket_path(name), paths.view_socket_path(name))
        if strange := [str(path) for path in (*pins, *sockets) if os.path.lexists(path)]:
            raise LabError(
                f"an edge called {name} seems to be on this box: {', '.join(strange)}",
                "take another name for the lab, with --name",
            )
        # Whatever a record of ours listed is gone by now: these are somebody else's.
        if strange := [space for space in namespaces if os.path.lexists(netns.path(space))]:
            raise LabError(
                f"network namespaces the lab would make are there already: {', '.join(strange)}",
                "take another name for the lab, with --name",
            )
        me = os.getpid()
        record = Record(
            name=name,
            owner=Identity(me, start_time(me) or 0, "lab"),
            directory=tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{name}-"),
            namespaces=namespaces,
            pins=[str(path) for path in pins],
            made=sorted(set(made), reverse=True),
        )
        record.save()
    return record


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold off other labs of this name while one looks for leftovers and writes its record."""
    path = record_path(name).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LabError(f"another lab called {name} is being built") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
