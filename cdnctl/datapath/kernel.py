"""The BPF system calls that cdnctl needs, through libbpf and without BCC.

Thin and typed: file descriptors and bytes in, bytes out, OSError with the kernel's errno on failure.
Loads in a millisecond, so the command line can use it too.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cdnctl.errors import CdnctlError

BPF_ANY = 0
XDP_FLAGS_UPDATE_IF_NOEXIST = 1 << 0
XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2
XDP_FLAGS_REPLACE = 1 << 4
LIVE_FRAMES = 1 << 1
"""BPF_F_TEST_XDP_LIVE_FRAMES: the frames of a test run really go out."""
_BATCH = 4096
_BATCH_BYTES = 4 << 20
_PER_CPU = (5, 6, 10)
"""BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_LRU_PERCPU_HASH."""
NO_BATCHES = (errno.EINVAL, errno.EOPNOTSUPP, 524)
"""What kernels say that have no batches for a map; 524 is ENOTSUPP, which user space has no name for."""


@functools.cache
def libbpf() -> ctypes.CDLL:
    """libbpf 1.x; its calls return -errno or set errno."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise CdnctlError(f"libbpf is missing ({error})", "apt-get install libbpf1") from error
    for name in ("bpf_map_lookup_elem", "bpf_map_delete_elem", "bpf_map_get_next_key"):
        getattr(library, name).restype = ctypes.c_int
    return library


def check(result: int, what: str) -> int:
    """`result`, or OSError when it says that the call failed."""
    if result < 0:
        code = ctypes.get_errno() or -result
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


# --- pins -----------------------------------------------------------------------------------------


def obj_get(path: Path) -> int:
    """A file descriptor of a pinned map or program."""
    return check(libbpf().bpf_obj_get(os.fsencode(path)), str(path))


def obj_pin(fd: int, path: Path) -> None:
    """Pin a map or program, in place of what was there."""
    path.unlink(missing_ok=True)
    check(libbpf().bpf_obj_pin(fd, os.fsencode(path)), str(path))


# --- maps -----------------------------------------------------------------------------------------


class MapInfo(NamedTuple):
    """The shape of a map as the kernel has it (struct bpf_map_info)."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


def _info(fd: int, size: int = 256) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    check(libbpf().bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(length)), "bpf_obj_get_info_by_fd")
    return buffer.raw


def map_info(fd: int) -> MapInfo:
    """What kind of map this is."""
    return MapInfo(*struct.unpack_from("6I", _info(fd)))


class _MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts of libbpf 1.x."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf", ctypes.c_uint32 * 4),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    )


def map_create(kind: int, name: str, key_size: int, value_size: int, max_entries: int, flags: int) -> int:
    """A descriptor of a new map."""
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=flags)
    created = libbpf().bpf_map_create(
        kind, name[:15].encode(), key_size, value_size, max_entries, ctypes.byref(options)
    )
    return check(created, f"map {name}")


def program_id(fd: int) -> int:
    """The kernel's id of a program."""
    return int(struct.unpack_from("2I", _info(fd))[1])


def program_fd(identity: int) -> int:
    """A file descriptor of the program with this id. Raises OSError when it is gone."""
    return check(libbpf().bpf_prog_get_fd_by_id(identity), f"program {identity}")


def program_name(identity: int) -> str:
    """The name of the program with this id, or what can be said of it."""
    try:
        fd = program_fd(identity)
    except OSError:
        return f"program {identity}"
    try:
        return _info(fd)[64:80].split(b"\0")[0].decode(errors="replace") or f"program {identity}"
    finally:
        os.close(fd)


def program_map_ids(fd: int) -> frozenset[int]:
    """The ids of the maps that a program uses (nr_map_ids and map_ids of struct bpf_prog_info)."""
    (count,) = struct.unpack_from("I", _info(fd), 52)
    ids = (ctypes.c_uint32 * count)()
    request = bytearray(256)
    struct.pack_into("=IQ", request, 52, count, ctypes.addressof(ids))
    buffer = ctypes.create_string_buffer(bytes(request), len(request))
    length = ctypes.c_uint32(len(request))
    check(libbpf().bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(length)), "bpf_obj_get_info_by_fd")
    return frozenset(ids)


def verified_instructions(fd: int) -> int:
    """How many instructions the verifier walked to accept the program."""
    return int(struct.unpack_from("I", _info(fd), 216)[0])


@functools.cache
def possible_cpus() -> int:
    """How many values a per-CPU map has for each key."""
    return check(libbpf().libbpf_num_possible_cpus(), "libbpf_num_possible_cpus")


