"""The recording that the agent makes: one at a time, written by a thread of its own.

The agent is root, and a member of group `cdnctl` is not: what he has recorded goes under a bare name into the
edge's own directory of recordings, which the group may read. Only root may name any other place, and even
that file must not be there yet and is never reached through a link: so no word on the socket makes the
agent overwrite anything, or show what its asker may not read.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import re
import shutil
import threading
import time
from pathlib import Path
from typing import NamedTuple

from cdnctl import paths
from cdnctl.errors import CdnctlError, RecordingError
from cdnctl.model import Actor, Frame, Outcome, Record, Recording, Severity
from cdnctl.recording.redaction import Redactor
from cdnctl.recording.writer import Writer
from cdnctl.state import sharing

LIMIT_BYTES = 1 << 30
"""A week of two frames a second."""
LEAST_FREE_BYTES = 64 << 20
"""So much is left on the disk, for the state and the journal."""
FREE_EVERY = 20
"""Frames from one look at the disk to the next."""
QUEUED = 120
"""Frames that may wait for the disk."""
SOON_S = 0.1
"""How long whoever ends one, and with him the agent, waits for its last words."""
CLOSE_S = 5.0
"""How long one that ends may take until it is said that its disk does not take the rest."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

log = logging.getLogger("cdnctl.agent")


class Told(NamedTuple):
    """What is to be said of a recording, as an event."""

    text: str
    severity: Severity


class Recorder:
    """At most one recording of an edge. Everything but the writing happens in the agent's own thread."""

    def __init__(self, edge: str) -> None:
        self._edge = edge
        self._running: _Running | None = None
        self._ending: list[_Running] = []
        """Their threads still write; what became of them is yet to be told."""

    @property
    def picture(self) -> Recording | None:
        """The recording as it stands; None while there is none."""
        return self._running.picture if self._running else None

    def start(self, command: Record, actor: Actor) -> Outcome:
        """Begin one, or say what would be. Raises CdnctlError."""
        if self._running is not None:
            raise CdnctlError(
                f"{self._running.picture.path} is being recorded", "end that first: cdnctl record --stop"
            )
        path = self._place(command.path, actor)
        lasts = "until stopped" if command.for_s is None else f"for {command.for_s:g} s"
        what = f"{path} {lasts}{', redacted' if command.redact else ''}"
        if command.dry_run:
            return Outcome(ok=True, text=f"would record to {what}")
        now_ns = time.time_ns()
        picture = Recording(
            path=str(path),
            by=actor.user,
            since_ns=now_ns,
            until_ns=0 if command.for_s is None else now_ns + round(command.for_s * 1e9),
            limit_bytes=LIMIT_BYTES,
            redacted=command.redact,
        )
        shared = path.parent == paths.recordings_dir(self._edge)
        writer = _open(path, redacted=command.redact, shared=shared)
        self._running = _Running(writer, picture, path.parent)
        return Outcome(ok=True, text=f"records to {what}", recording=picture)

    def stop(self, *, dry_run: bool = False) -> Outcome:
        """End it. Raises CdnctlError when there is none."""
        if self._running is None:
            raise CdnctlError("nothing is being recorded", "cdnctl record FILE begins")
        if dry_run:
            return Outcome(ok=True, text=f"would end the recording {self._running.picture.path}")
        running = self._end(self._running)
        running.wait(SOON_S)
        if running.has_ended:
            self._ending.remove(running)
            return Outcome(ok=True, text=running.told.text, recording=running.picture)
        picture = running.picture
        text = f"ends the recording {picture.path}: {picture.frames:,} frames so far, its disk is slow"
        return Outcome(ok=True, text=text, recording=picture)

    def take(self, frame: Frame) -> Told | None:
        """Record a frame; returns what is to be said when the recording has ended by that, or before."""
        running = self._running
        if running is not None and (running.is_over(frame) or running.take(frame)):
            self._end(running)
        return self.told()

    def told(self) -> Told | None:
        """What is to be said of one that has ended since; waits for nothing."""
        for running in self._ending:
            if running.has_ended:
                self._ending.remove(running)
                return running.told
        return None

    def close(self) -> None:
        """The agent ends: nobody waits for it any more."""
        if self._running is not None:
            self._end(self._running)
        for running in self._ending:
            running.wait(CLOSE_S)
            log.info("%s", running.told.text)
        self._ending.clear()

    def _end(self, running: _Running) -> _Running:
        self._running = None
        self._ending.append(running)
        running.end()
        return running

    def _place(self, name: str, actor: Actor) -> Path:
        """Where the recording goes; makes nothing. Raises CdnctlError."""
        directory = paths.recordings_dir(self._edge)
        name = name or time.strftime(f"{self._edge}-%Y%m%d-%H%M%S.rec", time.gmtime())
        if "/" not in name:
            if not _NAME.fullmatch(name):
                raise CdnctlError(
                    f"{name!r} is no name for a recording", "up to 100 of A-Z, a-z, 0-9, '.', '_' and '-'"
                )
            path = directory / name
        elif actor.uid != 0:
            raise CdnctlError(
                f"{name}: only root may have the agent write there",
                f"give a bare name: it is kept in {directory}, which group {paths.OPERATORS_GROUP} may read",
            )
        elif not name.startswith("/"):
            raise CdnctlError(f"{name}: not an absolute path", "give one, or a bare name")
        else:
            path = Path(name)
        if path.is_symlink() or path.exists():
            raise CdnctlError(f"{path} is there already", "name another file, or remove it")
        return path


