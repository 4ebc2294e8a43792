"""What a console remembers of its user: theme, clock, bell, glyphs; of tables order and columns; of screens
which panel stands alone.

Not the screen: whoever opens a console in a bad hour wants the overview, wherever they left the last one. A
small TOML file in the user's state directory (`paths.console_state_path`), written on each change. A
file that cannot be read, or a key that means nothing, costs itself only and is said once.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from cdnctl.console.glyphs import GLYPHS

_KINDS: dict[str, type] = {"theme": str, "glyphs": str, "utc": bool, "bell": bool}
_BY_NAME = ("sorts", "views", "layouts")


@dataclass
class Settings:
    """One user's; `path` None remembers nothing."""

    theme: str = ""
    glyphs: str = "auto"
    utc: bool = False
    bell: bool = False
    sorts: dict[str, str] = field(default_factory=dict)
    """By table: a column's name, with `-` in front when reversed."""
    columns: dict[str, dict[str, bool]] = field(default_factory=dict)
    """By table and column: shown, or not, whatever the width; those not named are as they come."""
    views: dict[str, str] = field(default_factory=dict)
    """By table: how its rows are gathered."""
    layouts: dict[str, str] = field(default_factory=dict)
    """By screen: the panel that stands alone."""
    path: Path | None = None

    def save(self) -> str:
        """Write them; what kept them from being written, or nothing."""
        if self.path is None:
            return ""
        data = {key: value for key, value in asdict(self).items() if key != "path"}
        beside = self.path.with_suffix(f".{os.getpid()}.new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_text(tomli_w.dumps(data), encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            return f"{self.path}: not remembered: {error.strerror or error}"
        return ""


def load(path: Path | None) -> tuple[Settings, list[str]]:
    """What was remembered at `path`, and what is wrong with it, a sentence each."""
    settings = Settings(path=path)
    if path is None:
        return settings, []
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return settings, []
    except (OSError, ValueError) as error:
        return settings, [f"{path}: {error}; delete it to begin anew"]
    problems = []
    for key, value in data.items():
        if kind := _KINDS.get(key):
            if isinstance(value, kind) and (key != "glyphs" or value in GLYPHS):
                setattr(settings, key, value)
                continue
        elif key in _BY_NAME and isinstance(value, dict):
            setattr(settings, key, {name: each for name, each in value.items() if isinstance(each, str)})
            continue
        elif key == "columns" and isinstance(value, dict):
            settings.columns = {
                table: {name: each for name, each in chosen.items() if isinstance(each, bool)}
                for table, chosen in value.items()
                if isinstance(chosen, dict)
            }
            continue
        problems.append(f"{path}: {key}: {value!r} means nothing here; {_expected(key)}")
    return settings, problems


def _expected(key: str) -> str:
    if key == "glyphs":
        return f"one of {', '.join(GLYPHS)}"
    if kind := _KINDS.get(key):
        return "true or false" if kind is bool else "a text"
    return f"known are {', '.join((*_KINDS, *_BY_NAME, 'columns'))}"


def sort_of(settings: Settings, table: str, columns: Sequence[str]) -> tuple[str, bool]:
    """By which of its columns a table was sorted, and whether reversed; else by its first."""
    remembered = settings.sorts.get(table, "")
    name = remembered.removeprefix("-")
    return (name, remembered.startswith("-")) if name in columns else (columns[0], False)
