"""What goes on beside an agent that is killed again and again: an operator's changes, and a look at counters.

Each runs in a thread of its own and keeps what it finds; nothing in here judges.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from live import Kernel

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.defence.blocklist import parse_prefix
from cdnctl.errors import CdnctlError
from cdnctl.lab.lab import Lab
from cdnctl.model import AnyChange, BlockPrefix, Drain, Frame, SetWeights, Unblock, Undrain

PAUSE_S = 0.05
"""Between two changes of the operator, and between two looks."""
BLOCKS = 200
"""So many prefixes the operator blocks, in turn."""


class Asked(NamedTuple):
    """A change that was sent, and what was said to it; nothing, when the agent died before it answered."""

    reason: str
    """Of its own, so that its line in the journal is known."""
    text: str | None
    waited_s: float


class _Beside:
    """A thread that goes round until told to end; what it raised comes up then."""

    def __init__(self, name: str) -> None:
        self._ending = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> _Beside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(20)
        assert not self._thread.is_alive(), f"{self._thread.name} hangs"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ending.wait(PAUSE_S):
                self._round()
        except BaseException as error:
            self._error = error

    def _round(self) -> None:
        raise NotImplementedError


class Operator(_Beside):
    """Changes weights, drains and blocks, one after the other, through whatever agent there is."""

    def __init__(self, lab: Lab) -> None:
        super().__init__("operator")
        self._lab = lab
        self._client: Client | None = None
        self._plan = itertools.cycle(self._changes())
        self.asked: list[Asked] = []

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._client is not None:
            self._client.close()

    @property
    def answered(self) -> list[Asked]:
        return [each for each in self.asked if each.text is not None]

    def _changes(self) -> list[Callable[[str], AnyChange]]:
        """Whatever was done before, each of them can be done."""
        found: list[Callable[[str], AnyChange]] = []
        for number in range(BLOCKS):
            prefix, weight = f"10.79.{number}.0/24", 50 + number
            found += [
                lambda why, prefix=prefix: BlockPrefix(prefix=prefix, lifetime_s=3600.0, reason=why),
                lambda why, weight=weight: SetWeights(weights={"aurora": weight}, reason=why),
                lambda why: Drain(cdn="corona", reason=why),
                lambda why, prefix=prefix: Unblock(prefix=prefix, reason=why),
                lambda why: Undrain(cdn="corona", reason=why),
            ]
        return found

    def _round(self) -> None:
        reason, sent_s = f"change {len(self.asked) + 1}", time.monotonic()
        text = None
        try:
            if self._client is None:
                self._client = Client(paths.socket_path(self._lab.name), client="test")
        except (CdnctlError, OSError):
            return  # nothing was asked: there is no agent just now
        with contextlib.suppress(CdnctlError, OSError):
            outcome = self._client.request(next(self._plan)(reason))
            text = outcome.text
        if text is None:
            self._client.close()
            self._client = None
        self.asked.append(Asked(reason, text, time.monotonic() - sent_s))


class Counters(_Beside):
    """The kernel's exact counters, and those that agents show: which ever fell."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__("counters")
        self._kernel = kernel
        self._last = kernel.accounts()
        self.looks = 0
        self.fallen: list[str] = []

    def _round(self) -> None:
        now = self._kernel.accounts()
        self.looks += 1
        self.fallen += [f"{name}: {n}, then {now[name]}" for name, n in self._last.items() if now[name] < n]
        self._last = now


class Shown(_Beside):
    """The counters in the frames of whatever agent there is."""

    def __init__(self, lab: Lab) -> None:
        super().__init__("frames")
        self._lab = lab
        self._last: dict[str, int] = {}
        self.frames = 0
        self.agents: set[int] = set()
        self.fallen: list[str] = []

    def _round(self) -> None:
        with contextlib.suppress(CdnctlError, OSError):
            with Client(paths.socket_path(self._lab.name), client="test", frames=True) as client:
                for frame in client.frames():
                    self._note(frame)
                    if self._ending.is_set():
                        return

    def _note(self, frame: Frame) -> None:
        now = totals(frame)
        self.frames += 1
        self.agents.add(frame.agent_pid)
        self.fallen += [f"{name}: {n}, then {now[name]}" for name, n in self._last.items() if now[name] < n]
        self._last = now


def totals(frame: Frame) -> dict[str, int]:
    """Everything in a frame that only grows, but for what is the agent's own (samples, rounds)."""
    found = {"edge packets": frame.totals.packets_total, "edge promoted": frame.totals.promoted_total}
    for verdict in frame.verdicts:
        found |= {
            f"{verdict.name} packets": verdict.packets_total,
            f"{verdict.name} bytes": verdict.bytes_total,
        }
    for service in frame.services:
        found[f"{service.name} {service.protocol} flows"] = service.new_flows_total
    for cdn in frame.cdns:
        names = [name for name in cdn.__struct_fields__ if name.endswith("_total")]
        found |= {f"{cdn.name} {name}": getattr(cdn, name) for name in names}
    found["collector freed"] = frame.collector.freed_total
    return found


class Ends(_Beside):
    """When blocks end, on the kernel's clock, as its own table says: every value that was ever seen."""

    def __init__(self, lab: Lab, prefixes: list[str]) -> None:
        super().__init__("ends")
        self._blocks = KernelBlocks(paths.tables_dir(lab.name))
        self._networks = {prefix: parse_prefix(prefix) for prefix in prefixes}
        self.seen: dict[str, set[int | None]] = {prefix: set() for prefix in prefixes}

    def _round(self) -> None:
        for prefix, network in self._networks.items():
            self.seen[prefix].add(self._blocks.end_ns(network))
