"""What stands at the far ends of the lab's links: an nginx for each CDN, and the ends of the tunnels."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from cdnctl.lab import netns, origin
from cdnctl.lab.processes import Generator, LabError, end, start
from cdnctl.lab.topology import PORT, SECOND_PORT, TUNNEL_PORT, Site

START_S = 20.0
"""An nginx that does not answer after this long will not."""


class Pops:
    """The CDNs' own side. `note` hears of each process."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        directory: Path,
        log: IO[bytes],
        note: Callable[[subprocess.Popen[bytes], str], None],
    ) -> None:
        self._sites, self._directory, self._log, self._note = sites, directory, log, note
        self._origins: dict[str, subprocess.Popen[bytes]] = {}
        self._decapsulator: Generator | None = None
        self._big: dict[int, str] = {}

    def start(self, wire_namespace: str) -> None:
        """All of it; LabError when something does not come up."""
        for name in self._sites:
            origin.write(self._home(name), name, (PORT, SECOND_PORT))
            self._start_origin(name)
        self._decapsulator = Generator("decap", wire_namespace, self._log)
        self._note(self._decapsulator.process, "decap")
        spaces = {name: str(netns.path(site.namespace)) for name, site in self._sites.items()}
        self._decapsulator.ask(sites=spaces, port=TUNNEL_PORT)
        self._await_origins(self._sites)

    def close(self) -> None:
        """End them."""
        for process in self._origins.values():
            process.terminate()
        for process in self._origins.values():
            end(process)
        if self._decapsulator:
            self._decapsulator.end()

    def refuse(self, cdn: str) -> None:
        """Stop an nginx: its kernel answers connects with resets."""
        end(self._origins[cdn], grace_s=1.0)

    def restore(self, cdn: str) -> None:
        """Start it again, if it does not run, and have it serve."""
        self.cure(cdn)
        if self._origins[cdn].poll() is not None:
            self._start_origin(cdn)
            self._await_origins([cdn])

    def sicken(self, cdn: str) -> None:
        """Have it answer every request with 503, while it takes connections as ever."""
        (self._home(cdn) / origin.SICK).touch()

    def cure(self, cdn: str) -> None:
        """Have it serve again."""
        (self._home(cdn) / origin.SICK).unlink(missing_ok=True)

    def tunnelled(self) -> dict[str, dict[str, int]]:
        """Packets that came in tunnels, by CDN and kind: `ipip`, `ipip6`, `gue`, `gue6`."""
        assert self._decapsulator
        counts: dict[str, dict[str, int]] = self._decapsulator.ask(stats=True)
        return counts

    def offer(self, megabytes: int) -> tuple[str, str]:
        """Have every CDN serve a large object; its path and its SHA-256."""
        path = f"{origin.BIG}-{megabytes}"
        if megabytes not in self._big:
            file = self._directory / path
            self._big[megabytes] = origin.write_big(file, megabytes)
            for name in self._sites:
                origin.serve_too(self._home(name), path, file)
        return path, self._big[megabytes]

    def _home(self, cdn: str) -> Path:
        return self._directory / cdn

    def _start_origin(self, cdn: str) -> None:
        command = origin.command(self._home(cdn))
        process = start(command, namespace=self._sites[cdn].namespace, stderr=self._log)
        self._origins[cdn] = process
        self._note(process, f"nginx of {cdn}")

    def _await_origins(self, names: Iterable[str]) -> None:
        deadline = time.monotonic() + START_S
        for name in names:
            while not self._answers(self._sites[name]):
                if self._origins[name].poll() is not None or time.monotonic() > deadline:
                    raise LabError(f"nginx of {name} does not come up:\n{Path(self._log.name).read_text()}")
                time.sleep(0.01)

    @staticmethod
    def _answers(site: Site) -> bool:
        with netns.entered(site.namespace):
            probe = socket.socket()
        with probe:
            return probe.connect_ex((site.endpoint, PORT)) == 0
