"""A console in a terminal of the test's own making: what comes out of it, when, and what is then to be seen.

Unlike in tmux, the other end can stop reading, go away in the middle of a write, or paste what it likes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyte

from cdnctl.lab import processes

ROOT = Path(__file__).resolve().parents[2]
CONSOLE = (sys.executable, "-P", "-m", "cdnctl")
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<=>][\d;]*[a-zA-Z]|\x1b\[\?\d+\$p")
_WHOLE, _PACE_S = 1 << 16, 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Pty:
    """One process in one terminal, the leader of a session in it; read by a thread until `hold`."""

    def __init__(
        self,
        words: Sequence[str] = CONSOLE,
        size: tuple[int, int] = (120, 40),
        environment: Mapping[str, str] | None = None,
        *,
        draws: bool = True,
        controls: bool = True,
    ) -> None:
        """`draws`: follow the screen as it comes; else afterwards, by `replayed`, which disturbs nothing.

        `controls`: it is the process's controlling terminal, whose end the kernel tells by SIGHUP.
        """
        self.chunks: list[tuple[float, bytes]] = []
        """What came, and when, by the monotonic clock."""
        self.size = size
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._draws = draws
        self._at_once = _WHOLE
        self._lock = threading.Lock()
        self._reading = threading.Event()
        self._reading.set()
        self.master, slave = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(slave)
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT)}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "CDNCTL_EDGE", "TMUX"):
            env.pop(name, None)
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            words,
            stdin=slave, stdout=slave, stderr=slave,
            env={**env, **(environment or {})},
            preexec_fn=(lambda: os.login_tty(slave)) if controls else os.setsid,
        )  # fmt: skip
        self.slave = slave
        """Kept open: its modes are looked at after the console's end."""
        self._ending = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    # --- what comes -------------------------------------------------------------------------------

    def _read(self) -> None:
        while not self._ending:
            self._reading.wait()
            if self._ending or not select.select([self.master], [], [], 0.1)[0] or not self._reading.is_set():
                continue
            try:
                data = os.read(self.master, self._at_once)
            except OSError:
                return
            if self._at_once < _WHOLE:
                time.sleep(_PACE_S)
            self.chunks.append((time.monotonic(), data))
            if self._draws:
                with self._lock:
                    self._stream.feed(_UNKNOWN_TO_PYTE.sub(b"", data))

    def hold(self) -> None:
        """Read no more, as behind a stalled line."""
        self._reading.clear()

    def pace(self, bytes_per_s: int) -> None:
        """Read no faster from now on."""
        self._at_once = max(1, int(bytes_per_s * _PACE_S))

    def go_on(self) -> None:
        """Read again."""
        self._reading.set()

    @property
    def text(self) -> str:
        """What is to be seen now."""
        with self._lock:
            return "\n".join(self.screen.display)

    def wipe(self) -> None:
        """Forget what is to be seen, as a terminal does that was used for something else."""
        with self._lock:
            self.screen.reset()

    @property
    def bytes_read(self) -> int:
        """So far."""
        return sum(len(data) for _at, data in self.chunks)

    def until(self, seen: Callable[[], bool], seconds: float = 15.0, what: str = "") -> float:
        """Wait for something; how long it took, s."""
        began = time.monotonic()
        while not seen():
            took = time.monotonic() - began
            assert took < seconds, f"{what or 'not'} within {seconds} s; on screen:\n{self.text}"
            time.sleep(0.02)
        return time.monotonic() - began

    def shows(self, *words: str, seconds: float = 15.0) -> float:
        """Wait until all these are to be seen."""
        return self.until(lambda: all(word in self.text for word in words), seconds, f"{words}: not")

    def replayed(self, seen: Callable[[str, float], None]) -> None:
        """Draw all that came once more from the beginning; `seen` gets text and time after each piece."""
        screen = pyte.Screen(*self.size)
        stream = pyte.ByteStream(screen)
        lines = [""] * self.size[1]
        for at_s, data in self.chunks:
            stream.feed(_UNKNOWN_TO_PYTE.sub(b"", data))
            for row in screen.dirty:
                cells = screen.buffer[row]
                lines[row] = "".join([cells[column].data for column in range(self.size[0])])
            screen.dirty.clear()
            seen("\n".join(lines), at_s)

    # --- what goes --------------------------------------------------------------------------------

    def keys(self, text: str | bytes) -> None:
        """Type this, all at once."""
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[os.write(self.master, data[:1024]) :]

    def resize(self, width: int, height: int) -> None:
        """The terminal has another size from now on."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        with self._lock:
            self.screen.resize(height, width)

    def hang_up(self) -> None:
        """The terminal is gone: nobody is there to read, or to write to."""
        self.end_reading()
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    # --- the process ------------------------------------------------------------------------------

    @property
    def is_restored(self) -> bool:
        """Whether the terminal's modes are those from before."""
        return termios.tcgetattr(self.slave) == self.before

    @property
    def state(self) -> str:
        """As the kernel has it: R, S, T for stopped."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def cpu_s(self) -> float:
        """What the process has taken of processors, all its threads, s."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def memory_mb(self) -> dict[str, float]:
        """`Rss` and `Pss` of the process, MB."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return {
            name: int(found[1]) / 1024
            for name in ("Rss", "Pss")
            if (found := re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE))
        }

    def ends(self, seconds: float = 10.0) -> int:
        """Wait for its end: the exit status."""
        return self.process.wait(seconds)

    def end_reading(self) -> None:
        """The thread reads no more."""
        self._ending = True
        self._reading.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5)

    def close(self) -> None:
        """End it, and all that belongs to it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        self.end_reading()
        for number in (self.master, self.slave):
            if number >= 0:
                with contextlib.suppress(OSError):
                    os.close(number)


@contextlib.contextmanager
def made_up_edge(place: Path, *, talkers: int = 0, cdns: int = 3) -> Iterator[tuple[dict[str, str], Path]]:
    """Behind the agent's real server, with its files in this directory.

    The environment that finds it, and the file of the commands that it gets, a line each.
    """
    environment = {"CDNCTL_RUN_DIR": f"{place}/run", "XDG_STATE_HOME": f"{place}/state"}
    told = place / "told"
    with told.open("wb") as out:
        agent = processes.start(agent_words(talkers=talkers, cdns=cdns), stdout=out, extra=environment)
    try:
        deadline = time.monotonic() + 15
        while "ready\n" not in told.read_text():
            if agent.poll() is not None or time.monotonic() > deadline:
                raise processes.LabError("the made-up edge did not start")
            time.sleep(0.02)
        yield environment, told
    finally:
        processes.end(agent)


def agent_words(*, talkers: int = 0, cdns: int = 3) -> list[str]:
    """The command line of a made-up edge behind the agent's real server."""
    file = Path(__file__).with_name("made_up_agent.py")
    return [sys.executable, str(file), "--cdns", str(cdns), "--talkers", str(talkers)]
