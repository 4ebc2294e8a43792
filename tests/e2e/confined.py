"""Runs a command as the unit has it run: its file system, its capabilities, its system calls.

    python confined.py UNIT files COMMAND...    where only those files may be written that the unit lets be
    python confined.py UNIT calls COMMAND...    killed at the first system call that the unit lets not pass

Where PID 1 is no systemd the unit's own lines are taken and done by hand, by the same means: mounts,
`setpriv` in between, and a seccomp filter of the very sets that `systemd-analyze syscall-filter` prints. The
unit's directories (RuntimeDirectory= ...) are where CDNCTL_RUN_DIR and its like say.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_KEPT_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_DIRECTORIES = ("CDNCTL_RUN_DIR", "CDNCTL_STATE_DIR", "CDNCTL_CACHE_DIR")


def settings(unit: Path, key: str) -> list[str]:
    """Every value of a key, in order."""
    lines = (line.partition("=") for line in unit.read_text().splitlines() if not line.startswith("#"))
    return [value.strip() for name, _, value in lines if name.strip() == key]


def capabilities(unit: Path) -> list[str]:
    """As `setpriv` writes them: `net_admin`."""
    return [
        name.removeprefix("CAP_").lower()
        for name in " ".join(settings(unit, "CapabilityBoundingSet")).split()
    ]


def setpriv(unit: Path) -> list[str]:
    """The command that leaves exactly the unit's capabilities, also to what it executes."""
    wanted = ",".join(["-all", *(f"+{name}" for name in capabilities(unit))])
    return ["setpriv", "--bounding-set", wanted, "--inh-caps", wanted, "--no-new-privs", "--"]


def command(unit: Path, words: list[str]) -> list[str]:
    """`words`, as the unit would have them run; PYTHONPATH need not lead here."""
    ours = [sys.executable, str(Path(__file__).resolve()), str(unit)]
    return [*ours, "files", *setpriv(unit), *ours, "calls", *words]


# --- system calls ----------------------------------------------------------------------------------------


@cache
def _sets() -> dict[str, list[str]]:
    """What systemd's names of sets stand for."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            found[line.strip()] = []
        elif line.startswith("    ") and (word := line.strip()) and not word.startswith("#"):
            found[next(reversed(found))].append(word)
    return found


def _calls(names: list[str]) -> Iterator[str]:
    for name in names:
        if name.startswith("@"):
            yield from _calls(_sets()[name])
        else:
            yield name


def allowed_calls(unit: Path) -> set[str]:
    """What the unit's lines of SystemCallFilter= come to."""
    allowed = set(_calls(["@default"]))
    for line in settings(unit, "SystemCallFilter"):
        if line.startswith("~"):
            allowed -= set(_calls(line[1:].split()))
        else:
            allowed |= set(_calls(line.split()))
    return allowed


def _confine_calls(unit: Path) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_KILL)))
    for name in allowed_calls(unit):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # this machine has it
            assert library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0) == 0, name
    assert library.seccomp_load(context) == 0, "the filter was not taken"


# --- files -----------------------------------------------------------------------------------------------


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    if _LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def _mounts() -> list[tuple[str, int]]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        flags = sum(_KEPT_FLAGS.get(option, 0) for option in words[5].split(","))
        found.append((words[4].encode().decode("unicode_escape"), flags))
    return found


def _confine_files(unit: Path) -> None:
    assert settings(unit, "ProtectSystem") == ["strict"]
    writable = [os.environ[name] for name in _DIRECTORIES] + " ".join(
        settings(unit, "ReadWritePaths")
    ).split()
    if _LIBC.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("none", "/", "none", _MS_REC | _MS_PRIVATE)
    if settings(unit, "ProtectHome") == ["yes"]:
        for home in ("/root", "/home"):
            _mount("none", home, "tmpfs", 0)
    if settings(unit, "PrivateTmp") == ["yes"]:
        _mount("none", "/tmp", "tmpfs", 0)
    tunables = ["/proc/sys"] if settings(unit, "ProtectKernelTunables") == ["yes"] else []
    for path in [*tunables, *writable]:
        _mount(path, path, "none", _MS_BIND | _MS_REC)
    spared = ("/proc", "/dev")  # /proc/sys is a mount of its own by now
    for path, flags in _mounts():
        is_writable = any(path == each or path.startswith(f"{each}/") for each in writable)
        is_spared = any(path == each or path.startswith(f"{each}/") for each in spared)
        if not is_writable and (not is_spared or path in tunables):
            _mount("none", path, "none", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags)


if __name__ == "__main__":
    _file, _what = Path(sys.argv[1]), sys.argv[2]
    {"files": _confine_files, "calls": _confine_calls}[_what](_file)
    os.execvp(sys.argv[3], sys.argv[3:])
