"""Which recording is meant: a file, or one of those that come with the program, by name."""

from __future__ import annotations

from pathlib import Path

from cdnctl import paths
from cdnctl.errors import UsageError

SUFFIX = ".cdnrec"


def shipped() -> list[str]:
    """The names of the recordings that come with the program."""
    return sorted(file.stem for file in paths.shipped_recordings_dir().glob("*" + SUFFIX))


def find(text: str) -> Path:
    """The file that `text` means: a file of that name, or a shipped one; raises UsageError."""
    file = Path(text)
    if not file.exists() and text in (names := shipped()):
        return paths.shipped_recordings_dir() / (text + SUFFIX)
    if not file.exists() and "/" not in text and not file.suffix:
        raise UsageError(
            f"there is no recording {text}",
            f"name a file that `cdnctl record` made, or one that comes with cdnctl: {', '.join(names)}",
        )
    return file  # if it is not there, or is no recording, reading it says so
