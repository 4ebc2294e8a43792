"""The operator's TOML file, typed and checked.

`load` reports every mistake at once: each `Problem` has the file, the key, the value found there and
what would be right. cdnctl never writes this file: what operators change at run time is in
cdnctl.state and overlays it.

    schema    the tables and their keys          values   what a single value may be
    planning  those of the planner, probes, names and feeds
    reader    finds every mistake in a table     clashes  values that do not go together
    picks     who serves which flows             cost     memory, slots and ports
    remarks   what is right, but odd             differences   of two configurations, in words
"""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Any

from msgspec import Struct, convert

from cdnctl.config.bans import AutobanConfig, BanLimits
from cdnctl.config.clashes import Tables, clashes, fit_half_open
from cdnctl.config.cost import memory, ports, slots, snat_rows
from cdnctl.config.picks import pick_tables, shortfalls
from cdnctl.config.planning import (
    MAX_FEEDS,
    DnsConfig,
    FeedConfig,
    HeaderConfig,
    NameConfig,
    PlannerConfig,
    PlannerMode,
    ProbeConfig,
)
from cdnctl.config.reader import Problem, TableReader
from cdnctl.config.remarks import notes
from cdnctl.config.schema import (
    CLASSES,
    MAX_CDNS,
    MAX_CUSTOMERS,
    MAX_REGIONS,
    MAX_SERVICES,
    PROTOCOLS,
    Capacity,
    CdnConfig,
    ClassName,
    Config,
    CustomerConfig,
    Edge,
    EndpointConfig,
    Limits,
    Log,
    Metrics,
    ModelConfig,
    PerSource,
    PolicyByClass,
    PolicyName,
    Protocol,
    Quota,
    Reflex,
    RegionConfig,
    ServiceConfig,
    ShieldConfig,
)
from cdnctl.config.values import family, parse_endpoint, show_endpoint
from cdnctl.errors import CdnctlError

__all__ = [
    "CLASSES",
    "PROTOCOLS",
    "AutobanConfig",
    "BanLimits",
    "Capacity",
    "CdnConfig",
    "ClassName",
    "Config",
    "ConfigError",
    "CustomerConfig",
    "DnsConfig",
    "Edge",
    "EndpointConfig",
    "FeedConfig",
    "HeaderConfig",
    "Limits",
    "NameConfig",
    "PerSource",
    "PlannerConfig",
    "PlannerMode",
    "PolicyByClass",
    "PolicyName",
    "ProbeConfig",
    "Problem",
    "Protocol",
    "Quota",
    "Reflex",
    "RegionConfig",
    "ServiceConfig",
    "ShieldConfig",
    "family",
    "load",
    "memory",
    "notes",
    "parse",
    "parse_endpoint",
    "pick_tables",
    "ports",
    "read",
    "show_endpoint",
    "slots",
    "snat_rows",
]

_ONCE: dict[str, type[Struct]] = {
    "edge": Edge,
    "limits": Limits,
    "reflex": Reflex,
    "quota": Quota,
    "metrics": Metrics,
    "log": Log,
    "shield": ShieldConfig,
    "autoban": AutobanConfig,
    "model": ModelConfig,
    "planner": PlannerConfig,
    "dns": DnsConfig,
}
_MANY: dict[str, tuple[type[Struct], int, int]] = {
    "region": (RegionConfig, 0, MAX_REGIONS - 1),  # one number is that of no region
    "customer": (CustomerConfig, 0, MAX_CUSTOMERS - 1),
    "cdn": (CdnConfig, 1, MAX_CDNS),
    "service": (ServiceConfig, 1, MAX_SERVICES),
    "feed": (FeedConfig, 0, MAX_FEEDS),
}
"""Kind, least and most."""


def _tables(once: dict[str, dict[str, Any]], many: dict[str, list[dict[str, Any]]]) -> Tables:
    return Tables(*(once[name] for name in _ONCE), *(many[name] for name in _MANY))  # type: ignore[arg-type]


class ConfigError(Exception):
    """The file cannot be used; `problems` holds every mistake in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def read(path: Path, text: str | None = None) -> Config:
    """As `load`, or with its text `parse`, for those who pass mistakes on in words. Raises CdnctlError."""
    try:
        return load(path) if text is None else parse(text, path)
    except ConfigError as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        raise CdnctlError(
            f"the configuration cannot be used:\n{problems}", f"`cdnctl check -c {path}` checks it again"
        ) from None


def load(path: Path) -> Config:
    """Read and check the file at `path`; raises ConfigError with all mistakes at once."""
    try:
        return parse(path.read_bytes().decode(), path)
    except FileNotFoundError:
        remedy = f"no such file; `{shlex.join(['cdnctl', 'init', '-c', str(path)])}` makes one"
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
    names = [*_ONCE, *_MANY]
    for key in sorted(raw.keys() - set(names)):
        reader.wrong(key, raw[key], f"no such table; there are {', '.join(names)}")
    once = {
        name: reader.table(kind, name, raw.get(name, None if name == "edge" else {}))
        for name, kind in _ONCE.items()
    }
    many = {
        name: reader.tables(kind, name, raw.get(name), most, least)
        for name, (kind, least, most) in _MANY.items()
    }
    chosen = raw.get("limits")
    if not (isinstance(chosen, dict) and "half_open" in chosen):
        fit_half_open(once["edge"], once["limits"])
    for clash in clashes(_tables(once, many)):
        reader.wrong(*clash)
    if reader.problems:
        raise ConfigError(reader.problems)
    whole: dict[str, Any] = {**once, **{f"{name}s": tables for name, tables in many.items()}}
    config = convert({**whole, "path": path}, Config)
    for clash in shortfalls(config):
        reader.wrong(*clash)
    if reader.problems:
        raise ConfigError(reader.problems)
    return config
