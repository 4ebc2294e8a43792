"""`cdnctl report`: all that is known of an edge in one archive, for those who look into it later.

Each part is taken by itself: what cannot be had, as when the agent is dead, is said in MISSING.txt and keeps
nothing else out. Redacted as a whole, by one key that is kept nowhere: an address, user or host that appears
in several parts has the same stand-in in all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from cdnctl import __version__
from cdnctl.agent.edge import edge_of_config, guess_edge
from cdnctl.cli import show
from cdnctl.cli.bundle import Bundle
from cdnctl.cli.stand_ins import StandIns
from cdnctl.errors import CdnctlError, UsageError
from cdnctl.model import Frame


class Made(NamedTuple):
    """What an archive holds."""

    files: dict[str, bytes]
    missing: dict[str, str]
    """What could not be had, and why."""


def run(options: argparse.Namespace) -> int:
    """Collect, and write the archive; says what is in it and what is not."""
    output: Path = options.output
    _require_place(output, force=options.force)
    edge = _edge(options)
    made = _collect(edge, options)
    _write(output, edge, made)
    size = output.stat().st_size
    if options.json:
        answer = {"file": str(output), "bytes": size, "files": sorted(made.files), "missing": made.missing}
        show.print_json({**answer, "redacted": options.redact})
        return 0
    how = "redacted" if options.redact else "NOT redacted: addresses and users are the real ones"
    print(f"{output}: {len(made.files)} files, {size / 1e6:.1f} MB, {how}")
    for name, why in made.missing.items():
        print(f"  without {name}: {why}")
    return 0


def _edge(options: argparse.Namespace) -> str:
    if options.config is not None and (found := edge_of_config(options.config)):
        return found
    return guess_edge(options.edge)


def _require_place(output: Path, *, force: bool) -> None:
    """Before anything is collected, which takes seconds."""
    if not output.name.endswith((".tar.gz", ".tgz")):
        raise UsageError(f"-o {output}: it becomes a compressed archive", f"as in -o {output.stem}.tar.gz")
    if output.is_dir() or (output.exists() and not force):
        raise CdnctlError(f"{output} is there already", "name another file, or say --force")
    if not os.access(output.parent, os.W_OK):
        raise CdnctlError(f"{output.parent} is no directory that this user may write to", "name another one")


def _collect(edge: str, options: argparse.Namespace) -> Made:
    bundle = Bundle(edge, options)
    found = bundle.collect()
    if options.redact:
        stand_ins = StandIns(edge, found.people, found.hosts)
        files = {name: stand_ins.text(data) for name, data in found.files.items()}
        missing = {name: stand_ins.words(why) for name, why in found.missing.items()}
        frames = [stand_ins.frame(frame) for frame in found.frames]
    else:
        files, missing, frames = dict(found.files), dict(found.missing), found.frames
    if frames:
        files["frames.cdnrec"] = _recording(frames, redacted=options.redact)
    if missing:
        lines = (f"{name}: {why}\n" for name, why in missing.items())
        files["MISSING.txt"] = "".join(lines).encode()
    about = {
        "edge": edge,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "made_by": f"cdnctl {__version__}",
        "redacted": options.redact,
        "files": {name: len(data) for name, data in sorted(files.items())},
        "missing": missing,
    }
    files["about.json"] = msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n"
    return Made(files, missing)


def _recording(frames: Sequence[Frame], *, redacted: bool) -> bytes:
    """`cdnctl replay` plays it."""
    from cdnctl.recording.writer import Writer

    class Kept(io.BytesIO):
        """Outlives its writer, who closes what it wrote to."""

        def close(self) -> None:
            """Not yet."""

    with Kept() as buffer, Writer(buffer, redacted=redacted) as writer:
        for frame in frames:
            writer.add(frame)
    return buffer.getvalue()


def _write(output: Path, edge: str, made: Made) -> None:
    """Whole or not at all, and for its owner's eyes."""
    draft = output.with_name(f".{output.name}.{os.getpid()}")
    top = f"{edge}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, data in sorted(made.files.items()):
                entry = tarfile.TarInfo(f"{top}/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(data))
        draft.replace(output)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise CdnctlError(f"cannot write {output}: {error.strerror}", "make room, or name another") from None
