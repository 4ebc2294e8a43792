"""The program on its interfaces: all of them or none, and again when a link is back or has lost it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Sequence

from cdnctl.config import Config
from cdnctl.datapath import attach, network
from cdnctl.datapath.attach import Attached, Mode
from cdnctl.datapath.keeper import Change
from cdnctl.datapath.links import Links
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError
from cdnctl.model import Interface, Severity
from cdnctl.paths import forwarding_path

Tell = Callable[[str, str, Severity], None]
AGAIN_S = 2.0
"""An interface that takes no program now may take it later."""


class Attachment:
    """Of one edge; `use` before anything else but `detach`."""

    def __init__(self, config: Config, program: Program, tell: Tell) -> None:
        self._program = program
        self._tell = tell
        self._forwarding = network.Forwarding(forwarding_path(config.edge.name))
        self._links: Links | None = None
        self._identity = 0
        self._failed_s = 0.0
        self._failure = ""
        self.attached: dict[str, Attached] = {}
        self._follow(config)

    def _follow(self, config: Config) -> None:
        self._config = config
        self._ipv6 = any(service.family == 6 for service in config.services)

    def use(self, tables: Tables) -> None:
        """Keep the links of these tables."""
        self.close()
        self._identity = tables.identity
        self._links = Links(tables, self._config.edge.interfaces)

    def follow(self, config: Config, program: Program) -> None:
        """From now on `attach` does this. Links that are no longer wanted are kept until `leave_others`."""
        before = self._config.edge.interfaces
        self._follow(config)
        self._program = program
        self.links.want((*config.edge.interfaces, *before))

    @property
    def links(self) -> Links:
        """The edge's links, as the kernel's program knows them."""
        assert self._links is not None
        return self._links

    def close(self) -> None:
        """Follow the links no longer."""
        if self._links is not None:
            self._links.close()
            self._links = None

    @property
    def is_loaded(self) -> bool:
        """Whether there is a program, attached or pinned; root may have removed it past this agent."""
        return bool(self.attached) or self._program.exists()

    def check_loaded(self) -> None:
        """Raises CdnctlError when what is to be changed is not there any more."""
        if self.is_loaded:
            return
        edge = self._config.edge.name
        raise CdnctlError(
            f"the data path of edge {edge} was unloaded past this agent: no program of it is in the kernel,"
            " and its flows are gone",
            f"end the agent and start it again: `kill {os.getpid()}`, then `cdnctl attach --edge {edge}`",
        )

    def attach(self) -> None:
        """Attach to every configured interface, or leave all as they were. Raises CdnctlError."""
        self.check_loaded()
        self.links.refresh()
        self._put_on(self._config.edge.interfaces)

    def _put_on(self, interfaces: Sequence[str]) -> None:
        names = self.links.roots(interfaces)
        program, changed = self._program.open(), set[str]()
        try:
            maps = self._program.maps()
            attach.check(names, maps)
            # everywhere first: the first packet of the first interface may leave by the last one
            for name in dict.fromkeys((*interfaces, *names)):
                for said in self._forwarding.enable(name, ipv6=self._ipv6):
                    changed.add(name)
                    self._tell("warning", said, "warning")
            for result in attach.attach_all(names, program, self._config.edge.attach, maps):
                self.attached[result.name] = result
                if result.warning:
                    self._tell("warning", result.warning, "warning")
        except BaseException as error:
            live, roots = dict(self._live()), self._roots()
            self._forwarding.restore({name for name in changed if roots.get(name, name) not in live})
            if isinstance(error, OSError):
                raise CdnctlError(
                    f"cannot attach: {error}", "run as root, with CAP_NET_ADMIN and CAP_BPF"
                ) from error
            raise
        finally:
            os.close(program)

    def detach(self) -> list[str]:
        """Take the program off; the pins stay."""
        self.attached.clear()
        try:
            maps = self._program.maps()
        except OSError:  # no pins, nothing attached
            maps = frozenset()
        names = [name for name, _ in attach.attached_to(maps) if attach.detach(name, maps)]
        self._forwarding.restore()
        return names

    def leave_others(self) -> None:
        """Detach from the interfaces that only an earlier configuration had, and keep their links no more."""
        maps, wanted = self._program.maps(), self.links.roots(self._config.edge.interfaces)
        for name, _ in attach.attached_to(maps):
            if name not in wanted and attach.detach(name, maps):
                self.attached.pop(name, None)
                self._forwarding.restore([name])
                self._tell("attach", f"detached from {name}, which the configuration has no more", "notice")
        if self.links.want(self._config.edge.interfaces):
            self.links.keep()

    def look(self, *, detached: bool) -> None:
        """What the kernel says of them holds: a driver may have dropped the program, somebody taken it off.

        Unless an operator has it `detached`, it is attached again wherever it is missing.
        """
        live, there = dict(self._live()), {name for _, name in socket.if_nameindex()}
        for name in [name for name in self.attached if name not in live]:
            del self.attached[name]
            if name in there:  # else it is told that the interface itself is gone
                self._tell("attach", f"{name} lost the program: its driver dropped it, or somebody", "alarm")
        for name, mode in live.items():
            if name in self.attached:
                self.attached[name] = self.attached[name]._replace(mode=mode)
        if not detached and self._missing(there) and time.monotonic() - self._failed_s >= AGAIN_S:
            self._attach_again(there)

    def _missing(self, there: Collection[str]) -> list[str]:
        """Configured interfaces that are there, but without the program."""
        roots = self._roots()
        return [
            name
            for name in self._config.edge.interfaces
            if name in there and roots.get(name, name) not in self.attached
        ]

    def _attach_again(self, there: Collection[str]) -> None:
        """Attach to what is there of them; others may come later."""
        self.links.keep()  # one that is back has other numbers
        missing = self._missing(there)
        try:
            if not self._program.exists():
                raise CdnctlError("the data path was unloaded past this agent")
            self._put_on([name for name in self._config.edge.interfaces if name in there])
        except CdnctlError as error:
            self._failed_s = time.monotonic()
            if error.message != self._failure:
                self._tell("warning", f"cannot attach again: {error.message}", "alarm")
            self._failure = error.message
        else:
            self._failure = ""
            self._tell("attach", f"attached to {', '.join(missing)} again", "notice")

    def changes(self) -> list[Change]:
        """What links came and went; they are looked at when that is due."""
        self.links.keep_on()
        return self.links.changes()

    def interfaces(self) -> list[Interface]:
        """The configured interfaces and how they, or the devices below them, are attached."""
        roots = self._roots()
        found = ((name, self.attached.get(roots.get(name, name))) for name in self._config.edge.interfaces)
        return [Interface(name=name, mode=how.mode if how else "detached") for name, how in found]

    def live_interfaces(self) -> set[str]:
        """The configured interfaces whose frames come by the program, as the kernel says."""
        roots, live = self._roots(), {name for name, _ in self._live()}
        return {name for name in self._config.edge.interfaces if roots.get(name, name) in live}

    def _live(self) -> list[tuple[str, Mode]]:
        """Where the kernel says that our program is, pinned still or not."""
        return attach.attached_to(frozenset({self._identity}))

    def _roots(self) -> dict[str, str]:
        """The device that each configured interface's frames come and go by."""
        return {name: place.root for name, place in self.links.places.items()}
