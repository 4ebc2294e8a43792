"""The data path compiled with TRACE, on an edge's own pinned maps: what would become of a packet?

Every look-up is the real one and no write is done (bpf/write.h). It is compiled and run by a child, as
the real one is built by one (build.py): `python -m cdnctl.datapath.tracer PINS CFLAG...` says a line of
JSON when it is ready, then answers each request on standard input by a line of its own. What it loads
goes with it.
"""

from __future__ import annotations

import os
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from cdnctl.datapath import abi, build, kernel
from cdnctl.datapath.abi.noted import NoteKind
from cdnctl.datapath.kernel import Map
from cdnctl.errors import CdnctlError
from cdnctl.python import environment, python_module

_NOTE = struct.Struct("=3Q")
_TIMEOUT_S = 120.0
_TICK_S = 0.1
_LINES_SHOWN = 10


class Note(msgspec.Struct, frozen=True, array_like=True):
    """A mark that the packet passed (NOTE in bpf/trace.h)."""

    kind: NoteKind
    a: int
    b: int


class Request(msgspec.Struct, frozen=True):
    """A frame, and the interface that it comes in by."""

    frame: bytes
    ifindex: int


class Traced(msgspec.Struct, frozen=True):
    """What became of it."""

    action: int
    """enum xdp_action."""
    frame: bytes
    notes: list[Note]


# --- the child -----------------------------------------------------------------------------------------


class _Program:
    """The program with its own stages and notes, open as long as this is."""

    def __init__(self, pins: Path, cflags: Sequence[str]) -> None:
        text, flags = build.source(), ["-DTRACE", *cflags]
        compiled = build.compiled_for(text, flags, warn=lambda _: None)
        self._loaded = build.load(compiled, pins, text, flags, None, sweep=False)
        self._notes = Map(self._loaded.maps["notes"])

    def run(self, request: Request) -> Traced:
        """One frame through it."""
        self._notes.put(abi.key(0), bytes(self._notes.info.value_size))
        ran = kernel.test_run(self._loaded.programs[build.PROGRAM], request.frame, ifindex=request.ifindex)
        raw = self._notes.get(abi.key(0)) or b""
        count = int.from_bytes(raw[:8], "little")
        rows = _NOTE.iter_unpack(raw[8 : 8 + count * _NOTE.size])
        return Traced(ran.action, ran.frame, [Note(NoteKind(kind), a, b) for kind, a, b in rows])


def main() -> int:
    """Compile, say so, and answer until standard input ends."""
    try:
        program = _Program(Path(sys.argv[1]), sys.argv[2:])
        print("{}", flush=True)
        for line in sys.stdin:
            traced = program.run(msgspec.json.decode(line, type=Request))
            print(msgspec.json.encode(traced).decode(), flush=True)
    except CdnctlError as error:
        print(error.message, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


# --- its parent ----------------------------------------------------------------------------------------


class Tracer:
    """A child that is ready to trace; a context manager. Raises CdnctlError.

    Whoever makes it must be root, in the edge's network namespace. `waiting` is called some times a
    second while it compiles, which takes seconds.
    """

    def __init__(
        self, pins: Path, *, cflags: Sequence[str] = (), waiting: Callable[[], None] = lambda: None
    ) -> None:
        command = python_module("cdnctl.datapath.tracer", str(pins), *cflags)
        self._child = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._waiting = waiting
        try:
            self._line()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.communicate()

    def run(self, frame: bytes, ifindex: int) -> Traced:
        """What would become of this frame, if it came in by this interface now."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(msgspec.json.encode(Request(frame, ifindex)) + b"\n")
            self._child.stdin.flush()
        except OSError:
            pass  # it has ended; `_line` says of what
        return msgspec.json.decode(self._line(), type=Traced)

    def _line(self) -> bytes:
        """Its next line."""
        assert self._child.stdout is not None
        deadline = time.monotonic() + _TIMEOUT_S
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while not said.endswith(b"\n"):
                if selector.select(_TICK_S):
                    part = os.read(self._child.stdout.fileno(), 1 << 16)
                    if not part:
                        raise self._failure()
                    said += part
                elif time.monotonic() > deadline:
                    raise CdnctlError(f"no trace within {_TIMEOUT_S:.0f} s", "see what keeps this box busy")
                else:
                    self._waiting()
        return said

    def _failure(self) -> CdnctlError:
        _, words = self._child.communicate()
        lines = words.decode(errors="replace").splitlines()
        faults = [line for line in lines if "error" in line] or lines[-_LINES_SHOWN:]
        return CdnctlError(
            "the data path cannot be traced:\n  " + "\n  ".join(faults[:_LINES_SHOWN]),
            "the lines above are the compiler's or the kernel's own words",
        )


if __name__ == "__main__":
    sys.exit(main())
