"""The data path as a compiler left it, and how the kernel gets it: no compiler is needed for that.

Instructions name their maps by number, and what each map is stands beside them. So it depends on nothing
that goes with the process that compiled it, and can be kept (cache.py). Nor does it depend on how large an
operator wants tables: those sizes are words in the source, and numbers when the maps are made.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from cdnctl.datapath import kernel, loading
from cdnctl.errors import CdnctlError

_PINNED = re.compile(r"^PINNED\(.*, (\w+), ([^,\n]+), [^,\n]+\);$", re.MULTILINE)
"""A map's name, and its size as the source says it."""
_INSTRUCTION = struct.Struct("=BBhi")
_LOAD_WIDE, _OF_MAP = 0x18, 1
"""`BPF_LD | BPF_IMM | BPF_DW`, and the source register that makes its number a map (BPF_PSEUDO_MAP_FD)."""


class MapShape(Struct, frozen=True):
    """What a map is made from."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    size: str
    """Of a pinned one, as the source says it: `max_entries`, unless whoever makes it knows that word. Empty:
    it is not pinned, and made anew for each load."""


class Compiled(Struct, frozen=True):
    """All programs of one source."""

    maps: list[MapShape]
    programs: dict[str, bytes]
    """Instructions by function; the maps in them are places in `maps`."""


def taken_from(module: Any, text: str, functions: Iterable[str]) -> Compiled:
    """What BCC has compiled of that text."""
    from bcc.libbcc import lib

    lib.bpf_table_name.restype = ctypes.c_char_p
    lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    places = range(lib.bpf_num_tables(module.module))
    names = [lib.bpf_table_name(module.module, place).decode() for place in places]
    descriptors = [lib.bpf_table_fd_id(module.module, place) for place in places]
    sizes = dict(_PINNED.findall(text))
    maps = [_shape(name, fd, sizes.get(name, "")) for name, fd in zip(names, descriptors, strict=True)]
    numbers = {fd: number for number, fd in enumerate(descriptors)}
    return Compiled(maps, {name: _with_maps(module.dump_func(name.encode()), numbers) for name in functions})


def _shape(name: str, fd: int, size: str) -> MapShape:
    info = kernel.map_info(fd)
    return MapShape(name, info.type, info.key_size, info.value_size, info.max_entries, info.flags, size)


def _with_maps(code: bytes, numbers: dict[int, int] | list[int]) -> bytes:
    """The same instructions, with `numbers[n]` wherever they name the map n."""
    changed = bytearray(code)
    wide = False  # the second half of a wide instruction looks like an instruction, and is none
    for place in range(0, len(code), _INSTRUCTION.size):
        operation, registers, offset, number = _INSTRUCTION.unpack_from(code, place)
        if not wide and operation == _LOAD_WIDE and registers >> 4:
            if registers >> 4 != _OF_MAP:
                raise CdnctlError("the compiled data path refers to something that is no map of it")
            _INSTRUCTION.pack_into(changed, place, operation, registers, offset, numbers[number])
        wide = not wide and operation == _LOAD_WIDE
    return bytes(changed)


class Loaded:
    """Descriptors of programs and of the maps they use, all open until `close`; a context manager."""

    def __init__(
        self, compiled: Compiled, pins: Path, functions: Iterable[str], sizes: Mapping[str, int] | None
    ) -> None:
        """Have the kernel take `functions`, with the maps of `pins`; those missing are made in those `sizes`.

        Without `sizes` those that are pinned are good in any, and none may be missing.

        Raises loading.Refused, CdnctlError, OSError.
        """
        self.multi_buffer = loading.takes_multi_buffer()
        """Whether frames in several buffers are taken; an old kernel refuses."""
        self.load_s = 0.0
        """What the verifier took of CPUs."""
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        try:
            self._open(compiled.maps, pins, sizes)
            self._load({name: compiled.programs[name] for name in functions})
        except BaseException:
            self.close()
            raise

    def _open(self, shapes: Iterable[MapShape], pins: Path, sizes: Mapping[str, int] | None) -> None:
        """Or make: side by side, for the kernel clears a table of a million while nobody needs it to."""

        def opened(shape: MapShape) -> int:
            return _opened(shape, pins, sizes) if shape.size else _made(shape)

        with ThreadPoolExecutor(_cpus()) as pool:
            results = {shape.name: pool.submit(opened, shape) for shape in shapes}
        _gather(results, self.maps)

    def _load(self, programs: Mapping[str, bytes]) -> None:
        """The verifier walks one program on a CPU; the longest are begun with, so that none is left last."""
        descriptors, took_s = list(self.maps.values()), list[float]()

        def load(name: str) -> int:
            began = time.thread_time()
            code = _with_maps(programs[name], descriptors)
            shown = name if self.multi_buffer else name + loading.SINGLE
            fd = loading.load_xdp(code, shown, multi_buffer=self.multi_buffer)
            took_s.append(time.thread_time() - began)
            return fd

        with ThreadPoolExecutor(_cpus()) as pool:
            by_length = sorted(programs, key=lambda name: -len(programs[name]))
            results = {name: pool.submit(load, name) for name in by_length}
        _gather({name: results[name] for name in programs}, self.programs)
        self.load_s = sum(took_s)

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back; what is pinned or attached stays."""
        for held in (self.programs, self.maps):
            while held:
                os.close(held.popitem()[1])


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


def _gather(results: Mapping[str, Future[int]], into: dict[str, int]) -> None:
    """Descriptors that were made side by side; when one raises, all others are there, to be closed."""
    for name, result in results.items():
        if result.exception() is None:
            into[name] = result.result()
    for result in results.values():
        result.result()


def _made(shape: MapShape) -> int:
    return kernel.map_create(
        shape.type, shape.name, shape.key_size, shape.value_size, shape.max_entries, shape.flags
    )


def _opened(shape: MapShape, pins: Path, sizes: Mapping[str, int] | None) -> int:
    pin = pins / shape.name
    if sizes is not None:
        shape = replace(shape, max_entries=sizes.get(shape.size, shape.max_entries))
    if not pin.exists():
        if sizes is None:
            raise CdnctlError(f"{pins} has no {shape.name}")
        fd = _made(shape)
        kernel.obj_pin(fd, pin)
        return fd
    fd = kernel.obj_get(pin)
    info = kernel.map_info(fd)
    if sizes is None:
        shape = replace(shape, max_entries=info.max_entries)
    held = (info.type, info.key_size, info.value_size, info.max_entries, info.flags)
    if held != (shape.type, shape.key_size, shape.value_size, shape.max_entries, shape.flags):
        os.close(fd)
        raise CdnctlError(f"{pin} is a map of another shape than this data path's")
    return fd
