"""Live frames on one core, and how many of them were dropped."""

from __future__ import annotations

import socket
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from cdnctl.datapath import abi, kernel, toolchain
from cdnctl.datapath.compiled import Loaded, taken_from
from tests.bench.decisions import packets
from tests.bench.results import Unsound

SOURCE = Path(__file__).with_name("generator.c")
_GENERATE = "generate"
_TURN = struct.Struct("=3I")
_NEXT = 8
_BATCH = 64
_LEAST_DROPPED = 0.9
"""Of what was sent; the rest did not fit the link's ring: whoever empties it was kept off the core."""
_TRIES = 3


class Generator:
    """Sends frames out of a link from the sources it was given.

    To be used in the network namespace of the link, on the CPU that is measured.
    """

    def __init__(self, sources: Sequence[int]) -> None:
        text = SOURCE.read_text()
        module = toolchain.compile_module(text, [f"-DSOURCES={len(sources)}"])
        self._loaded = Loaded(taken_from(module, text, [_GENERATE]), Path(), [_GENERATE], None)
        module.cleanup()
        self._turn = kernel.Map(self._loaded.maps["turn"])
        numbers = array("Q", map(socket.htonl, sources))  # the values of an array stand 8 bytes apart
        with kernel.Map(self._loaded.maps["sources"]).memory() as memory:
            memory[: len(numbers) * numbers.itemsize] = numbers.tobytes()
        target = packets.Ends(0, packets.number("203.0.113.80"), 50_000, 80)
        frame = bytearray(packets.frame(packets.TCP4, packets.SYN))
        frame[26:38] = packets.pack([target])[:12]
        self._frame = bytes(frame)

    def rate(self, ifindex: int, span: range, frames: int, dropped: Callable[[], int]) -> float:
        """Millions of frames dropped per second, of so many sent, from that span of the sources.

        Raises Unsound when too many came nowhere, again and again.
        """
        for _ in range(_TRIES):
            self._turn.put(abi.key(0), _TURN.pack(span.start, len(span), 0))
            before, began = dropped(), time.perf_counter()
            kernel.test_run(
                self._loaded.programs[_GENERATE],
                self._frame,
                repeat=frames,
                ifindex=ifindex,
                flags=kernel.LIVE_FRAMES,
                batch=_BATCH,
            )
            took_s, found = time.perf_counter() - began, dropped() - before
            if found >= _LEAST_DROPPED * frames:
                return found / took_s / 1e6
        raise Unsound(f"of {frames} live frames {found} were dropped by the program")

    def close(self) -> None:
        """Let go of the program and its tables."""
        self._loaded.close()
