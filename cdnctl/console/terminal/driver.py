"""Textual's line to a terminal: its modes, size and signals, between `Inlet` and `Outlet`.

Painting keeps step with the terminal. While more than `FULL` bytes have not left, the app composes
nothing; once they have, it paints what is to be seen then, and nothing of what was to be seen meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING, Any

from textual import events
from textual.driver import Driver
from textual.geometry import Size
from textual.message import Message

from cdnctl.console.terminal.inlet import REST_S, Inlet, is_many
from cdnctl.console.terminal.outlet import Outlet
from cdnctl.console.terminal.shadow import Shadow

if TYPE_CHECKING:
    from textual.app import App

FULL = 8 << 10
"""Bytes: less than a whole screen of a large terminal."""
STALLED_S = 1.0
"""A terminal that took nothing for so long may have lost something: it is painted anew."""
FAREWELL_S = 0.5
"""How long a terminal has to take what sets it back."""
_AT_ONCE = 64 << 10
"""Bytes read before they are looked at."""
_SIZE = (80, 24)
"""Of a terminal that does not know its own."""

_BEGIN = (
    "\x1b[?1049h"  # the other screen
    "\x1b[?25l"  # no cursor
    "\x1b[?7l"  # no line wrap
    "\x1b[?2004h"  # mark what is pasted
)
_KEYS = "\x1b[>1u"  # escape as a key of its own, where that is known
_KEYS_STILL = "\x1b[=1u"
_MOUSE = "\x1b[?1000h\x1b[?1002h\x1b[?1006h"  # clicks, wheel, and moves with a button held; none without
_ASK = "\x1b[?2026$p"  # can it take a whole picture at once?
_END = (
    "\x1b[?2026l\x1b[<u\x1b[?2004l"
    "\x1b[?1006l\x1b[?1002l\x1b[?1000l"
    "\x1b[?7h\x1b[?1049l\x1b[?25h"
    "\x1b[0m"
)  # fmt: skip


class Terminal(Driver):
    """Draws on standard error, reads standard input, which are one terminal."""

    class Gone(Message):
        """Nobody is at the other end any more."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._in, self._out = sys.__stdin__.fileno(), sys.__stderr__.fileno()  # type: ignore[union-attr]
        self._encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
        self._attributes: list[Any] | None = None
        """How the terminal was before."""
        self._shadow = Shadow()
        self._outlet: Outlet | None = None
        self._unfinished: Outlet | None = None
        """One that could not be waited for: no other may write beside it."""
        self._reader: threading.Thread | None = None
        self._wake_read, self._wake_write = -1, -1
        self._held = contextlib.ExitStack()
        """Keeps the app from painting."""
        self._full_since_s = 0.0
        """0: it is not full."""
        self._painted = True
        """What was to be painted last went out."""
        self.heard_s = time.monotonic()
        """When something came in."""
        self._owes = False
        """Something was to be painted that was not, and is not dirty any more."""

    # --- begin and end ----------------------------------------------------------------------------

    @property
    def can_suspend(self) -> bool:
        """A shell may stop it."""
        return True

    def start_application_mode(self) -> None:
        """Take the terminal. Stopped by the kernel here when it is another job's."""
        with contextlib.suppress(termios.error):
            self._attributes = termios.tcgetattr(self._in)
        self._set_raw()
        left, self._unfinished = self._unfinished, None
        self._outlet = (
            left
            if left is not None and left.go_on()
            else Outlet(
                self._out,
                self._encoding,
                on_empty=lambda: self._in_loop(self._emptied),
                on_gone=lambda: self._in_loop(self._lost),
            )
        )
        self._resized()
        self.write(_BEGIN + _KEYS + (_MOUSE if self._mouse else "") + _ASK)
        self._wake_read, self._wake_write = os.pipe()
        self._reader = threading.Thread(target=self._read, name="console-input", daemon=True)
        self._reader.start()
        for number, heed in self._heeded.items():
            self._loop.add_signal_handler(number, heed)

    def stop_application_mode(self) -> None:
        """Set the terminal back; what was not painted yet never is."""
        for number in self._heeded:
            self._loop.remove_signal_handler(number)
        self.disable_input()
        self.restore()
        if self._outlet is not None:
            self._outlet.discard()
            self._outlet.write(_END)
        self._full_since_s, self._painted = 0.0, True
        self._held.close()

    def restore(self) -> None:
        """Echo, lines and signals as they were; from any thread."""
        if self._attributes is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._in, termios.TCSANOW, self._attributes)

    def disable_input(self) -> None:
        """Read no more."""
        if self._reader is None:
            return
        os.write(self._wake_write, b"x")
        self._reader.join()
        self._reader = None
        os.close(self._wake_read)
        os.close(self._wake_write)
        with contextlib.suppress(termios.error):
            termios.tcflush(self._in, termios.TCIFLUSH)

    def close(self) -> None:
        """Wait for the last words, not for long; a terminal that does not take them is left."""
        if self._outlet is not None:
            self._unfinished = None if self._outlet.end(FAREWELL_S) else self._outlet
            self._outlet = None

    def _set_raw(self) -> None:
        """Every key at once, none heeded by the kernel, no echo; also no end of line is made of another."""
        try:
            wanted = termios.tcgetattr(self._in)
            wanted[0] &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR)
            wanted[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
            wanted[6][termios.VMIN], wanted[6][termios.VTIME] = 1, 0
            termios.tcsetattr(self._in, termios.TCSANOW, wanted)
        except termios.error:
            pass  # it is gone: reading will tell

    # --- out --------------------------------------------------------------------------------------

    def write(self, data: str) -> None:
        """Have it written in its turn; never waits."""
        if self._outlet is None:
            return
        self._outlet.write(self._shadow.spare(data))
        if self._full_since_s:
            return
        self._painted = True
        if self._outlet.waiting > FULL:
            self._full_since_s = time.monotonic()
            self._held.enter_context(self._app.batch_update())

    def displayed(self) -> None:
        """The app has painted, or would have if it were not held."""
        self._owes = self._owes or not self._painted
        self._painted = not self._full_since_s

    def _emptied(self) -> None:
        """All has left: paint what is to be seen now."""
        if not self._full_since_s or (self._outlet is not None and self._outlet.waiting):
            return
        was_s = time.monotonic() - self._full_since_s
        repaint, self._owes, self._full_since_s = self._owes or was_s > STALLED_S, False, 0.0
        self._painted = True
        self._held.close()
        if self._app.is_running and self._app.screen_stack:
            if was_s > STALLED_S:
                self._shadow.forget()
            if repaint:
                self._app.screen.refresh()
            self._app.screen.check_idle()

    # --- in ---------------------------------------------------------------------------------------

    def _read(self) -> None:
        """The reader's thread: until it is told to end, or there is nobody to read from."""
        inlet = Inlet()
        poll = select.poll()
        for number in (self._in, self._wake_read):
            poll.register(number, select.POLLIN)
        while True:
            due_s = inlet.due_s
            ready = dict(poll.poll(None if due_s is None else due_s * 1000))
            if self._wake_read in ready:
                return
            messages = inlet.idle()
            if self._in in ready:
                if not (data := self._take()):
                    self._in_loop(self._lost)
                    return
                self.heard_s = time.monotonic()
                messages = inlet.feed(data)
            for message in messages:
                self.process_message(message)

    def _take(self) -> bytes:
        """What has come, in one piece; empty when nobody is there."""
        data, rest = b"", select.poll()
        rest.register(self._in, select.POLLIN)
        try:
            while len(data) < _AT_ONCE and (taken := os.read(self._in, _AT_ONCE)):
                data += taken
                if not (is_many(data) and rest.poll(REST_S * 1000)):
                    break
        except OSError:
            pass  # what came before counts; the next one tells again
        return data

    def _in_loop(self, call: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call)

    def _lost(self) -> None:
        self._app.post_message(self.Gone())

    # --- signals ----------------------------------------------------------------------------------

    @property
    def _heeded(self) -> dict[signal.Signals, Any]:
        return {
            signal.SIGWINCH: self._resized,
            signal.SIGTSTP: self.stop_process,
            signal.SIGCONT: self._continued,
        }

    def _resized(self) -> None:
        try:
            width, height = os.get_terminal_size(self._out)
        except OSError:
            width, height = 0, 0
        size = Size(width or _SIZE[0], height or _SIZE[1])
        self._shadow.resize(*size)
        self._app.post_message(events.Resize(size, size))

    def stop_process(self, *, group: bool = False) -> None:
        """Stop as any job does: the terminal as it was, and here again when the shell says so.

        `group`: whoever is in the same job, too, as when the kernel had seen the key. Where no shell could
        ever continue it, the kernel does not stop it.
        """
        self.stop_application_mode()
        self.close()
        # the kernel's own way with this signal, which is back in place since `stop_application_mode`
        os.kill(0 if group else os.getpid(), signal.SIGTSTP)
        self.start_application_mode()
        self._paint_anew()

    def _continued(self) -> None:
        """Stopped past us, by a signal that nobody sees: the shell has set the terminal back."""
        self._set_raw()
        self.write(_BEGIN + _KEYS_STILL + (_MOUSE if self._mouse else ""))
        self._resized()
        self._paint_anew()

    def _paint_anew(self) -> None:
        self._shadow.forget()
        if self._app.screen_stack:
            self._app.screen.refresh()
