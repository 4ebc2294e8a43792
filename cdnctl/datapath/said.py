"""What libbpf has to say, the kernel's own words in it among them: heard, not printed.

It would go to standard error, where a console draws. Only what is said within `listening` is kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator

from cdnctl.datapath import kernel

_KERNEL = "Kernel error message: "
_ROOM = 1024
_Print = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_heard: list[list[str]] = []


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """The kernel's messages within this block, filled in as they come."""
    _callback()
    words: list[str] = []
    _heard.append(words)
    try:
        yield words
    finally:
        _heard.remove(words)


@functools.cache
def _callback() -> Callable[..., int]:
    """Takes over from libbpf's own; kept alive by the cache."""
    vsnprintf = ctypes.CDLL(None).vsnprintf
    vsnprintf.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)

    def hear(_level: int, template: bytes, arguments: int) -> int:
        room = ctypes.create_string_buffer(_ROOM)
        vsnprintf(room, _ROOM, template, arguments)  # a va_list is passed by its address
        text = room.value.decode(errors="replace").strip()
        _, mark, words = text.partition(_KERNEL)
        if mark and _heard:
            _heard[-1].append(words)
        return 0

    callback: Callable[..., int] = _Print(hear)
    kernel.libbpf().libbpf_set_print(callback)
    return callback
