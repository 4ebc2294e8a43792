"""The data path behind a shim that fills the headroom with ones: whatever of a frame is new, it must write.

Tests that use the fixture `filled_headroom` have every packet come in that way.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from harness import DataPath

from cdnctl.datapath import kernel, loading, toolchain

ROOM = 128
SHIM = f"""\
#include <linux/bpf.h>
#define ROOM {ROOM}
BPF_PROG_ARRAY(behind, 1);

int shim(struct xdp_md *ctx)
{{
	__u64 *word;

	if (bpf_xdp_adjust_head(ctx, -ROOM))
		return XDP_ABORTED;
	word = (void *)(long)ctx->data;
	if ((void *)word + ROOM > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < ROOM / 8; i++)
		word[i] = ~0ULL;
	if (bpf_xdp_adjust_head(ctx, ROOM))
		return XDP_ABORTED;
	behind.call(ctx, 0);
	return XDP_ABORTED;
}}
"""


@functools.cache
def _shim() -> tuple[Any, int]:
    """BCC's object, which keeps the program array, and the program."""
    module = toolchain.compile_module(SHIM.encode())  # a text makes BCC warn
    # a program array holds only programs that agree on frames in several buffers
    return module, toolchain.load_xdp(module, "shim", multi_buffer=loading.takes_multi_buffer())


@contextlib.contextmanager
def filled(path: DataPath) -> Iterator[None]:
    """Nothing but ones in the room before a frame, meanwhile."""
    module, program = _shim()
    kernel.Map(module[b"behind"].get_fd()).put(struct.pack("I", 0), struct.pack("I", path.fd))
    edge, path.fd = path.fd, program
    try:
        yield
    finally:
        path.fd = edge


@pytest.fixture
def filled_headroom(path: DataPath) -> Iterator[None]:
    """The same for a whole test."""
    with filled(path):
        yield
