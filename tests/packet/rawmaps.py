"""What tests do to maps and programs past `Tables`: read or empty them whole, run packets by the thousand."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.kernel import Map


def unpinned(program: int, name: str) -> int:
    """The descriptor of a map that a program uses, by its name."""
    for identity in kernel.program_map_ids(program):
        fd = kernel.check(kernel.libbpf().bpf_map_get_fd_by_id(identity), f"map {identity}")
        if kernel._info(fd)[24:40].split(b"\0")[0].decode() == name:
            return fd
        os.close(fd)
    raise LookupError(name)


_MMAPABLE = 1 << 10


def zero(table: Map, count: int = 0) -> None:
    """Write zeros into a whole array, or its first entries, in one system call."""
    count = count or table.info.max_entries
    size = table.info.value_size
    if table.info.flags & _MMAPABLE:  # no call at all, which takes a hundredth of the time
        memory = table.memory()
        memory[: count * ((size + 7) // 8 * 8)] = bytes(count * ((size + 7) // 8 * 8))
        memory.close()
        return
    if table.per_cpu:
        size = (size + 7) // 8 * 8 * kernel.possible_cpus()
    keys = struct.pack(f"{count}I", *range(count))
    done = ctypes.c_uint32(count)
    kernel.check(
        kernel.libbpf().bpf_map_update_batch(table.fd, keys, bytes(count * size), ctypes.byref(done), None),
        "bpf_map_update_batch",
    )


def whole(table: Map) -> tuple[bytes, bytes]:
    """All keys and all values of a table, read in one system call."""
    room = table.info.max_entries
    keys = ctypes.create_string_buffer(table.info.key_size * room)
    values = ctypes.create_string_buffer(table.info.value_size * room)
    token, count = ctypes.create_string_buffer(64), ctypes.c_uint32(room)
    result = kernel.libbpf().bpf_map_lookup_batch(
        table.fd, None, ctypes.byref(token), keys, values, ctypes.byref(count), None
    )
    if result < 0 and ctypes.get_errno() != errno.ENOENT:  # which says that this was the end of the table
        kernel.check(result, "bpf_map_lookup_batch")
    return keys.raw[: count.value * table.info.key_size], values.raw[: count.value * table.info.value_size]


def owner_word(key: abi.FlowKey, flow: abi.Flow) -> int:
    """Who a slot should belong to that a forward entry names (slot.h): client, its port and the service."""
    words = list(key.client.word)
    client = words[3]
    if not abi.is_ipv4(key.client):
        high, low = words[0] << 32 | words[1], words[2] << 32 | words[3]
        client = _mix(low ^ (_mix(high) << 16))
    return int(client << 32 | key.client_port << 16 | flow.service + 1)


def _mix(word: int) -> int:
    """As packet.h does it."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ word >> shift) * factor % 2**64
    return word >> 32


class Runner:
    """`kernel.test_run` for hundreds of thousands of packets of one size: everything is set up once."""

    def __init__(self, program: int, size: int, ifindex: int) -> None:
        self.frame = ctypes.create_string_buffer(size)
        self.out = ctypes.create_string_buffer(size)
        self._program, self._run = program, kernel.libbpf().bpf_prog_test_run_opts
        self._context = ctypes.create_string_buffer(struct.pack("6I", 0, size, 0, ifindex, 0, 0), 24)
        self._options = kernel._TestRunOptions(
            sz=ctypes.sizeof(kernel._TestRunOptions),
            data_in=ctypes.addressof(self.frame),
            data_size_in=size,
            data_out=ctypes.addressof(self.out),
            data_size_out=size,
            ctx_in=ctypes.addressof(self._context),
            ctx_size_in=24,
            repeat=1,
        )
        self._reference = ctypes.byref(self._options)

    def run(self) -> int:
        """Run `frame`, which is left as it is, into `out`; the action."""
        kernel.check(self._run(self._program, self._reference), "bpf_prog_test_run_opts")
        return int(self._options.retval)


class Feeder:
    """The same for packets of any size."""

    def __init__(self, program: int, room: int = 8192) -> None:
        self._runner = Runner(program, room, 0)
        self._in, self._out = ctypes.addressof(self._runner.frame), ctypes.addressof(self._runner.out)
        self._options, self._context, self._room = self._runner._options, self._runner._context, room

    def run(self, frame: bytes, ifindex: int) -> int:
        """The action."""
        size = len(frame)
        ctypes.memmove(self._in, frame, size)
        struct.pack_into("4I", self._context, 0, 0, size, 0, ifindex)
        self._options.data_size_in, self._options.data_size_out = size, self._room
        return self._runner.run()

    def out(self) -> bytes:
        """The last packet as it was in the end."""
        return ctypes.string_at(self._out, self._options.data_size_out)
