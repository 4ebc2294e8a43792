"""Compile C for the kernel with BCC on any box: find or make the headers, join the sources.

BCC wants kernel headers and most boxes have none. It is content with a directory that has the shape
of a kernel tree and the user-space API headers in it (`linux-libc-dev`), which are stable and all
that XDP needs. Search order: headers of the running kernel, the kernel's own archive in sysfs
(BCC unpacks that itself), then a tree of links made here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cdnctl.datapath import loading
from cdnctl.errors import CdnctlError

_INCLUDE = re.compile(r'^#include "([\w./]+)"$')
_PACKAGE = "python3-bpfcc"
_API_HEADER = Path("/usr/include/linux/if_ether.h")

_OPTIMIZED_ONCE = ("-Xclang", "-disable-llvm-passes")
"""Clang leaves the optimizing to BCC, which has LLVM do it all again in any case."""

_KCONFIG = """\
#pragma once
#define CONFIG_BPF_SYSCALL 1
#include <asm-generic/int-ll64.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
#define true 1
#define false 0
#define PAGE_SIZE 4096
"""


def import_bcc() -> Any:
    """BCC's Python module, the real one: another project owns its name on the package index."""
    remedy = f"install the distribution's package: apt-get install {_PACKAGE}"
    try:
        import bcc
    except ImportError as error:
        raise CdnctlError(f"BCC is missing ({error})", remedy) from error
    if not hasattr(bcc, "BPF"):
        raise CdnctlError(f"the module bcc at {bcc.__file__} is not the BPF Compiler Collection", remedy)
    return bcc


def _kernel_headers() -> bool:
    release = platform.release()
    return (
        Path(f"/lib/modules/{release}/build/include/linux/kconfig.h").exists()
        or Path("/sys/kernel/kheaders.tar.xz").exists()
    )


def has_headers() -> bool:
    """Whether there are headers of some kind that the compiler can use."""
    return _kernel_headers() or _API_HEADER.exists()


def _architecture() -> tuple[str, str]:
    """The kernel's name of this architecture, and the multiarch include directory's."""
    machine = platform.machine()
    known = {"x86_64": "x86", "aarch64": "arm64"}
    if machine not in known:
        raise CdnctlError(
            f"no header layout is known for {machine}", "install the kernel headers of this box"
        )
    return known[machine], f"{machine}-linux-gnu"


def _link_all(source: Path, target: Path, *, leave_out: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name not in leave_out:
            (target / entry.name).symlink_to(entry)


def _make_headers(root: Path) -> None:
    """A tree that BCC takes for kernel sources, from the user-space API headers alone."""
    linux = _API_HEADER.parent
    if not _API_HEADER.exists():
        raise CdnctlError("no kernel headers and no /usr/include/linux", "apt-get install linux-libc-dev")
    architecture, multiarch = _architecture()
    include = root / "include"
    # BCC brings its own bpf.h and defines what log2.h would
    _link_all(linux, include / "linux", leave_out=("bpf.h", "log2.h"))
    for empty in ("bpf.h", "log2.h"):
        (include / "linux" / empty).write_text("")
    (include / "linux" / "kconfig.h").write_text(_KCONFIG)
    (include / "uapi").mkdir()
    (include / "uapi" / "linux").symlink_to("../linux")
    (include / "asm-generic").symlink_to("/usr/include/asm-generic")
    asm = root / "arch" / architecture / "include" / "asm"
    _link_all(Path("/usr/include") / multiarch / "asm", asm, leave_out=("page.h",))
    (asm / "page.h").write_text("")


@contextlib.contextmanager
def headers() -> Iterator[None]:
    """Within this block BCC finds kernel headers of some kind."""
    if os.environ.get("BCC_KERNEL_SOURCE") or _kernel_headers():
        yield
        return
    # some hundred links: in memory that takes a tenth of what it does on a disk
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="cdnctl-headers-", dir=memory) as directory:
        _make_headers(Path(directory) / "tree")
        os.environ["BCC_KERNEL_SOURCE"] = str(Path(directory) / "tree")
        try:
            yield
        finally:
            del os.environ["BCC_KERNEL_SOURCE"]


def join(main: Path) -> str:
    """One text of `main` and what it includes by `#include "..."`, each file once, with line marks.

    BCC rewrites map look-ups in the main file only, so there may be no other.
    """
    seen: set[Path] = set()

    def lines(path: Path) -> Iterator[str]:
        seen.add(path)
        yield f'#line 1 "{path.name}"'
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = _INCLUDE.match(line)
            if match is None:
                yield "" if line == "#pragma once" else line
                continue
            included = path.parent / match[1]
            if included not in seen:
                yield from lines(included)
                yield f'#line {number + 1} "{path.name}"'

    return "\n".join(lines(main)) + "\n"


def compile_module(text: str, cflags: Sequence[str] = (), *, debug: bool = False) -> Any:
    """Compile, and make the maps; BCC's object, which holds all open. Loads no program.

    With `debug` the verifier can name lines of the source (see `verify`); without, it is a fifth quicker.

    The compiler writes to file descriptor 2, and an internal error of it ends the process: call this in
    a child whose output is captured (see build.py). Raises CdnctlError.
    """
    bcc = import_bcc()
    with headers():
        try:
            flags = ["-Wno-unused-function", *_OPTIMIZED_ONCE, *([] if debug else ["-g0"]), *cflags]
            return bcc.BPF(text=text, cflags=flags)
        except Exception as error:  # BCC raises nothing narrower
            raise CdnctlError(str(error)) from error


def verify(module: Any, function: str) -> None:
    """Have BCC load one function, and so print what the verifier says when it refuses.

    Raises CdnctlError then.
    """
    try:
        module.load_func(function.encode(), import_bcc().BPF.XDP)
    except Exception as error:  # BCC raises nothing narrower
        raise CdnctlError(str(error)) from error


def load_xdp(module: Any, function: str, *, multi_buffer: bool = False, name: str = "") -> int:
    """Load one function of a module; the program's descriptor. Raises OSError or CdnctlError."""
    code = module.dump_func(function.encode())
    return loading.load_xdp(code, name or function, multi_buffer=multi_buffer)


def compile_xdp(text: str, function: str, cflags: Sequence[str] = ()) -> tuple[Any, int]:
    """Compile and load one XDP function: BCC's object and the program's descriptor. Raises CdnctlError."""
    module = compile_module(text, cflags)
    return module, load_xdp(module, function)
