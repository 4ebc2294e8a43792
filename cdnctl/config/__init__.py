"""The operator's TOML file, typed and checked.

`load` reports every mistake at once: each `Problem` has the file, the key, the value found there and
what would be right. cdnctl never writes this file: what operators change at run time is in
cdnctl.state and overlays it.

    schema    the tables and their keys          values   what a single value may be
    reader    finds every mistake in a table     clashes  values that do not go together
    cost      memory, slots, and notes for `check`
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from msgspec import convert

from cdnctl.config.clashes import clashes, fit_half_open
from cdnctl.config.cost import memory, notes, ports, slots
from cdnctl.config.reader import Problem, TableReader
from cdnctl.config.schema import (
    MAX_CDNS,
    MAX_SERVICES,
    CdnConfig,
    Config,
    Edge,
    Limits,
    Reflex,
    ServiceConfig,
)
from cdnctl.config.values import parse_endpoint

__all__ = [
    "CdnConfig",
    "Config",
    "ConfigError",
    "Edge",
    "Limits",
    "Problem",
    "Reflex",
    "ServiceConfig",
    "load",
    "memory",
    "notes",
    "parse",
    "parse_endpoint",
    "ports",
    "slots",
]


class ConfigError(Exception):
    """The file cannot be used; `problems` holds every mistake in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load(path: Path) -> Config:
    """Read and check the file at `path`; raises ConfigError with all mistakes at once."""
    try:
        return parse(path.read_bytes().decode(), path)
    except FileNotFoundError:
        remedy = "no such file; start from the cdnctl.toml.example that comes with cdnctl"
    except UnicodeDecodeError:
        remedy = "this is not UTF-8 text"
    except OSError as error:
        remedy = f"cannot be read: {error.strerror}"
    raise ConfigError([Problem(str(path), "", "", remedy)])


def parse(text: str, path: Path) -> Config:
    """Check the file's `text`; `path` only names it. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem(str(path), "", "", f"this is not valid TOML: {error}")]) from None
    reader = TableReader(str(path))
    for key in sorted(raw.keys() - {"edge", "limits", "reflex", "cdn", "service"}):
        reader.wrong(key, raw[key], "no such table; there are edge, limits, reflex, cdn, service")
    edge = reader.table(Edge, "edge", raw.get("edge"))
    limits = reader.table(Limits, "limits", raw.get("limits", {}))
    reflex = reader.table(Reflex, "reflex", raw.get("reflex", {}))
    cdns = reader.tables(CdnConfig, "cdn", raw.get("cdn"), most=MAX_CDNS)
    services = reader.tables(ServiceConfig, "service", raw.get("service"), most=MAX_SERVICES)
    chosen = raw.get("limits")
    if not (isinstance(chosen, dict) and "half_open" in chosen):
        fit_half_open(edge, limits)
    for key, value, expected in clashes(edge, limits, reflex, cdns, services):
        reader.wrong(key, value, expected)
    if reader.problems:
        raise ConfigError(reader.problems)
    whole: dict[str, Any] = {"edge": edge, "limits": limits, "reflex": reflex, "cdns": cdns}
    return convert({**whole, "services": services, "path": path}, Config)
