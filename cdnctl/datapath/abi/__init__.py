"""Mirrors of bpf/abi.h, field by field. tests/packet holds them against the compiled layouts.

Addresses are struct address and ports 16 bits, both as they stand in a packet: make them with
`address()` (or `packed()` for a key) and `port()`, read them with `show_address()` and `show_port()`.

    numbers   its limits                      told   structs that user space writes
    enums     its enums                       kept   structs that the kernel writes
    values    addresses, prefixes, ports, pools and limits, to and from words
"""

from __future__ import annotations

import ctypes
import struct

from cdnctl.datapath.abi.enums import *  # noqa: F403
from cdnctl.datapath.abi.kept import *  # noqa: F403
from cdnctl.datapath.abi.numbers import *  # noqa: F403
from cdnctl.datapath.abi.told import *  # noqa: F403
from cdnctl.datapath.abi.values import *  # noqa: F403


def key(number: int) -> bytes:
    """An array's key."""
    return struct.pack("I", number)


def size(kind: type[ctypes.Structure]) -> int:
    """Bytes of a mirror."""
    return ctypes.sizeof(kind)


def bucket_limits_us(bucket: int) -> tuple[float, float]:
    """Lower and upper bound of a histogram's bucket: eight steps an octave, as histogram.h fills them."""
    octave, step = divmod(bucket, 8)
    if octave < 3:
        return float(1 << octave), float(2 << octave)
    width = 1 << (octave - 3)
    low = (1 << octave) + step * width
    return float(low), float(low + width)
