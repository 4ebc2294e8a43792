"""The bench's programs, compiled; streams of packets; one timed run."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdnctl.datapath import abi, kernel, toolchain
from cdnctl.datapath.compiled import Loaded, taken_from
from cdnctl.datapath.packing import Entries
from tests.bench.decisions.packets import FRAME_BYTES, Ends, family_of, pack

SOURCE = Path(__file__).with_name("programs.c")
EDGE, NOTHING = "edge", "nothing"
"""The program under test, and the shim's own cost."""
REFERENCES = (
    NOTHING,
    "parse_only",
    "look_up_flow",
    "look_up_flow6",
    "insert_flow",
    "look_up_exact",
    "look_up_prefix",
    "look_up_stranger",
)
STREAM_ENTRIES = 1 << 20
_SHIM = "shim"
_ENTRY_BYTES = 16
_WORK = struct.Struct(f"=6I{FRAME_BYTES}s")
_NEXT = 12


@dataclass
class Stream:
    """A stretch of the shim's table, and how far the packets have come in it."""

    first: int
    count: int
    next: int = 0


class Shim:
    """Runs programs behind the shim. To be used in the network namespace of the edge."""

    def __init__(self, pins: Path, cflags: Sequence[str]) -> None:
        """Compile and load; `cflags` are the numbers of its addresses."""
        text, functions = toolchain.join(SOURCE), (_SHIM, *REFERENCES)
        module = toolchain.compile_module(text, [f"-DSTREAM={STREAM_ENTRIES}", *cflags])
        self._loaded = Loaded(taken_from(module, text, functions), pins, functions, None)
        module.cleanup()
        self._program = self._loaded.programs[_SHIM]
        self._programs = kernel.Map(self._loaded.maps["programs"])
        self._numbers: dict[str, int] = {}
        for name in REFERENCES:
            self._add(name, self._loaded.programs[name])
        self._edge = kernel.obj_get(pins / EDGE)
        self._add(EDGE, self._edge)
        self._work = kernel.Map(self._loaded.maps["work"])
        self._entries = kernel.Map(self._loaded.maps["stream"]).memory()
        self._used = 0

    def _add(self, name: str, program: int) -> None:
        number = len(self._numbers)
        self._programs.put(abi.key(number), struct.pack("I", program))
        self._numbers[name] = number

    def list(self, addresses: Mapping[bytes, bytes]) -> None:
        """Have exactly these, by their packed addresses, in the hash that `look_up_exact` asks."""
        table = kernel.Map(self._loaded.maps["addresses"])
        table.delete_all(list(table.keys()))
        Entries.of(addresses).write(table)

    def stream(self, ends: Sequence[Ends]) -> Stream:
        """Put a stream into the table."""
        stream = Stream(self._used, len(ends))
        if self._used + len(ends) > STREAM_ENTRIES:
            raise ValueError(f"all streams together are longer than {STREAM_ENTRIES} packets")
        self._used += len(ends)
        start = stream.first * _ENTRY_BYTES
        self._entries[start : start + len(ends) * _ENTRY_BYTES] = pack(ends)
        return stream

    @property
    def room(self) -> int:
        """Packets that streams to come may have together."""
        return STREAM_ENTRIES - self._used

    def forget(self, stream: Stream) -> None:
        """Give the room of the newest stream back."""
        if stream.first + stream.count != self._used:
            raise ValueError("only the newest stream can be forgotten")
        self._used = stream.first

    def run(
        self, program: str, stream: Stream, frame: bytes, repeat: int, ifindex: int, *, grows: bool = False
    ) -> kernel.Ran:
        """The next `repeat` packets of a stream; the action and the frame are the last one's.

        `grows`: the program leaves its frames longer at the front.
        """
        work = _WORK.pack(
            self._numbers[program],
            stream.first,
            stream.count,
            stream.next,
            family_of(frame) == 6,
            grows,
            frame,
        )
        self._work.put(abi.key(0), work)
        ran = kernel.test_run(self._program, frame, repeat=repeat, ifindex=ifindex)
        after = self._work.get(abi.key(0)) or work
        stream.next = struct.unpack_from("I", after, _NEXT)[0]
        if stream.next != (_WORK.unpack(work)[3] + repeat) % stream.count:
            raise RuntimeError("the shim did not run as often as asked")
        return ran

    def close(self) -> None:
        """Let go of the programs and tables."""
        self._entries.close()
        self._loaded.close()
