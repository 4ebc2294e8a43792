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
from cdnctl.engine.objects import CONFIG
from cdnctl.paths import state_dir
from cdnctl.state import files
from cdnctl.state.intents import Record


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


def in_force(config: Config, waiting: Record | None) -> tuple[Config, str, list[str]]:
    """The configuration to start with, its text, and warnings where that is not what the file says.

    `waiting` is the change that waits to be confirmed. If that is a reload, what it put into force holds,
    also when the file was edited since: nobody has planned that, and a revert could not tell what to take
    back.
    """
    text = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = config.path.read_text()
    wanted = None
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        held = msgspec.json.decode(_path(config.edge.name).read_bytes(), type=Held)
        if held.refused == text:
            wanted, why = held.text, "was not confirmed"
    if wanted is None and waiting is not None and waiting.after.get(CONFIG, text) != text:
        wanted, why = waiting.after[CONFIG], f"was edited while another change of it waits ({waiting.cli})"
    if wanted is None:
        return config, text, []
    instead = "what it said before" if why == "was not confirmed" else "what that change put into force"
    try:
        found = parse(wanted, config.path)
    except ConfigError as error:
        warning = (
            f"what {config.path} says {why}, and yet is in force, for {instead} cannot be read any more:"
            f" {str(error).splitlines()[0]}"
        )
        return config, text, [warning]
    warning = (
        f"what {config.path} says {why} and is not in force, but {instead};"
        " `cdnctl reload` puts it into force"
    )
    return found, wanted, [warning]
