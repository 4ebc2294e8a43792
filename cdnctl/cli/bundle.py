"""The parts of a report: what each is, and where it comes from. Nothing in here is redacted yet."""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import platform
import pwd
import shutil
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import msgspec
from msgspec import Struct, field

from cdnctl import __version__, paths
from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import config_of
from cdnctl.agent.start import log_path
from cdnctl.cli import pages
from cdnctl.engine.journal import Journal
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    FRAMES_KEPT,
    Frame,
    GetFrame,
    GetMetrics,
    GetState,
    JournalEntry,
    ListCustomers,
    Who,
)

JOURNAL_LINES = 20_000
LOG_BYTES = 1 << 20
FILE_BYTES = 8 << 20
"""A file that is larger is left out: this is a report, no backup."""
COMMAND_S = 10.0
_FIRST_PERSON = 1000
"""Accounts below it are the system's."""
_NETWORK = {
    "addresses": ("-details", "-statistics", "address", "show"),
    "routes": ("route", "show", "table", "all"),
    "routes6": ("-6", "route", "show", "table", "all"),
    "rules": ("rule", "show"),
    "neighbours": ("neighbour", "show"),
}
_PACKAGES = ("textual", "rich", "msgspec", "pyroute2", "prometheus-client", "tomli-w")


class Found(Struct, kw_only=True):
    """What was collected."""

    files: dict[str, bytes] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    people: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)