class Map:
    """A map of the kernel by file descriptor; keys and values are bytes of its exact sizes.

    One that was opened from its pin closes its descriptor when it goes; a descriptor given from
    outside stays its owner's.
    """

    def __init__(self, fd: int, *, per_cpu: bool = False) -> None:
        self.fd = fd
        self._owned = False
        self.info = map_info(fd)
        self.per_cpu = per_cpu
        self._room = (
            (self.info.value_size + 7) // 8 * 8 * possible_cpus() if per_cpu else self.info.value_size
        )

    @classmethod
    def pinned(cls, path: Path, *, per_cpu: bool = False) -> Map:
        """Open a pinned map."""
        opened = cls(obj_get(path), per_cpu=per_cpu)
        opened._owned = True
        return opened

    def close(self) -> None:
        """Give the descriptor back; what `memory` returned stays valid."""
        if self._owned:
            self._owned = False
            os.close(self.fd)

    def __del__(self) -> None:
        if getattr(self, "_owned", False):
            self.close()

    def get(self, key: bytes) -> bytes | None:
        """The value (of a per-CPU map: all CPUs' values, one behind the other), or None."""
        value = ctypes.create_string_buffer(self._room)
        if libbpf().bpf_map_lookup_elem(self.fd, key, value) == 0:
            return value.raw
        if ctypes.get_errno() == errno.ENOENT:
            return None
        raise OSError(ctypes.get_errno(), "bpf_map_lookup_elem")

    def put(self, key: bytes, value: bytes) -> None:
        """Write one value."""
        check(
            libbpf().bpf_map_update_elem(self.fd, key, value, ctypes.c_uint64(BPF_ANY)), "bpf_map_update_elem"
        )

    def delete(self, key: bytes) -> bool:
        """Whether the key was there."""
        if libbpf().bpf_map_delete_elem(self.fd, key) == 0:
            return True
        if ctypes.get_errno() == errno.ENOENT:
            return False
        raise OSError(ctypes.get_errno(), "bpf_map_delete_elem")

    def keys(self) -> Iterator[bytes]:
        """All keys; safe while the map changes, as far as the kernel's own iteration is."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self.info.key_size)
        while libbpf().bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            yield key

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, by batches; one by one where the kernel has none."""
        key_size, room = self.info.key_size, self._room
        try:
            for count, keys, values in self.batches():
                for i in range(count):
                    yield keys[i * key_size : (i + 1) * key_size], values[i * room : (i + 1) * room]
            return
        except OSError as error:
            if error.errno not in NO_BATCHES:
                raise
        for key in list(self.keys()):
            value = self.get(key)
            if value is not None:
                yield key, value

    def batches(self) -> Iterator[tuple[int, bytes, bytes]]:
        """All entries: how many, their keys and their values, each one behind the other.

        Raises OSError, with EINVAL or so before the first where the kernel has no batches for this map.
        """
        yield from self._batches(None, self.info.max_entries)

    def _batches(self, previous: object, wanted: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Those behind a key, by batches of which none is for more than are wanted."""
        most = max(1, min(_BATCH, wanted, _BATCH_BYTES // self._room))
        token, count = ctypes.create_string_buffer(max(8, self.info.key_size)), ctypes.c_uint32()
        keys = ctypes.create_string_buffer(self.info.key_size * most)
        values = ctypes.create_string_buffer(self._room * most)
        while True:
            count.value = most
            result = libbpf().bpf_map_lookup_batch(
                self.fd, previous, ctypes.byref(token), keys, values, ctypes.byref(count), None
            )
            code = ctypes.get_errno() if result < 0 else 0
            if code not in (0, errno.ENOENT):
                raise OSError(code, "bpf_map_lookup_batch")
            found = count.value
            yield found, keys.raw[: found * self.info.key_size], values.raw[: found * self._room]
            if code == errno.ENOENT:
                return
            previous = ctypes.byref(token)

    def values(self) -> list[bytes]:
        """All values of an array, in order."""
        return [value for _, value in self.items()]

    def span(self, first: int, count: int) -> list[bytes]:
        """So many values of an array from `first` on, by batches; one by one where the kernel has none."""
        previous = ctypes.byref(ctypes.c_uint32(first - 1)) if first else None
        found: list[bytes] = []
        try:
            for held, _, values in self._batches(previous, count):
                found += (values[i * self._room : (i + 1) * self._room] for i in range(held))
                if len(found) >= count:
                    break
            return found[:count]
        except OSError as error:
            if error.errno not in NO_BATCHES:
                raise
        keys = (struct.pack("I", number) for number in range(first, first + count))
        return [self.get(key) or b"" for key in keys]

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """Write many, by batches; what is written when it fails stays. Raises OSError."""
        keys = list(entries)
        for first in range(0, len(keys), _BATCH):
            some = keys[first : first + _BATCH]
            self.put_batch(len(some), b"".join(some), b"".join(entries[key] for key in some))

    def put_batch(self, count: int, keys: bytes, values: bytes) -> None:
        """The same for keys and values that are one behind the other already, as `batches` gives them."""
        written = ctypes.c_uint32(count)
        result = libbpf().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(written), None)
        if result < 0 and (code := ctypes.get_errno()) not in NO_BATCHES:
            raise OSError(code, "bpf_map_update_batch")
        if result < 0:
            size = self.info.key_size
            for n in range(count):
                self.put(keys[n * size : (n + 1) * size], values[n * self._room : (n + 1) * self._room])

    def delete_all(self, keys: Iterable[bytes]) -> None:
        """Delete many, by batches; those that are not there are no fault."""
        wanted = list(keys)
        for first in range(0, len(wanted), _BATCH):
            some = wanted[first : first + _BATCH]
            done = ctypes.c_uint32(len(some))
            result = libbpf().bpf_map_delete_batch(self.fd, b"".join(some), ctypes.byref(done), None)
            if result < 0:  # it ends where one is missing, or has not begun
                code = ctypes.get_errno()
                if code not in (errno.ENOENT, *NO_BATCHES):
                    raise OSError(code, "bpf_map_delete_batch")
                for key in some[done.value if code == errno.ENOENT else 0 :]:
                    self.delete(key)

    def memory(self) -> mmap.mmap:
        """The values of a BPF_F_MMAPABLE array as memory, each from a multiple of eight bytes on."""
        return mmap.mmap(self.fd, (self.info.value_size + 7) // 8 * 8 * self.info.max_entries)


def named_maps(program: int) -> dict[str, Map]:
    """The maps that a program uses, whoever made them, by their names."""
    found = {}
    for identity in program_map_ids(program):
        fd = check(libbpf().bpf_map_get_fd_by_id(identity), f"map {identity}")
        info = _info(fd)
        name = info[24:40].split(b"\0")[0].decode(errors="replace")
        found[name] = Map(fd, per_cpu=map_info(fd).type in _PER_CPU)
        found[name]._owned = True
    return found


# --- programs -------------------------------------------------------------------------------------


class _TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts of libbpf 1.x."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class Ran(NamedTuple):
    """What a test run gave back."""

    action: int
    frame: bytes
    duration_ns: int
    """Mean of the repeats."""


def _address_of(data: bytes) -> ctypes.c_void_p:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)


_OUT = ctypes.create_string_buffer(65536)


def test_run(
    program: int, frame: bytes, *, repeat: int = 1, ifindex: int = 0, flags: int = 0, batch: int = 0
) -> Ran:
    """Run an XDP program on a frame (BPF_PROG_TEST_RUN). `ifindex` is the ingress interface."""
    context = struct.pack("6I", 0, len(frame), 0, ifindex, 0, 0)
    live = bool(flags & LIVE_FRAMES)
    options = _TestRunOptions(
        sz=ctypes.sizeof(_TestRunOptions),
        data_in=_address_of(frame),
        data_size_in=len(frame),
        repeat=repeat,
        flags=flags,
        batch_size=batch,
        ctx_in=_address_of(context),
        ctx_size_in=len(context),
    )
    if not live:
        options.data_out = ctypes.cast(_OUT, ctypes.c_void_p)
        options.data_size_out = len(_OUT)
    check(libbpf().bpf_prog_test_run_opts(program, ctypes.byref(options)), "bpf_prog_test_run_opts")
    size = 0 if live else options.data_size_out
    return Ran(options.retval, ctypes.string_at(_OUT, size), options.duration)


# --- attachment -----------------------------------------------------------------------------------


class _AttachOptions(ctypes.Structure):
    """struct bpf_xdp_attach_opts."""

    _fields_ = (("sz", ctypes.c_size_t), ("old_prog_fd", ctypes.c_int), ("pad", ctypes.c_uint32))


def xdp_program_id(ifindex: int, mode: int = 0) -> int:
    """Id of the XDP program on an interface (in the given mode, or any), 0 when there is none."""
    identity = ctypes.c_uint32()
    check(libbpf().bpf_xdp_query_id(ifindex, mode, ctypes.byref(identity)), f"interface {ifindex}")
    return identity.value


def xdp_attach(ifindex: int, program: int, mode: int, *, replacing: int | None = None) -> None:
    """Attach where nothing is attached, or in place of exactly the program fd `replacing`."""
    if replacing is None:
        result = libbpf().bpf_xdp_attach(ifindex, program, mode | XDP_FLAGS_UPDATE_IF_NOEXIST, None)
    else:
        options = _AttachOptions(sz=ctypes.sizeof(_AttachOptions), old_prog_fd=replacing)
        result = libbpf().bpf_xdp_attach(ifindex, program, mode | XDP_FLAGS_REPLACE, ctypes.byref(options))
    check(result, "bpf_xdp_attach")


def xdp_detach(ifindex: int, mode: int, *, expected: int) -> None:
    """Take exactly the program with fd `expected` off an interface."""
    options = _AttachOptions(sz=ctypes.sizeof(_AttachOptions), old_prog_fd=expected)
    result = libbpf().bpf_xdp_attach(ifindex, -1, mode | XDP_FLAGS_REPLACE, ctypes.byref(options))
    check(result, "bpf_xdp_attach")
