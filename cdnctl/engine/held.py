"""A configuration that was not confirmed does not come back by the next start.

The operator's file is never rewritten. When its contents were taken back, the ones before are kept here, and
hold for as long as the file says the same; `cdnctl reload` puts the file into force again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
from msgspec import Struct

from cdnctl.config import Config, ConfigError, parse
from cdnctl.paths import state_dir
from cdnctl.state import files


class Held(Struct, frozen=True):
    """Texts of configurations."""

    refused: str
    """What the file says, and was taken back."""
    text: str
    """What is in force instead."""


def _path(edge: str) -> Path:
    return state_dir(edge) / "held.json"


def hold(edge: str, refused: str, text: str) -> None:
    """From now on `text` holds while the file says `refused`. Raises OSError."""
    files.replace(_path(edge), msgspec.json.encode(Held(refused, text)) + b"\n")


def forget(edge: str) -> None:
    """The file holds. Raises OSError."""
    files.remove(_path(edge))


def in_force(config: Config) -> tuple[Config, str, str]:
    """The configuration to start with, its text, and a warning where that is not what the file says."""
    text = ""
    with contextlib.suppress(OSError):
        text = config.path.read_text()
    with contextlib.suppress(OSError, msgspec.DecodeError, ConfigError):
        held = msgspec.json.decode(_path(config.edge.name).read_bytes(), type=Held)
        if held.refused == text:
            warning = (
                f"what {config.path} says was not confirmed and is not in force, but what it said before;"
                " `cdnctl reload` puts it into force"
            )
            return parse(held.text, config.path), held.text, warning
    return config, text, ""