class Bundle:
    """Collects the parts of one edge's report."""

    def __init__(self, edge: str, options: argparse.Namespace) -> None:
        self._edge = edge
        self._options = options
        self._found = Found()
        self._config = options.config or config_of(edge)

    def collect(self) -> Found:
        """Every part that can be had."""
        self._take("doctor.json", self._doctor)  # first: it goes into the edge's network namespace
        self._take("frames", self._agent)
        self._take("journal.jsonl", self._journal)
        self._take("configuration.toml", lambda: self._file("configuration.toml", self._config))
        self._take("state", self._state)
        self._take("agent.log", self._log)
        self._take("tables.json", self._tables)
        self._take("network", self._network)
        self._take("versions.json", self._versions)
        self._know_people()
        return self._found

    def _take(self, name: str, part: Callable[[], None]) -> None:
        """One part; whatever keeps it out is written down, and keeps out no other."""
        try:
            part()
        except CdnctlError as error:
            self._found.missing[name] = error.message
        except OSError as error:
            self._found.missing[name] = f"{error.filename or name}: {error.strerror or error}"
        except Exception as error:  # a report of an edge in trouble: nothing is as it should be
            self._found.missing[name] = f"{type(error).__name__}: {error}"

    def _put(self, name: str, value: object) -> None:
        self._found.files[name] = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"

    def _file(self, name: str, path: Path) -> None:
        size = path.stat().st_size
        if size > FILE_BYTES:
            raise CdnctlError(f"{path} has {size} bytes, more than {FILE_BYTES}")
        self._found.files[name] = path.read_bytes()

    # --- the agent ------------------------------------------------------------------------------

    def _agent(self) -> None:
        """Frames of the last minutes, and what else only the agent knows."""
        with Client(
            paths.socket_path(self._edge), client="report", frames=True, history=FRAMES_KEPT
        ) as client:
            newest = client.request(GetFrame()).frame
            if newest is None:
                raise CdnctlError("the agent has taken no frame yet")
            for frame in client.frames():  # those that are kept come first
                self._found.frames.append(frame)
                self._found.people |= {watcher.user for watcher in frame.watchers}
                if frame.seq >= newest.seq:
                    break
            self._put("frame.json", self._found.frames[-1])
            self._found.files["metrics.prom"] = (client.request(GetMetrics()).metrics or "").encode()
            self._put("blocks.json", pages.blocks(client.request).blocks)
            customers = client.request(ListCustomers())
            self._put("customers.json", {"customers": customers.customers, "allowed": customers.allowed})
            self._put("watchers.json", client.request(Who()).watchers)

    # --- files ----------------------------------------------------------------------------------

    def _journal(self) -> None:
        path = paths.journal_path(self._edge)
        if path.exists():
            entries: deque[JournalEntry] = deque(Journal(path).read(), JOURNAL_LINES)
        else:  # an agent may have its state elsewhere, as a demo's has
            entries = deque()
            with self._elsewhere(path) as client:
                entries.extendleft(itertools.islice(pages.journal(client.request), JOURNAL_LINES))
        self._found.people |= {name for entry in entries for name in entry.user.split(" as ")}
        self._found.files["journal.jsonl"] = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)

    def _state(self) -> None:
        """Whatever else the edge's directory holds, but for recordings."""
        directory = paths.state_dir(self._edge)
        if not directory.exists():
            with self._elsewhere(directory) as client:
                kept = client.request(GetState()).revisions or []
                outcome = client.request(GetState(revision=kept[0].number if kept else 0))
            if outcome.state is None:
                raise CdnctlError(outcome.text or "the agent told nothing of its state")
            self._found.files["state/state.toml"] = outcome.state.encode()
            return
        for path in sorted(directory.iterdir()):
            if path.is_file() and path.name != "journal.jsonl" and path.suffix != ".cdnrec":
                name = f"state/{path.name}"
                self._take(name, functools.partial(self._file, name, path))

    def _elsewhere(self, path: Path) -> Client:
        """The agent, which is asked for what is not at `path`."""
        try:
            return Client(paths.socket_path(self._edge), client="report")
        except CdnctlError as error:
            raise CdnctlError(f"{path} is not there, and {error.message}") from None

    def _log(self) -> None:
        """Of an agent that the console started; a service manager keeps its own."""
        path = log_path(self._edge)
        if not path.exists():
            raise CdnctlError(f"{path} is not there: the agent was started otherwise, and logs elsewhere")
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES))
            self._found.files["agent.log"] = file.read()

    # --- the box --------------------------------------------------------------------------------

    def _doctor(self) -> None:
        from cdnctl.cli.doctor import examine

        named = {"edge": self._edge, "config": self._options.config, "netns": self._options.netns}
        self._put("doctor.json", examine(argparse.Namespace(**named)))

    def _tables(self) -> None:
        from cdnctl.engine.dump import dump

        config = None
        try:
            from cdnctl.config import read

            config = read(self._config)
        except CdnctlError as error:
            self._found.missing["names in tables.json"] = error.message
        if not paths.pin_dir(self._edge).is_dir():
            raise CdnctlError("no data path of this edge is loaded")
        self._put("tables.json", dump(paths.tables_dir(self._edge), config))

    def _network(self) -> None:
        """As iproute2 tells it."""
        if not shutil.which("ip"):
            raise CdnctlError("`ip` is missing: install iproute2")
        for name, words in _NETWORK.items():
            done = subprocess.run(
                ["ip", "-json", *words], capture_output=True, timeout=COMMAND_S, check=False
            )
            if done.returncode:
                self._found.missing[f"network/{name}.json"] = done.stderr.decode(errors="replace").strip()
            else:
                self._put(f"network/{name}.json", msgspec.json.decode(done.stdout or b"[]"))

    def _versions(self) -> None:
        self._put(
            "versions.json",
            {
                "cdnctl": __version__,
                "python": platform.python_version(),
                "kernel": platform.release(),
                "build": platform.version(),
                "machine": platform.machine(),
                "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
                "processors": os.cpu_count(),
                "packages": {name: metadata.version(name) for name in _PACKAGES},
            },
        )

    def _know_people(self) -> None:
        """Whom a text may name."""
        self._found.people |= {each.pw_name for each in pwd.getpwall() if each.pw_uid >= _FIRST_PERSON}
        self._found.people -= {"root", "nobody", ""}
        name = socket.gethostname()
        self._found.hosts |= {name, name.partition(".")[0]}
