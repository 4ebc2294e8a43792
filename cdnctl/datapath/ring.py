"""One CPU's perf buffer: BCC opens it, and its records are read here, all that there are at once.

BCC's own reader calls back into Python for each record, which costs several times what reading it does. The
ring (perf_event_open(2), "MMAP layout") is a page of bookkeeping and then the records, each behind a header;
it may be mapped twice, by BCC and here.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

_HEAD, _TAIL = 1024, 1032
"""Where the kernel says up to where it has written, and we up to where we have read."""
_WORD = struct.Struct("=Q")
_HEADER = struct.Struct("=IHH")
"""Type, misc, bytes of the whole record."""
_SAMPLE, _LOST = 9, 2
_LOST_COUNT = struct.Struct("=8xQQ")
RAW_AT = _HEADER.size + 4
"""What the program submitted begins here: behind the header, and its length."""


def record_size(submitted: int) -> int:
    """Bytes of a record that carries so many: the kernel pads it to a multiple of 8."""
    return (RAW_AT + submitted + 7) & ~7


class Records(NamedTuple):
    """What was in a ring."""

    data: bytes
    """Records of one size, one behind the other."""
    lost: int
    """Those for which there was no room."""


class Ring:
    """The perf buffer of a CPU, for records of `submitted` bytes. Raises OSError."""

    def __init__(self, cpu: int, pages: int, submitted: int, wakeup: int) -> None:
        from bcc import libbcc

        self._library = libbcc.lib
        self._size = record_size(submitted)
        options = libbcc.bcc_perf_buffer_opts()
        options.pid = -1
        options.cpu = cpu
        options.wakeup_events = wakeup
        # nothing is ever read by BCC, so these are never called; but they may not be forgotten either
        self._callbacks: tuple[Any, Any] = (
            libbcc._RAW_CB_TYPE(lambda *_: None),
            libbcc._LOST_CB_TYPE(lambda *_: None),
        )
        self._reader = self._library.bpf_open_perf_buffer_opts(
            *self._callbacks, None, pages, ctypes.byref(options)
        )
        if not self._reader:
            raise OSError(f"cannot open a perf buffer of {pages} pages on CPU {cpu}")
        self.fd: int = self._library.perf_reader_fd(self._reader)
        try:
            self._memory = mmap.mmap(self.fd, (pages + 1) * mmap.PAGESIZE)
        except OSError:
            self._library.perf_reader_free(ctypes.c_void_p(self._reader))
            raise
        self._room = pages * mmap.PAGESIZE

    def take(self) -> Records:
        """What has come since the last call."""
        memory = self._memory
        head, tail = _WORD.unpack_from(memory, _HEAD)[0], _WORD.unpack_from(memory, _TAIL)[0]
        if head == tail:
            return Records(b"", 0)
        begin, end = tail % self._room + mmap.PAGESIZE, head % self._room + mmap.PAGESIZE
        data = memory[begin:end] if begin < end else memory[begin:] + memory[mmap.PAGESIZE : end]
        _WORD.pack_into(memory, _TAIL, head)
        count, odd = divmod(len(data), self._size)
        if not odd and data[:: self._size] == bytes((_SAMPLE,)) * count:
            sizes = self._size.to_bytes(2, "little")
            if data[6 :: self._size] == sizes[:1] * count and data[7 :: self._size] == sizes[1:] * count:
                return Records(data, 0)  # nothing else is in it: nearly always
        return self._sorted(data)

    def _sorted(self, data: bytes) -> Records:
        kept, lost = [], 0
        for kind, record in _records(data):
            if kind == _LOST:
                lost += _LOST_COUNT.unpack_from(record)[1]
            elif kind == _SAMPLE and len(record) == self._size:
                kept.append(record)
        return Records(b"".join(kept), lost)

    def close(self) -> None:
        """Give it back; the kernel then has nobody to tell."""
        self._memory.close()
        self._library.perf_reader_free(ctypes.c_void_p(self._reader))


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and records."""
    at = 0
    while at + _HEADER.size <= len(data):
        kind, _misc, size = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return  # no record is smaller than its header: what follows cannot be found
        yield kind, data[at : at + size]
        at += size
