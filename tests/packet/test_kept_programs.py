"""What was compiled once is loaded again without a compiler, and does the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from netbox import name

from cdnctl.datapath import build, cache, kernel
from cdnctl.datapath.kernel import Map
from cdnctl.errors import CdnctlError
from cdnctl.paths import BPFFS

TEXT = """
#include <uapi/linux/bpf.h>
#define COUNTS 1
#define PINNED(type, key, leaf, name, size, flags) BPF_F_TABLE(type, key, leaf, name, size, flags)
PINNED("array", u32, u64, counts, COUNTS, BPF_F_MMAPABLE);
PINNED("lru_hash", u32, u64, fixed, 1 << 4, 0);
BPF_PROG_ARRAY(stages, 4);
BPF_PERF_OUTPUT(samples);
BPF_PERF_OUTPUT(bindings);
BPF_PERF_OUTPUT(events);
BPF_ARRAY(own, u64, 1);

int edge(struct xdp_md *ctx)
{
	u32 zero = 0;
	u64 *count = counts.lookup(&zero), *mine = own.lookup(&zero);

	if (!count || !mine)
		return XDP_ABORTED;
	*count += ADDED;
	(*mine)++;
	stages.call(ctx, 0);
	return *mine == *count / ADDED ? XDP_DROP : XDP_PASS;
}

int handshake(struct xdp_md *ctx)
{
	return XDP_TX;
}

int sweep(struct xdp_md *ctx)
{
	return XDP_PASS;
}
"""
ADDED = ("-DADDED=7",)
SIZES = {"COUNTS": 4}
TX = 3


@pytest.fixture
def pins(inside: dict[str, int]) -> Iterator[Path]:
    """Without anything pinned."""
    path = BPFFS / "cdnctl" / name("-cache")
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small data path, and a cache with nothing in it."""
    monkeypatch.setenv("CDNCTL_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(cache.BYPASS, raising=False)
    monkeypatch.setattr(build, "source", lambda: TEXT)


def use_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> subprocess.CompletedProcess[bytes]:
        raise AssertionError("the compiler was asked")

    monkeypatch.setattr(build, "_child", asked)


def run(pins: Path) -> int:
    fd = kernel.obj_get(pins / build.NEXT / build.PROGRAM)
    try:
        return kernel.test_run(fd, bytes(64)).action
    finally:
        os.close(fd)


def count(pins: Path) -> int:
    return int.from_bytes(Map.pinned(pins / "counts").get(bytes(4)) or b"", "little")


def forget(pins: Path) -> None:
    shutil.rmtree(pins)
    pins.mkdir()


def test_it_is_loaded_without_a_compiler(small: None, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = build.build(pins, SIZES, ADDED)
    assert cold.how == "compiled and loaded"
    assert run(pins) == TX
    assert count(pins) == 7
    forget(pins)
    use_no_compiler(monkeypatch)
    warm = build.build(pins, SIZES, ADDED)
    assert warm.compile_s == 0
    assert warm.how == "loaded, as it was compiled before"
    assert warm.instructions == cold.instructions
    assert run(pins) == TX, "its stages are in place"
    assert count(pins) == 7, "the maps are new"
    assert (pins / build.NEXT / build.SWEEP).exists()
    assert Map.pinned(pins / "counts").memory()[:8] == (7).to_bytes(8, "little"), "of the same kind"
    build.build(pins, SIZES, ADDED)
    assert run(pins) == TX
    assert count(pins) == 14, "and taken over when they are there"


def test_an_edited_source_is_compiled(small: None, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build.build(pins, SIZES, ADDED)
    monkeypatch.setattr(build, "source", lambda: TEXT.replace("XDP_TX", "XDP_DROP"))
    assert build.build(pins, SIZES, ADDED).compile_s > 0
    assert run(pins) == 1
    assert build.build(pins, SIZES, ("-DADDED=8",)).compile_s > 0


def test_a_pin_of_another_shape_is_refused(small: None, pins: Path) -> None:
    build.build(pins, SIZES, ADDED)
    forget(pins)
    kernel.obj_pin(kernel.map_create(2, "counts", 4, 16, 4, 0), pins / "counts")
    with pytest.raises(CdnctlError, match="another shape"):
        build.build(pins, SIZES, ADDED)


def test_what_is_wrong_in_the_text_is_told(small: None, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "source", lambda: TEXT.replace("XDP_TX", "XDP_TEX"))
    with pytest.raises(CdnctlError, match="use of undeclared identifier 'XDP_TEX'"):
        build.build(pins, SIZES, ADDED)


def test_the_verifier_names_the_line(small: None, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = TEXT.replace("return XDP_TX;", "return *(u8 *)(long)ctx->data; // beyond the end")
    monkeypatch.setattr(build, "source", lambda: wrong)
    with pytest.raises(CdnctlError, match="verifier refuses handshake") as refused:
        build.build(pins, SIZES, ADDED)
    assert "invalid access to packet" in refused.value.message
    assert "beyond the end" in refused.value.message
