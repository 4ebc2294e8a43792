"""`cdnctl demo`: the lab, the incident in it, and a report.

In a terminal the console runs in front, as a program of its own, and shows the incident live; what it
has shown is summed up when the viewer leaves. Headless, steps and report are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.errors import CdnctlError
from cdnctl.lab import report
from cdnctl.lab.lab import Lab, require_root
from cdnctl.lab.processes import LabError
from cdnctl.lab.scenario import Incident
from cdnctl.model import Record, StopRecording
from cdnctl.python import environment, python_module

NAME = "demo"
REPORT_COLUMNS = 130
_WATCH_S = 0.1

EXAMPLES = """\
examples:
  cdnctl demo                         in a terminal: watch it live, press b to block the flood
  cdnctl demo --headless              print a report instead
  cdnctl demo --headless --json r.json
  cdnctl demo --record incident.rec   keep it; `cdnctl replay incident.rec` plays it without root

The exit status is 0 when every gated claim of the report holds, 1 when one does not.
"""


class ViewerLeft(Exception):
    """The console has ended."""


class Ended(BaseException):
    """A signal asks to end: everything is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def parser() -> argparse.ArgumentParser:
    """The arguments of `cdnctl demo`."""
    this = argparse.ArgumentParser(
        prog="cdnctl demo",
        description="Build an edge, its clients and three CDNs in network namespaces, and play an incident: "
        "a CDN slows, another goes dark, a SYN flood comes and is blocked. Takes about 100 s; needs root. "
        "Nothing outside the namespaces is touched, and everything is removed at the end "
        f"(a BPF file system is mounted on {paths.BPFFS} if there is none, and stays).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    this.add_argument("--headless", action="store_true", help="no console: print the steps and a report")
    this.add_argument("--json", metavar="FILE", type=Path, help="write the report to FILE, too")
    this.add_argument(
        "--record", metavar="FILE", type=Path, help="record the edge to FILE, which must be new"
    )
    this.add_argument("--name", default=NAME, help=f"name of the lab and its edge (default: {NAME})")
    return this


def main(argv: Sequence[str] | None = None) -> int:
    """Play the demo; the exit status."""
    options = parser().parse_args(argv)
    headless = options.headless or not (sys.stdin.isatty() and sys.stdout.isatty())
    try:
        paths.check_name(options.name)
        require_root()
        if options.json:
            _check_writable(options.json)
        if options.record:
            _check_new(options.record)
        with Signals() as signals:
            return Demo(options.name, options.json, signals, options.record).play(headless)
    except Ended as ended:
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print("ended by a signal; everything is removed", file=sys.stderr)
        return 128 + ended.number
    except (CdnctlError, OSError, ValueError) as error:
        print(f"cdnctl: {error}", file=sys.stderr)
        return 1


def _check_writable(file: Path) -> None:
    """OSError now, not in two minutes, when `file` cannot be written; none is left where none was."""
    fresh = not file.exists()
    with file.open("ab"):
        pass
    if fresh:
        file.unlink()


def _check_new(file: Path) -> None:
    """CdnctlError now, not when the lab stands, when `file` is there or cannot be made."""
    if file.exists() or file.is_symlink():
        raise CdnctlError(f"{file} is there already", "name another file, or remove it")
    _check_writable(file)


class Signals:
    """Turns the signals that end a program into `Ended`, so that the lab is removed.

    Python drops an exception that strikes inside a destructor or a hook: `check` raises it once more.
    """

    def __init__(self) -> None:
        self.number = 0
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._end)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        raise Ended(number)

    def check(self) -> None:
        """Raise what was asked for and not yet heard."""
        if self.number:
            raise Ended(self.number)


