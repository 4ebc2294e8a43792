"""Compile, load and pin the data path.

The compiler takes some 120 MB and, on an internal error, ends the process it runs in: neither is for
the agent. So it runs in a child, `python -m cdnctl.datapath.build CFLAG...`, which reads the text from
standard input and writes what was compiled to standard output, the compiler's words to standard error.
Loading needs no child, and mostly no compiler: what was compiled before is kept (cache.py), and serves
tables of any size.

The data path is several programs, the stages, that go on in each other by way of a program array. It is
filled before anybody can attach anything, and never changed: a new generation of programs has its own.
"""

from __future__ import annotations

import os
import re
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from cdnctl.datapath import abi, cache, kernel, toolchain
from cdnctl.datapath.compiled import Compiled, Loaded, taken_from
from cdnctl.datapath.loading import SINGLE, Refused
from cdnctl.errors import CdnctlError
from cdnctl.paths import bpf_dir
from cdnctl.python import environment, python_module

PROGRAM = "edge"
"""Where packets come in."""
SWEEP = "sweep"
"""The collector of dead slots, which the agent runs."""
STAGES = "stages"
"""The program array; one that is not pinned empties when its maker exits."""
PERF_ARRAYS = ("samples", "events", "bindings")
PINNED = (*PERF_ARRAYS, STAGES, SWEEP, PROGRAM)
"""What belongs to one generation of programs. The entry is last: with it all are there."""
NEXT = "next"
"""Directory among the pins for a generation of programs, until it is attached everywhere."""
_FUNCTION = re.compile(r"^int (\w+)\(struct xdp_md \*ctx\)$", re.MULTILINE)
_BODY = re.compile(_FUNCTION.pattern + r"\n\{.*?^\}$", re.MULTILINE | re.DOTALL)
_EXPLAIN = "--explain"
_LINES_SHOWN = 40
_TIMEOUT_S = 120


class Built(msgspec.Struct, frozen=True):
    """What building took of a CPU, and what was loaded."""

    compile_s: float
    """The compiler's, and that of making the maps; 0 when it was kept from before."""
    load_s: float
    """The verifier's, of all programs together."""
    multi_buffer: bool
    """Whether frames in several buffers are taken; an old kernel refuses."""
    instructions: dict[str, int]
    """What the verifier walked, by program."""
    warnings: list[str]
    """What an operator should know of it."""

    @property
    def how(self) -> str:
        """What was done."""
        return "compiled and loaded" if self.compile_s else "loaded, as it was compiled before"


def source() -> str:
    """The text of the data path."""
    return toolchain.join(bpf_dir() / "edge.c")


def functions(text: str) -> list[str]:
    """The programs in a text: the entry, the stages by the names they have in enum stage, the sweep."""
    return _FUNCTION.findall(text)


def build(pins: Path, sizes: Mapping[str, int], cflags: Sequence[str]) -> Built:
    """Load on the maps of `pins`, and pin the programs in `pins`/NEXT.

    `sizes` are those of the tables that take theirs from the operator's limits, by the words in
    bpf/maps.h. Raises CdnctlError with the compiler's or the verifier's own words, OSError.
    """
    text, warnings = source(), list[str]()
    before = _used_s(resource.RUSAGE_CHILDREN)
    compiled = compiled_for(text, cflags, warnings.append)
    compile_s = _used_s(resource.RUSAGE_CHILDREN) - before
    with load(compiled, pins, text, cflags, sizes) as loaded:
        (pins / NEXT).mkdir(exist_ok=True)
        for name in (*PERF_ARRAYS, STAGES):
            kernel.obj_pin(loaded.maps[name], pins / NEXT / name)
        for name in (SWEEP, PROGRAM):
            kernel.obj_pin(loaded.programs[name], pins / NEXT / name)
        if not loaded.multi_buffer:
            warnings.append(
                "this kernel takes no XDP program for frames in several buffers: interfaces whose MTU needs"
                " more than one cannot be attached in native mode"
            )
        walked = {name: kernel.verified_instructions(fd) for name, fd in loaded.programs.items()}
    return Built(compile_s, loaded.load_s, loaded.multi_buffer, walked, warnings)


