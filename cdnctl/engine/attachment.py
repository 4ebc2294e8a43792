"""The program on its interfaces: all of them or none, and again when a link is back."""

from __future__ import annotations

import os
from collections.abc import Callable

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


class Attachment:
    """Of one edge; `use` before anything else but `detach`."""

    def __init__(self, config: Config, program: Program, tell: Tell) -> None:
        self._config = config
        self._program = program
        self._tell = tell
        self._forwarding = network.Forwarding(forwarding_path(config.edge.name))
        self._ipv6 = any(service.family == 6 for service in config.services)
        self._links: Links | None = None
        self._identity = 0
        self.attached: dict[str, Attached] = {}

    def use(self, tables: Tables) -> None:
        """Keep the links of these tables."""
        self._identity = tables.identity
        self._links = Links(tables, self._config.edge.interfaces)

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

    def attach(self) -> None:
        """Attach to every configured interface, or leave all as they were. Raises CdnctlError."""
        if not self._program.exists():
            raise CdnctlError(
                "the data path was unloaded past this agent",
                "end the agent and start it again: its flows are gone",
            )
        self.links.refresh()
        names = self.links.roots()
        program, changed = self._program.open(), set[str]()
        try:
            attach.check(names, self._program.maps())
            # everywhere first: the first packet of the first interface may leave by the last one
            for name in dict.fromkeys((*self._config.edge.interfaces, *names)):
                for said in self._forwarding.enable(name, ipv6=self._ipv6):
                    changed.add(name)
                    self._tell("warning", said, "warning")
            for result in attach.attach_all(names, program, self._config.edge.attach):
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
        """Detach from the interfaces that an earlier configuration had."""
        maps = self._program.maps()
        for name, _ in attach.attached_to(maps):
            if name not in self.links.roots() and attach.detach(name, maps):
                self._forwarding.restore([name])
                self._tell("attach", f"detached from {name}, which the configuration has no more", "notice")

    def look(self) -> None:
        """What the kernel says of them holds: somebody may have taken the program off past the agent."""
        live = dict(self._live())
        for name in [name for name in self.attached if name not in live]:
            del self.attached[name]
            self._tell("attach", f"{name} has lost the program: it was taken off past the agent", "alarm")
        for name, mode in live.items():
            if name in self.attached:
                self.attached[name] = self.attached[name]._replace(mode=mode)

    def follow(self, *, detached: bool) -> list[Change]:
        """What links came and went; one that is back gets the program again, unless it is `detached`."""
        self.links.keep_on()
        changes = self.links.changes()
        if not detached and any(not change.lost for change in changes):
            try:
                self.attach()
            except CdnctlError as error:
                self._tell("warning", f"cannot attach again: {error.message}", "alarm")
        return changes

    def interfaces(self) -> list[Interface]:
        """The configured interfaces and how they, or the devices below them, are attached."""
        roots = self._roots()
        found = ((name, self.attached.get(roots.get(name, name))) for name in self._config.edge.interfaces)
        return [Interface(name=name, mode=how.mode if how else "detached") for name, how in found]

    def _live(self) -> list[tuple[str, Mode]]:
        """Where the kernel says that our program is, pinned still or not."""
        return attach.attached_to(frozenset({self._identity}))

    def _roots(self) -> dict[str, str]:
        """The device that each configured interface's frames come and go by."""
        return {name: place.root for name, place in self.links.places.items()}