class Demo:
    """One run."""

    def __init__(
        self, name: str, json_path: Path | None, signals: Signals, recording: Path | None = None
    ) -> None:
        from rich.console import Console

        self.name, self.json_path, self._recording = name, json_path, recording
        # Where there is no terminal there is no width: a report in a file is not folded.
        self.out = Console(highlight=False, width=None if sys.stdout.isatty() else REPORT_COLUMNS)
        self._signals = signals
        self._began = time.monotonic()
        self._console: subprocess.Popen[bytes] | None = None

    def play(self, headless: bool) -> int:
        """Build, play, take down, report."""
        lab = Lab(self.name, agent=True, say=self._say)
        failure: CdnctlError | None = None
        incident: Incident | None = None
        try:
            with lab:
                with Client(paths.socket_path(self.name), client="demo") as client:
                    incident = Incident(
                        lab,
                        client,
                        invite=not headless,
                        pause=self._pause,
                        say=self._say if headless else lambda text: None,
                    )
                    try:
                        self._record(client)
                        self._run(lab, incident, headless)
                    except CdnctlError as error:
                        failure = error
                        failure.add_note(lab.log("agent"))
                    finally:
                        self._end_console()
                        self._end_recording(client)
                lines = report.claims(incident)
        finally:
            if lab.left:
                self.out.print(f"[bold red]not removed:[/] {', '.join(lab.left)}")
        if failure is not None or not incident.finished:
            lines.append(report.missing())
        lines.append(report.clean_up(lab.left or []))
        self._print(lines)
        self._write(lines, incident)
        if failure is not None:
            print(f"cdnctl: {failure}", file=sys.stderr)
            for note in failure.__notes__:
                print(note, file=sys.stderr)
        return 0 if all(line.holds for line in lines if line.gate) else 1

    def _run(self, lab: Lab, incident: Incident, headless: bool) -> None:
        if headless:
            incident.run()
        else:
            self._console = self._start_console()
            with contextlib.suppress(ViewerLeft):
                incident.run()
                incident.rest()
                while True:
                    self._pause(1.0)
            if self._console.returncode:
                raise LabError(f"the console ended with status {self._console.returncode}")
        if lab.traffic is not None:
            self._say("waiting for the last answers")
            lab.traffic.settle()

    # --- the recording -------------------------------------------------------------------------

    def _record(self, client: Client) -> None:
        """Have the agent record, from here to the end."""
        if self._recording is not None:
            outcome = client.request(Record(path=str(self._recording.absolute())))
            if not outcome.ok:
                raise CdnctlError(outcome.text, outcome.remedy)

    def _end_recording(self, client: Client) -> None:
        """The file as it is to stay; an agent that is gone has closed it."""
        if self._recording is not None:
            with contextlib.suppress(CdnctlError):
                self.out.print(client.request(StopRecording()).text, markup=False)

    # --- the console ---------------------------------------------------------------------------

    def _start_console(self) -> subprocess.Popen[bytes]:
        # In front, in the terminal's own process group; it must not outlive a killed demo.
        command = ["setpriv", "--pdeathsig", "TERM", "--", *python_module("cdnctl", "--edge", self.name)]
        return subprocess.Popen(command, env=environment())

    def _pause(self, seconds: float) -> None:
        """Wait; ViewerLeft as soon as there was a console and it is gone."""
        deadline = time.monotonic() + seconds
        while True:
            self._signals.check()
            if self._console is not None and self._console.poll() is not None:
                raise ViewerLeft
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _WATCH_S))

    def _end_console(self) -> None:
        if self._console is not None and self._console.poll() is None:
            self._console.terminate()
            try:
                self._console.wait(5)
            except subprocess.TimeoutExpired:
                self._console.kill()
                self._console.wait(5)

    # --- words ---------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._signals.check()
        self.out.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {text}")

    def _print(self, lines: list[report.Claim]) -> None:
        from rich.table import Table

        table = Table(title="the incident", title_justify="left", show_edge=False, pad_edge=False)
        for header, justify in (("claim", "left"), ("value", "right"), ("unit", "left"), ("bound", "right")):
            table.add_column(header, justify=justify)  # type: ignore[arg-type]
        table.add_column("holds")
        for line in lines:
            value = "not measured" if line.value is None else f"{line.value:,.10g}"
            verdict = "" if not line.bound else "[green]yes[/]" if line.holds else "[bold red]no[/]"
            if line.load and not line.holds:
                verdict = "[yellow]less load than wanted[/]"
            table.add_row(line.name, value, line.unit, line.bound, verdict)
        self.out.print(table)
        failed = [line for line in lines if line.gate and not line.holds]
        gated = sum(line.gate for line in lines)
        verdict = f"[bold red]{len(failed)} of {gated} gated claims do not hold" if failed else (
            f"[bold green]all {gated} gated claims hold"
        )  # fmt: skip
        self.out.print(verdict)
        for line in failed:
            self.out.print(
                f"  {line.name}: {line.value if line.value is not None else 'not measured'}, {line.bound}"
            )

        if short := report.shortfalls(lines):
            self.out.print(
                "[yellow]less load than wanted:[/] the generators could offer no more on this machine; the"
                " claims are about what they did offer"
            )
            for text in short:
                self.out.print(f"  {text}")

    def _write(self, lines: list[report.Claim], incident: Incident) -> None:
        if self.json_path is None:
            return
        steps = [
            {"name": step.name, "start_ns": step.start_ns, "end_ns": step.end_ns, "fault_ns": step.fault_ns}
            for step in incident.steps
        ]
        document: dict[str, Any] = {
            "edge": self.name,
            "finished": incident.finished,
            "blocked_by": incident.flood.by,
            "claims": [
                {key: getattr(line, key) for key in line.__struct_fields__} for line in lines
            ],
            "steps": steps,
        }  # fmt: skip
        self.json_path.write_text(json.dumps(document, indent=2) + "\n")