class _Running:
    """A thread that writes, and what it is given."""

    def __init__(self, writer: Writer, picture: Recording, directory: Path) -> None:
        self._writer, self._picture, self._directory = writer, picture, directory
        self._redactor = Redactor() if picture.redacted else None
        self._frames: queue.Queue[Frame | None] = queue.Queue()
        self._problem = ""
        self._ended_s = math.inf
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    @property
    def picture(self) -> Recording:
        """With what was written so far."""
        was = self._picture
        return Recording(
            path=was.path,
            by=was.by,
            since_ns=was.since_ns,
            until_ns=was.until_ns,
            limit_bytes=was.limit_bytes,
            redacted=was.redacted,
            frames=self._writer.frames,
            bytes=self._writer.bytes,
        )

    def take(self, frame: Frame) -> str:
        """Hand a frame over; returns why no more is recorded, or nothing."""
        if not self._problem:
            if self._frames.qsize() < QUEUED:
                self._frames.put(frame)
            else:
                self._problem = "the disk is too slow"
        return self._problem

    def is_over(self, frame: Frame) -> bool:
        """Whether its time is."""
        return 0 < self._picture.until_ns <= frame.at_ns

    def end(self) -> None:
        """Have what waits written, and the index; waits for nothing."""
        self._frames.put(None)
        self._ended_s = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Until that is done, but no longer than so."""
        self._thread.join(seconds)

    @property
    def has_ended(self) -> bool:
        """There is nothing more to be waited for."""
        return not self._thread.is_alive() or time.monotonic() - self._ended_s >= CLOSE_S

    @property
    def told(self) -> Told:
        """What became of it."""
        picture, problem = self.picture, self._problem
        if self._thread.is_alive():
            problem = problem or "the disk does not take the rest"
        if problem:
            text = f"the recording {picture.path} has ended after {picture.frames:,} frames: {problem}"
            return Told(text, "warning")
        frames = f"{picture.frames:,} frame{'' if picture.frames == 1 else 's'}"
        return Told(f"recorded {frames}, {picture.bytes:,} bytes: {picture.path}", "info")

    def _write(self) -> None:
        try:
            while (frame := self._frames.get()) is not None and not self._problem:
                self._writer.add(self._redactor.frame(frame) if self._redactor else frame)
                self._problem = self._problem or self._is_enough()
        except RecordingError as error:
            self._problem = error.message
        except Exception as error:
            log.exception("internal error while recording")
            self._problem = f"internal error: {type(error).__name__}; the agent's log has the details"
        finally:
            self._writer.close()

    def _is_enough(self) -> str:
        if self._writer.bytes >= self._picture.limit_bytes:
            return f"it has reached {self._picture.limit_bytes >> 20:,} MB"
        if self._writer.frames % FREE_EVERY == 1:
            with contextlib.suppress(OSError):
                if shutil.disk_usage(self._directory).free < LEAST_FREE_BYTES:
                    return f"less than {LEAST_FREE_BYTES >> 20} MB are free on its disk"
        return ""


def _open(path: Path, *, redacted: bool, shared: bool) -> Writer:
    """`shared`: it is in the edge's own directory of recordings, which is made, and open to the group."""
    if shared:
        try:
            sharing.directory(path.parent.parent)
            sharing.directory(path.parent)
        except OSError as error:
            raise CdnctlError(
                f"{path.parent}: {error.strerror}", "the agent keeps recordings there"
            ) from None
    with contextlib.suppress(OSError):
        if shutil.disk_usage(path.parent).free < LEAST_FREE_BYTES:
            raise CdnctlError(
                f"{path.parent}: less than {LEAST_FREE_BYTES >> 20} MB are free", "make room first"
            )
    writer = Writer(path, redacted=redacted)
    if shared:
        with contextlib.suppress(OSError):
            sharing.file(path)
    return writer