def compiled_for(text: str, cflags: Sequence[str], warn: Callable[[str], None]) -> Compiled:
    """That text compiled, now or before.

    Raises CdnctlError with the compiler's own words.
    """

    def compile_it() -> Compiled:
        parts = _parts(functions(text))
        with ThreadPoolExecutor(len(parts)) as children:
            compiled = list(children.map(lambda names: _compiled_part(_only(text, names), cflags), parts))
        programs = {name: code for part in compiled for name, code in part.programs.items()}
        return Compiled(compiled[0].maps, programs)

    return cache.compiled(text, cflags, compile_it, warn)


def _parts(names: list[str]) -> list[list[str]]:
    """What each compiler gets: two where there are CPUs for them, since some edge waits for its start."""
    return [names[::2], names[1::2]] if len(names) > 1 and len(os.sched_getaffinity(0)) > 1 else [names]


def _only(text: str, names: Collection[str]) -> str:
    """The text with these programs; of others there are empty lines, so that all keep their numbers."""
    return _BODY.sub(lambda body: body[0] if body[1] in names else "\n" * body[0].count("\n"), text)


def _compiled_part(text: str, cflags: Sequence[str]) -> Compiled:
    done = _child(text, cflags)
    if done.returncode:
        words = _words(done)
        faults = [line for line in words if "error:" in line] or words[-_LINES_SHOWN:]
        raise CdnctlError(
            "the data path cannot be compiled:\n  " + "\n  ".join(faults[:_LINES_SHOWN]),
            "run as root on a kernel with BPF (5.18 or later); the lines above are its own words",
        )
    return msgspec.msgpack.decode(done.stdout, type=Compiled)


def load(
    compiled: Compiled,
    pins: Path,
    text: str,
    cflags: Sequence[str],
    sizes: Mapping[str, int] | None,
    *,
    sweep: bool = True,
) -> Loaded:
    """Its programs in the kernel, with their stages in place; without `sizes` no pin may be missing.

    Raises CdnctlError with the verifier's own words, OSError.
    """
    try:
        names = [name for name in compiled.programs if sweep or name != SWEEP]
        loaded = Loaded(compiled, pins, names, sizes)
    except Refused as refused:
        # The lines of the source are only told of programs with debug information, which takes a fifth
        # more to compile: that is done only now.
        program = refused.program.removesuffix(SINGLE)
        words = _words(_child(text, [_EXPLAIN, program, *cflags]))
        raise CdnctlError(
            f"the kernel's verifier refuses {program}:\n  "
            + "\n  ".join(words[-_LINES_SHOWN:] or refused.words),
            "run on a kernel of 5.18 or later; the lines above are its own words",
        ) from refused
    stages = kernel.Map(loaded.maps[STAGES])
    for stage in abi.Stage:
        if fd := loaded.programs.get(stage.name.lower()):
            stages.put(abi.key(stage), struct.pack("I", fd))
    return loaded


def _used_s(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def _child(text: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            python_module("cdnctl.datapath.build", *arguments),
            env=environment(),
            input=text.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise CdnctlError(
            f"the data path was not compiled within {_TIMEOUT_S} s",
            "see what keeps this box busy and try again",
        ) from error


def _words(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return done.stderr.decode(errors="replace").splitlines()


# --- the child -----------------------------------------------------------------------------------------


def main() -> int:
    """Compile; or compile with debug information and have the verifier say what is wrong with a program."""
    cflags = sys.argv[1:]
    text = sys.stdin.read()
    try:
        if cflags[:1] == [_EXPLAIN]:
            toolchain.verify(toolchain.compile_module(text, cflags[2:], debug=True), cflags[1])
            return 0
        module = toolchain.compile_module(text, cflags)
        sys.stdout.buffer.write(msgspec.msgpack.encode(taken_from(module, text, functions(text))))
        sys.stdout.flush()
        os._exit(0)  # nobody is to wait until the compiler has tidied up
    except CdnctlError as error:
        print(error.message, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
