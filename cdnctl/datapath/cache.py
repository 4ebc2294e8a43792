"""Compiled data paths, kept: compiling takes seconds, loading what was compiled before a fraction of one.

An entry is known by a digest of all that it depends on, the joined source first, so it is never out of
date. What is loaded into the kernel from here was put here by root: entries that anybody else could have
written are not used. No lock: an entry is written whole or not at all, and is the same whoever writes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import stat
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from cdnctl.datapath import kernel
from cdnctl.datapath.compiled import Compiled
from cdnctl.paths import cache_dir

BYPASS = "CDNCTL_NO_CACHE"
"""A variable: not empty, everything is compiled, and nothing kept."""
KEPT = 20
_FORMAT = "3"
_DIGEST = hashlib.sha256().digest_size
_LIBRARIES = ("libbcc.so*", "libLLVM*.so*", "libclang-cpp.so*")


def key(text: str, cflags: Sequence[str]) -> str:
    """Of what is compiled from this text, here and now."""
    cpus = str(kernel.possible_cpus())  # perf arrays have room for each
    parts = (_FORMAT, text, *cflags, _compiler(), platform.release(), platform.machine(), cpus)
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


def _compiler() -> str:
    """What tells one version of BCC and LLVM from another, without loading their 100 MB."""
    found = []
    if (spec := importlib.util.find_spec("bcc")) and spec.origin:
        with contextlib.suppress(OSError):
            found.append((Path(spec.origin).parent / "version.py").read_text())
    for directory in (f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}", "/usr/lib64", "/usr/lib"):
        for pattern in _LIBRARIES:
            for path in sorted(Path(directory).glob(pattern)):
                with contextlib.suppress(OSError):
                    there = path.stat()
                    found.append(f"{path.resolve().name} {there.st_size} {there.st_mtime_ns}")
    return "\n".join(found)


def compiled(
    text: str, cflags: Sequence[str], compile_it: Callable[[], Compiled], warn: Callable[[str], None]
) -> Compiled:
    """What was kept of this text, else what `compile_it` gives, which is kept.

    A cache that cannot be used is worth a warning, never a failure.
    """
    if os.environ.get(BYPASS):
        return compile_it()
    entry = cache_dir() / key(text, cflags)
    try:
        kept = _read(entry)
    except OSError as error:
        warn(f"{error}; it is compiled anew")
        kept = None
    if kept is not None:
        return kept
    made = compile_it()
    try:
        _write(entry, made)
    except OSError as error:
        warn(f"cannot keep what was compiled: {error}")
    return made


def _read(entry: Path) -> Compiled | None:
    """None when it is not there, or is not what was written. Raises OSError for a stranger's."""
    try:
        fd = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        _check_owner(os.stat(entry.parent), entry.parent)
        _check_owner(os.fstat(fd), entry)
        raw = file.read()
        os.utime(fd)  # used: kept longer
    if hashlib.sha256(raw[_DIGEST:]).digest() != raw[:_DIGEST]:
        return None
    try:
        return msgspec.msgpack.decode(raw[_DIGEST:], type=Compiled)
    except msgspec.MsgspecError:
        return None


def _check_owner(there: os.stat_result, path: Path) -> None:
    if there.st_uid != os.geteuid() or stat.S_IMODE(there.st_mode) & 0o022:
        raise PermissionError(f"{path} is not used: others than its owner, or than root, may write there")


def _write(entry: Path, made: Compiled) -> None:
    directory = entry.parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_owner(os.stat(directory), directory)
    raw = msgspec.msgpack.encode(made)
    fd, name = tempfile.mkstemp(dir=directory, prefix=".new-")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(hashlib.sha256(raw).digest() + raw)
        os.replace(name, entry)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _prune(directory)


def _prune(directory: Path) -> None:
    """Leave the entries that were used last, and no file that a killed process left half-written."""
    ages = []
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # another process does the same
            ages.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(ages, reverse=True)[KEPT:]:
        with contextlib.suppress(OSError):
            path.unlink()
