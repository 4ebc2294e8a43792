"""`cdnctl demo`: the lab, a scenario in it, and a report.

In a terminal the console runs in front, as a program of its own, and shows it live; what it has shown is
summed up when the viewer leaves. Headless, steps and report are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.errors import CdnctlError, UsageError
from cdnctl.lab import printed, report
from cdnctl.lab.attacks.assault import ATTACK_S
from cdnctl.lab.lab import Lab, require_root
from cdnctl.lab.processes import LabError
from cdnctl.lab.scenarios import DEFAULT, SCENARIOS, Manner, Play, Scenario
from cdnctl.model import Record, StopRecording
from cdnctl.python import environment, python_module

NAME = "demo"
REPORT_COLUMNS = 130
STDOUT = Path("-")
MAX_RATE, MAX_SECONDS = 2_000_000, 60
"""Of an attack: more than any machine's live frames, and longer than anybody watches."""
_WATCH_S = 0.1

EXAMPLES = """\
examples:
  cdnctl demo                         in a terminal: watch it live, press b to block the flood
  cdnctl demo --headless              print a report instead
  cdnctl demo --headless --json r.json
  cdnctl demo --scenario list         the names of what can be played, one a line
  cdnctl demo --scenario syn-flood    an attack, which the edge has to sit out by itself
  cdnctl demo --scenario udp-flood --headless --json --rate 500000 --seconds 5 | jq .claims
  cdnctl demo --record incident.rec   keep it; `cdnctl replay incident.rec` plays it without root

The exit status is 0 when every gated claim of the report holds, or when you quit before the play's end;
1 when one does not.
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
        description="Build an edge, its clients and three CDNs in network namespaces, and play a scenario; "
        "by default the incident: a CDN slows, another goes dark, a SYN flood comes and is blocked. That "
        "takes some 90 s, an attack some 25 s; needs root. "
        "Nothing outside the namespaces is touched, and everything is removed at the end "
        f"(a BPF file system is mounted on {paths.BPFFS} if there is none, and stays).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    this.add_argument(
        "--scenario",
        metavar="NAME",
        default=DEFAULT,
        help=f"what to play; `list` names all (default: {DEFAULT})",
    )
    this.add_argument("--headless", action="store_true", help="no console: print the steps and a report")
    this.add_argument(
        "--json",
        metavar="FILE",
        type=Path,
        nargs="?",
        const=STDOUT,
        help="write the report to FILE, too; without FILE to stdout, and all else to stderr",
    )
    this.add_argument(
        "--record", metavar="FILE", type=Path, help="record the edge to FILE, which must be new"
    )
    this.add_argument(
        "--rate",
        type=_number(1, MAX_RATE),
        help=f"of an attack: packets or connections a second, at most {MAX_RATE:,} (default: its own)",
    )
    this.add_argument(
        "--seconds",
        type=_number(1, MAX_SECONDS),
        help=f"of an attack: how long, at most {MAX_SECONDS} (default: {ATTACK_S:g})",
    )
    this.add_argument("--name", default=NAME, help=f"name of the lab and its edge (default: {NAME})")
    return this


def _number(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most:  # nor is what is no number at all
            raise argparse.ArgumentTypeError(f"{text}: from {least:,} to {most:,}")
        return value

    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Play the demo; the exit status."""
    options = parser().parse_args(argv)
    if options.scenario == "list":
        print("\n".join(SCENARIOS))
        return 0
    headless = options.headless or not (sys.stdin.isatty() and sys.stdout.isatty())
    try:
        scenario = _scenario(options)
        paths.check_name(options.name)
        require_root()
        if options.json and options.json != STDOUT:
            _check_writable(options.json)
        if options.record:
            _check_new(options.record)
        with Signals() as signals:
            return Demo(options, scenario, signals).play(headless)
    except Ended as ended:
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            print("ended by a signal; everything is removed", file=sys.stderr)
        return 128 + ended.number
    except (CdnctlError, OSError, ValueError) as error:
        print(f"cdnctl: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CdnctlError) else 1


def _scenario(options: argparse.Namespace) -> Scenario:
    """What is meant. Raises UsageError."""
    found = SCENARIOS.get(options.scenario)
    if found is None:
        raise UsageError(f"no scenario is called {options.scenario!r}", f"one of: {', '.join(SCENARIOS)}")
    if found.attack is None and (options.rate or options.seconds):
        raise UsageError("--rate and --seconds are an attack's", f"{found.name} has its own; leave them out")
    return found


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

    def __init__(self, options: argparse.Namespace, scenario: Scenario, signals: Signals) -> None:
        from rich.console import Console

        self.name: str = options.name
        self._options, self._scenario, self._signals = options, scenario, signals
        to_stdout = options.json == STDOUT
        terminal = (sys.stderr if to_stdout else sys.stdout).isatty()
        # Where there is no terminal there is no width: a report in a file is not folded.
        self.out = Console(highlight=False, stderr=to_stdout, width=None if terminal else REPORT_COLUMNS)
        self._began = time.monotonic()
        self._console: subprocess.Popen[bytes] | None = None
        self._left = False

    def play(self, headless: bool) -> int:
        """Build, play, take down, report."""
        lab = Lab(self.name, agent=True, say=self._say, **self._scenario.lab)
        failure: CdnctlError | None = None
        try:
            with lab:
                with Client(paths.socket_path(self.name), client="demo") as client:
                    play = self._scenario.make(lab, client, self._manner(headless))
                    try:
                        self._record(client)
                        self._run(lab, play, headless)
                    except CdnctlError as error:
                        failure = error
                        failure.add_note(lab.log("agent"))
                    finally:
                        self._end_console()
                        self._end_recording(client)
                lines = play.claims()
        finally:
            if lab.left:
                self.out.print(f"[bold red]not removed:[/] {', '.join(lab.left)}")
        if failure is not None or not play.finished:
            lines.append(report.missing())
        lines.append(report.clean_up(lab.left or []))
        details = play.details()
        left_early = failure is None and self._left and not play.finished
        printed.table(self.out, self._scenario.title, lines, details, left_early=left_early)
        if self._options.json is not None:
            document = printed.document(self.name, play, lines, details)
            if self._options.json == STDOUT:
                print(document)
            else:
                self._options.json.write_text(document + "\n")
        if failure is not None:
            print(f"cdnctl: {failure}", file=sys.stderr)
            for note in failure.__notes__:
                print(note, file=sys.stderr)
        if left_early:  # then the rest was not asked for
            return 1 if lab.left else 0
        return 0 if all(line.holds for line in lines if line.gate) else 1

    def _manner(self, headless: bool) -> Manner:
        return Manner(
            invite=not headless,
            pause=self._pause,
            say=self._say if headless else lambda text: None,
            rate=self._options.rate or 0.0,
            seconds=self._options.seconds or ATTACK_S,
        )

    def _run(self, lab: Lab, play: Play, headless: bool) -> None:
        if headless:
            play.run()
        else:
            self._console = self._start_console()
            with contextlib.suppress(ViewerLeft):
                play.run()
                play.rest()
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
        if self._options.record is not None:
            outcome = client.request(Record(path=str(self._options.record.absolute())))
            if not outcome.ok:
                raise CdnctlError(outcome.text, outcome.remedy)

    def _end_recording(self, client: Client) -> None:
        """The file as it is to stay; an agent that is gone has closed it."""
        if self._options.record is not None:
            with contextlib.suppress(CdnctlError):
                self.out.print(client.request(StopRecording()).text, markup=False)

    # --- the console ---------------------------------------------------------------------------

    def _start_console(self) -> subprocess.Popen[bytes]:
        # In front, in the terminal's own process group; it must not outlive a killed demo.
        command = ["setpriv", "--pdeathsig", "TERM", "--", *python_module("cdnctl", "--edge", self.name)]
        return subprocess.Popen(command, env=environment({paths.OF_DEMO: "1"}))

    def _pause(self, seconds: float) -> None:
        """Wait; ViewerLeft as soon as there was a console and it is gone."""
        deadline = time.monotonic() + seconds
        while True:
            self._signals.check()
            if self._console is not None and self._console.poll() is not None:
                self._left = True
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
