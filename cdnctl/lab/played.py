"""What every play in a lab does: it goes step by step, says so to the agent, and looks at frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cdnctl.agent.client import Client
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import LabError, cpu_s
from cdnctl.model import BlockPrefix, Frame, GetFrame, Mark, Note, Outcome, Severity


@dataclass
class Step:
    """One part of a play. Times are CLOCK_MONOTONIC, in ns."""

    name: str
    start_ns: int
    end_ns: int = 0
    fault_ns: int = 0
    """When the fault of this step was in force; 0 in a step without one."""


class Played:
    """A play in a lab whose agent runs.

    `pause` waits and may raise to end it early (the viewer has left); `say` hears of each step.
    """

    def __init__(
        self, lab: Lab, client: Client, pause: Callable[[float], None], say: Callable[[str], None]
    ) -> None:
        self.lab, self.client, self.pause, self.say = lab, client, pause, say
        self.steps: list[Step] = []
        self.finished = False

    def _step(self, name: str, text: str, severity: Severity = "notice") -> Step:
        step = Step(name, time.monotonic_ns())
        self.steps.append(step)
        self.say(text)
        self._note(text, step=text, severity=severity)
        return step

    def _end_step(self) -> None:
        self.steps[-1].end_ns = time.monotonic_ns()
        if self.lab.traffic:
            self.lab.traffic.check()

    def _note(self, text: str, *, step: str | None = None, severity: Severity = "info") -> None:
        self._request(Note(text=text, step=step, severity=severity))

    def _request(self, command: BlockPrefix | Note | Mark | GetFrame) -> Outcome:
        outcome = self.client.request(command, timeout_s=10.0)
        if not outcome.ok:
            raise LabError(f"the agent refused: {outcome.text}")
        return outcome

    def _frame(self) -> Frame:
        frame = self._request(GetFrame()).frame
        if frame is None:
            raise LabError("the agent has no frame yet")
        return frame

    def _agent_cpu(self) -> float:
        return cpu_s(self.lab.agent.pid) if self.lab.agent else 0.0
