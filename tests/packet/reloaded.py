"""An engine on the tests' interfaces whose file changes: what a reload leaves, packet by packet."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import session
from harness import CONFIG, DataPath
from netbox import LINKS, name

from cdnctl import config
from cdnctl.datapath import kernel
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import Tables
from cdnctl.engine.engine import Engine
from cdnctl.engine.layout import Layout
from cdnctl.lab import netns
from cdnctl.model import Actor, Outcome, Reload

EDGE = name("-reload")
OPERATOR = Actor(user="root", uid=0, pid=1, role="operate")
DORADO = ("198.51.100.11", "2001:db8:198::11")
NEW_CDN = f"""
[[cdn]]
name = "dorado"
endpoints = ["{DORADO[0]}:80", "[{DORADO[1]}]:80"]
weight = 100
"""
NEW_SERVICE = """
[[service]]
name = "api"
vip = "203.0.113.99"
port = 80
policy = "weighted"
"""


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    """There is a way to the new CDN: it stands beside the first one."""
    ends = dict.fromkeys(DORADO, LINKS[0])
    session.BY_ADDRESS.update({(address, 80): "dorado" for address in DORADO})
    session.LINK["dorado"] = LINKS[0]
    with netns.netlink(name()) as ip:
        for address, link in ends.items():
            six = ":" in address
            where = {"dst": address, "gateway": link.gateway6 if six else link.gateway}
            ip.route("add", **where)
        try:
            yield
        finally:
            for address in ends:
                ip.route("del", dst=address)


class File:
    """The operator's file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = CONFIG.format(name=EDGE).replace("endpoints = 12", "endpoints = 40")
        self.write()

    def write(self) -> None:
        self.path.write_text(self.text)

    def replace(self, old: str, new: str) -> None:
        assert old in self.text, old
        self.text = self.text.replace(old, new)
        self.write()

    def add(self, tables: str) -> None:
        self.text += tables
        self.write()

    def join(self, cdn: str) -> None:
        """A CDN serves all services that the third one does."""
        self.replace("'corona']", f"'corona', '{cdn}']")

    def drop(self, table: str, called: str) -> None:
        """Leave out `[[table]]` of this name, and its name in lists."""
        parts = self.text.split("\n\n")
        kept = [p for p in parts if not (f"[[{table}]]" in p and f'name = "{called}"' in p)]
        assert len(kept) == len(parts) - 1, called
        self.text = "\n\n".join(kept).replace(f", '{called}'", "")
        self.write()


class Edge(DataPath):
    """The data path of an engine, as it is at each moment."""

    def __init__(self, engine: Engine, file: File, indexes: dict[str, int]) -> None:
        self.engine = engine
        self.file = file
        self.indexes = indexes
        self._reader = None
        self._maps: dict[str, Map] = {}
        self._mapped = 0
        self._fd = -1

    def map(self, table: str, *, per_cpu: bool = False) -> Map:
        """Of the tables that hold now."""
        if self._mapped != self.tables.identity:
            self._mapped = self.tables.identity
            self._maps = {}
        return super().map(table, per_cpu=per_cpu)

    def forget_maps(self) -> None:
        """Open those of the present program at the next look."""
        self._mapped = 0

    @property
    def config(self) -> config.Config:  # type: ignore[override]
        return self.engine.config

    @property
    def program(self) -> Program:  # type: ignore[override]
        return self.engine.program

    @property
    def tables(self) -> Tables:  # type: ignore[override]
        return self.engine.tables

    @property
    def layout(self) -> Layout:  # type: ignore[override]
        return self.engine.layout

    @property
    def fd(self) -> int:  # type: ignore[override]
        """What is attached to the clients' interface."""
        identity = kernel.xdp_program_id(self.indexes["clients"])
        if self._fd < 0 or kernel.program_id(self._fd) != identity:
            self.close()
            self._fd = kernel.program_fd(identity)
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def programs(self) -> set[int]:
        """Ids of what is attached to the configured interfaces."""
        return {kernel.xdp_program_id(self.indexes[each]) for each in self.config.edge.interfaces}

    def reload(self, **how: bool) -> Outcome:
        """`cdnctl reload`."""
        return asyncio.run(self.engine.reload(Reload(**how), OPERATOR))

    def reloaded(self, **how: bool) -> Outcome:
        """The same, which must succeed."""
        outcome = self.reload(**how)
        assert outcome.ok, outcome.text
        return outcome
