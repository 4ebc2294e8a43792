"""Which recording is meant: a file, one made on this box, or one that comes with the program."""

from __future__ import annotations

import os
from pathlib import Path

from cdnctl import paths
from cdnctl.errors import RecordingError, UsageError
from cdnctl.recording.reader import Reader

SUFFIX = ".rec"


def shipped() -> list[str]:
    """The names of the recordings that come with the program."""
    return sorted(file.stem for file in paths.shipped_recordings_dir().glob("*" + SUFFIX))


def find(file: Path) -> Path:
    """The file meant: as named, else of that name among an edge's own on this box, else a shipped one.

    A path that is nowhere is returned as it is: reading it says so. Raises RecordingError for a name that is,
    UsageError for one that is in several places.
    """
    if file.exists() or len(file.parts) > 1:
        return file
    root = Path(os.environ.get("CDNCTL_STATE_DIR") or "/var/lib/cdnctl")
    found = sorted(root.glob(f"*/{paths.RECORDINGS}/{file.name}")) if file.name.isprintable() else []
    if len(found) > 1:
        raise UsageError(f"{len(found)} edges have a recording {file}", f"name one by its path: {found[0]}")
    if found:
        return found[0]
    if str(file) in (names := shipped()):
        return paths.shipped_recordings_dir() / f"{file}{SUFFIX}"
    if not file.suffix:
        raise RecordingError(
            f"there is no recording {file}",
            f"name a file that `cdnctl record` made, or one that comes with cdnctl: {', '.join(names)}",
        )
    return file


def require_part(from_s: float, to_s: float | None, duration_s: float) -> None:
    """Raise UsageError when nothing of a recording that long can be between `--from` and `--to`."""
    if to_s is not None and to_s < from_s:
        raise UsageError(
            f"--to ({to_s:g} s) is before --from ({from_s:g} s)", "give the earlier one to --from"
        )
    if from_s > duration_s:
        raise UsageError(
            f"--from ({from_s:g} s) is beyond the recording's end at {duration_s:.1f} s",
            "`cdnctl replay FILE --info` tells more",
        )


def require_moment(at_s: float, reader: Reader) -> None:
    """Raise UsageError when `--at` is more than a second beyond the end."""
    if at_s > reader.duration_s + 1:
        why = f" ({reader.damage})" if reader.damage else ""
        raise UsageError(
            f"--at: the recording ends at {reader.duration_s:.1f} s{why}",
            "`cdnctl replay FILE --info` tells more",
        )
