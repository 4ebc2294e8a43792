"""What is recorded, and the frames that are kept."""

from __future__ import annotations

from cdnctl.model.base import Base


class Recording(Base, frozen=True, kw_only=True):
    """A recording that the agent makes."""

    path: str
    by: str = ""
    """Who asked for it."""
    since_ns: int = 0
    until_ns: int = 0
    """When it ends by itself; 0: when it is told to."""
    frames: int = 0
    bytes: int = 0
    limit_bytes: int = 0
    """It ends when it is as large as this."""
    redacted: bool = False


class HistoryPart(Base, frozen=True, kw_only=True):
    """Some of the frames that the agent keeps, as `cdnctl.recording.past` packs them."""

    first_seq: int
    last_seq: int
    data: bytes
    is_last: bool = False
    """Nothing is newer."""
