"""`cdnctl feed check`: what a list would bring, and what of it not. Needs neither root nor an agent."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from msgspec import Struct, field

from cdnctl.agent.edge import config_of, named_edge
from cdnctl.cli import show
from cdnctl.config import Config, read
from cdnctl.defence.feeds import screen
from cdnctl.defence.feeds.fetch import fetch
from cdnctl.defence.feeds.formats import KINDS, parse
from cdnctl.defence.protected import Protected, protected, surroundings

_SHOWN = 20


class Report(Struct, kw_only=True):
    """What `feed check` found; what `--json` prints."""

    source: str
    format: str
    kind: str
    """`blocks`, `ranges` or `either`."""
    entries: int
    prefixes: int
    """After joining those that touch, and leaving out those that are skipped."""
    timed: int
    """Of them, those with a lifetime of their own."""
    addresses4: int
    skipped: list[screen.Skipped] = field(default_factory=list)
    """The first `screen.SKIPPED_SHOWN`."""
    skipped_total: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def run(options: argparse.Namespace) -> int:
    """Fetch, parse and screen the list; raises CdnctlError when it cannot be used."""
    report = examine(options.source, _config(options), options.netns)
    if options.json:
        show.print_json(report)
    else:
        _show(report)
    return 0


def examine(source: str, config: Config | None, netns: str | None = None) -> Report:
    """What the list at `source` would bring to the edge of `config`. Raises CdnctlError."""
    warnings = []
    stored = fetch(source)  # from here: the edge's namespace may have no way to it
    assert stored is not None, "nothing to be the same as"
    entries = parse(stored.data, source)
    guarded: list[Protected] = screen.private()
    if config is None:
        warnings.append("no configuration: only private ranges are left out; name one with -c FILE")
    else:
        unseen = _go_to(config.edge.name, netns)
        around = surroundings()
        guarded = protected(config, around) + guarded
        warnings += [*([unseen] if unseen else []), *around.unread]
    brought = screen.screen(entries, guarded)
    screen.require_plausible(brought, None, source)
    whole = brought.whole()
    return Report(
        source=source,
        format=brought.format,
        kind=brought.kind,
        entries=brought.entries,
        prefixes=brought.count,
        timed=sum(len(each) for lifetime_s, each in brought.prefixes.items() if lifetime_s is not None),
        addresses4=whole.addresses(4),
        skipped=brought.skipped,
        skipped_total=brought.skipped_total,
        passed_over=brought.passed_over,
        warnings=warnings,
    )


def _config(options: argparse.Namespace) -> Config | None:
    """The configuration named, or the usual one where there is one."""
    file: Path = options.config or config_of(named_edge(options.edge))
    return read(file) if options.config or os.access(file, os.F_OK) else None


def _go_to(edge: str, netns: str | None) -> str:
    """Go where the edge lives, for its addresses and sessions; why not, when that cannot be."""
    from cdnctl.cli import place

    return place.go_to(edge, netns).unseen


def _show(report: Report) -> None:
    print(f"{report.source}: {report.format}; {KINDS[report.kind]}")  # type: ignore[index]
    timed = f", {report.timed:,} of them with a lifetime of their own" if report.timed else ""
    print(f"{report.entries:,} entries, {report.prefixes:,} prefixes when joined{timed}")
    print(f"{report.addresses4:,} IPv4 addresses, {100 * report.addresses4 / 2**32:.2g} % of all")
    for why, count in report.passed_over.items():
        print(f"passed over: {count:,} {why}")
    if report.skipped_total:
        print(f"skipped: {report.skipped_total:,}, which stay free:")
        for each in report.skipped[:_SHOWN]:
            print(f"  line {each.line}: {each.prefix} {each.why}")
        if report.skipped_total > _SHOWN:
            print(f"  and {report.skipped_total - _SHOWN:,} more (--json names {screen.SKIPPED_SHOWN})")
    for warning in report.warnings:
        print(f"note: {warning}")
