"""Hands compiled programs to the kernel, by libbpf: BCC's own way takes no flags.

A program that is loaded for frames in several buffers (BPF_F_XDP_HAS_FRAGS) is accepted by drivers
whatever their interface's MTU. All programs of one program array must agree in that.
"""

from __future__ import annotations

import ctypes
import errno
import os

from cdnctl.datapath import kernel
from cdnctl.errors import CdnctlError

LICENSE = b"Dual MIT/GPL"
SINGLE = "_1buf"
"""Ends the name of a program that takes frames in one buffer only, since the kernel refused another."""
_PROG_TYPE_XDP = 6
_XDP_HAS_FRAGS = 1 << 5
_NAME_ROOM = 15
_LOG_BYTES = 16 << 20
_LOG_LINES = 40
_PASS = bytes.fromhex("b7000000020000009500000000000000")
"""`r0 = XDP_PASS; exit`."""


class Refused(CdnctlError):
    """By the verifier."""

    def __init__(self, program: str, words: list[str]) -> None:
        super().__init__(f"the kernel's verifier refuses {program}:\n  " + "\n  ".join(words))
        self.program = program
        self.words = words


class _Options(ctypes.Structure):
    """struct bpf_prog_load_opts of libbpf 1.x."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_void_p),
    )


def load_xdp(code: bytes, name: str, *, multi_buffer: bool) -> int:
    """The program's descriptor. Raises Refused with the verifier's last words, OSError."""
    flags = _XDP_HAS_FRAGS if multi_buffer else 0
    fd = _load(code, name, _Options(prog_flags=flags))
    if fd >= 0:
        return fd
    # The log costs as much as the verification: it is asked for only when there is something to read.
    log = ctypes.create_string_buffer(_LOG_BYTES)
    options = _Options(prog_flags=flags, log_level=1, log_size=len(log), log_buf=ctypes.addressof(log))
    fd = _load(code, name, options)
    if fd >= 0:
        return fd
    lines = log.value.decode(errors="replace").splitlines()
    if not lines:
        raise OSError(-fd, f"{name}: {os.strerror(-fd)}")
    raise Refused(name, lines[-_LOG_LINES:])


def takes_multi_buffer() -> bool:
    """Whether this kernel knows frames in several buffers."""
    fd = _load(_PASS, "probe", _Options(prog_flags=_XDP_HAS_FRAGS))
    if fd == -errno.EPERM:
        raise PermissionError(errno.EPERM, "loading a program")
    if fd < 0:
        return False
    os.close(fd)
    return True


def _load(code: bytes, name: str, options: _Options) -> int:
    """The descriptor, or an errno below 0."""
    options.sz = ctypes.sizeof(_Options)
    result = kernel.libbpf().bpf_prog_load(
        _PROG_TYPE_XDP,
        name[:_NAME_ROOM].encode(),
        LICENSE,
        code,
        ctypes.c_size_t(len(code) // 8),
        ctypes.byref(options),
    )
    return int(result) if result >= 0 else -(ctypes.get_errno() or -int(result))
