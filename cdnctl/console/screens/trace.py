"""Trace and doctor: what would become of a packet, step by step; and what is wrong with this box.

Both look at the kernel itself, so they are the command line's own programs (`cdnctl trace`, `cdnctl
doctor`), run beside the console and shown as they answer; over a recording or another user's edge they say
why not.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
from textual.widget import Widget

from cdnctl.console.display import Display
from cdnctl.console.format import clean
from cdnctl.console.screens.dialogs.ask import AskDialog
from cdnctl.console.screens.house import House
from cdnctl.console.screens.speaking import run_line
from cdnctl.console.widgets.lines import Row, heading
from cdnctl.console.widgets.table import Column, LiveTable, Record
from cdnctl.model import Frame

LEVELS = {"ok": ("●", "good"), "warn": ("▲", "warn"), "fail": ("✖", "bad"), "unknown": ("◐", "accent")}
EXAMPLE = "198.51.100.7 203.0.113.80:443"


NO_TABLES = "a trace runs a packet through a live edge's tables; a recording has none"
NO_BOX = "the doctor looks at a live edge's box; a recording has none"


class StepTable(LiveTable):
    """One row a step of a trace."""

    EMPTY = "e asks what would become of a packet; enter on a sampled one in the drops does, too"
    COLUMNS = (
        Column("number", "", 2),
        Column("what", "step", 16, right=False, grows=True),
        Column("found", "what was found", 30, right=False, flex=True),
    )

    def show_trace(self, traced: dict[str, Any]) -> None:
        """A trace as the command line tells it."""
        steps = [step for step in traced.get("steps", []) if isinstance(step, dict)]
        rows = [
            Record(
                number,
                {
                    "number": (str(number), "muted"),
                    "what": (clean(str(step.get("what", "")), 40), "accent"),
                    "found": (clean(str(step.get("found", "")), 400), "text"),
                },
            )
            for number, step in enumerate(steps, 1)
        ]
        for warning in traced.get("warnings", []):
            text = clean(str(warning), 400)
            rows.append(Record(f"w{len(rows)}", {"what": ("▲", "warn"), "found": (text, "warn")}))
        summary = clean(str(traced.get("summary", "")), 400)
        rows.append(Record("summary", {"what": ("so", "muted"), "found": (summary, "text bold")}))
        self.fill(rows)


class FindingTable(LiveTable):
    """One row a finding of the doctor."""

    EMPTY = "the doctor has not looked yet"
    COLUMNS = (
        Column("mark", "", 1, right=False),
        Column("what", "what", 12, right=False, grows=True),
        Column("text", "finding", 30, right=False, flex=True, grows=True),
        Column("remedy", "remedy", 20, right=False, flex=True, from_width=90),
    )

    def show_report(self, report: dict[str, Any]) -> None:
        """A report as the command line tells it, the worst first."""
        order = list(reversed(LEVELS))
        findings = [each for each in report.get("findings", []) if isinstance(each, dict)]
        findings.sort(key=lambda each: ("fail", "warn", *order).index(str(each.get("level", "unknown"))))
        records = []
        for number, each in enumerate(findings):
            mark, role = LEVELS.get(str(each.get("level")), LEVELS["unknown"])
            records.append(
                Record(
                    number,
                    {
                        "mark": (mark, role),
                        "what": (clean(str(each.get("what", "")), 40), "text bold"),
                        "text": (clean(str(each.get("text", "")), 400), role if role != "good" else "muted"),
                        "remedy": (clean(str(each.get("remedy", "")), 400), "accent"),
                    },
                )
            )
        counts = {level: sum(each.get("level") == level for each in findings) for level in LEVELS}
        said = ", ".join(f"{count} {level}" for level, count in counts.items() if count)
        self.border_title = f"doctor · {said}"
        self.fill(records)


class Trace(House):
    """Asks when it is told to; the doctor looks once by itself."""

    NAME = "trace"
    MAIN = "steps"
    AUTO_FOCUS = "#steps"

    def __init__(self, display: Display) -> None:
        super().__init__(display)
        self._looked = False
        self._words = ""

    def panels(self) -> Iterable[Widget]:
        yield StepTable("trace", id="steps")
        yield FindingTable("doctor", id="findings")

    def on_screen_resume(self) -> None:
        """Somebody comes with a packet."""
        words, self.view.packet = self.view.packet, ""
        self.trace(words)

    def show_frame(self, frame: Frame) -> None:
        if self.session.is_recorded:
            for kind, text in ((StepTable, NO_TABLES), (FindingTable, NO_BOX)):
                table = self.query_one(kind)
                table.empty = text
                table.fill([])
        if not self._looked and self.session.is_at_agent:
            self._looked = True
            self.action_doctor()

    def action_ask(self) -> None:
        """Ask for two ends, then trace."""
        service = next(iter(self.frame.services), None) if self.frame else None
        example = f"198.51.100.7 {service.vip}:{service.port}" if service else EXAMPLE
        how = "FROM[:PORT] TO:PORT [--proto udp]"
        self.app.push_screen(
            AskDialog("Trace a packet", "packet", self._words or example, how),
            self.trace,
        )

    def trace(self, words: str | None) -> None:
        """Have a packet traced."""
        if not words:
            return
        if not self.session.is_at_agent:
            self.said("a trace looks at a live edge's tables; this is none", ok=False)
            return
        self._words = words
        table = self.query_one(StepTable)
        table.border_title = "trace · …"
        self.run_worker(partial(self._trace, tuple(words.split())), exclusive=True, group="trace")

    async def _trace(self, words: tuple[str, ...]) -> None:
        answer = await ask_line(("trace", *words, "--json", *self.edge_words(words)))
        if not self._composed:
            return  # the console has ended meanwhile
        table = self.query_one(StepTable)
        table.border_title = heading(f"trace · {clean(' '.join(words), 80)}")
        if problem := problem_of(answer):
            self.said(problem, ok=False)
            table.fill([])
        else:
            table.show_trace(answer)

    def action_doctor(self) -> None:
        """Look at the box again."""
        if not self.session.is_at_agent:
            self.said("the doctor looks at a live edge; this is none", ok=False)
            return
        self.query_one(FindingTable).border_title = "doctor · looks"
        self.run_worker(self._doctor, exclusive=True, group="doctor")

    async def _doctor(self) -> None:
        answer = await ask_line(("doctor", "--json", *self.edge_words(())))
        if not self._composed:
            return
        table = self.query_one(FindingTable)
        if problem := problem_of(answer):
            table.border_title = "doctor"
            self.said(problem, ok=False)
        else:
            table.show_report(answer)

    def detail_of(self, table: LiveTable) -> Row:
        record = table.records[table.cursor] if table.records else None
        if record is None:
            return ()
        cells = [cell for cell in record.cells.values() if not callable(cell) and cell[0].strip()]
        return tuple(part for text, role in cells for part in ((text, role), ("  ", "")))


async def ask_line(words: tuple[str, ...]) -> dict[str, Any]:
    """What `cdnctl WORDS` answers in JSON; its words as an error when that is none."""
    _ok, text = await run_line(words)
    start = text.find("{")
    try:
        found = msgspec.json.decode(text[start:] if start >= 0 else "")
    except msgspec.DecodeError:
        return {"error": {"message": clean(text, 400) or "no answer"}}
    return found if isinstance(found, dict) else {"error": {"message": "no answer"}}


def problem_of(answer: dict[str, Any]) -> str:
    """The refusal in an answer; empty when it is none."""
    error = answer.get("error")
    if not isinstance(error, dict):
        return ""
    remedy = error.get("remedy")
    return clean(f"{error.get('message', 'refused')}{f'; {remedy}' if remedy else ''}", 500)
