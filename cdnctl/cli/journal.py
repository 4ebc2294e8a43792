"""`cdnctl journal`: who changed what, when and why; of the agent, or of the file where there is none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cdnctl.agent.edge import guess_edge
from cdnctl.cli import show
from cdnctl.cli.journal_lines import Lines
from cdnctl.model import JournalEntry

_CLOCK_SET_BACK_NS = 3_600_000_000_000
"""A line may be dated so much after the one that follows it: a clock is set."""


def run(options: argparse.Namespace) -> int:
    """Print the lines that are asked for; with `-f` also those that come."""
    with Lines(guess_edge(options.edge), follow=options.follow) as lines:
        chosen = _chosen(lines.newest_first(), options)
        if options.json:
            for entry in chosen:
                show.print_json(entry)
        else:
            _table(chosen, follow=options.follow)
        if options.follow:
            _follow(lines.following(), options)
    return 0


def _chosen(newest_first: Iterator[JournalEntry], options: argparse.Namespace) -> list[JournalEntry]:
    """Those that are asked for, the oldest first; of what is older no more is looked at than must be."""
    found = list[JournalEntry]()
    for entry in newest_first:
        if options.since is not None and _at_ns(entry) < options.since - _CLOCK_SET_BACK_NS:
            break
        if wanted(entry, options):
            found.append(entry)
        if options.count is not None and len(found) >= options.count:
            break
    return found[::-1]


def wanted(entry: JournalEntry, options: argparse.Namespace) -> bool:
    """Whether every filter lets it through."""
    if options.failed and entry.ok:
        return False
    if options.user and not any(_is_user(name, entry.user) for name in options.user):
        return False
    if options.verbs and entry.command.get("verb") not in options.verbs:
        return False
    if options.cdn and not any(_names(entry.command, cdn) for cdn in options.cdn):
        return False
    at_ns = _at_ns(entry)
    if options.since is not None and at_ns < options.since:
        return False
    if options.until is not None and at_ns > options.until:
        return False
    texts = (entry.cli, entry.text, entry.reason)
    return options.grep is None or any(options.grep.search(text) for text in texts)


def _is_user(name: str, user: str) -> bool:
    """`alice` is who did it also where it says `alice as root`."""
    return user == name or user.startswith(f"{name} as ")


def _names(command: dict[str, Any], cdn: str) -> bool:
    weights = command.get("weights")
    return command.get("cdn") == cdn or (isinstance(weights, dict) and cdn in weights)


def _at_ns(entry: JournalEntry) -> int:
    """When; 0 when its own words for that cannot be read."""
    try:
        return int(datetime.fromisoformat(entry.at).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError):
        return 0


def _follow(tail: Iterator[list[JournalEntry]], options: argparse.Namespace) -> None:
    for entries in tail:
        for entry in entries:
            if wanted(entry, options):
                show.print_json(entry) if options.json else _print(entry)
        sys.stdout.flush()


def _table(entries: list[JournalEntry], *, follow: bool) -> None:
    if follow:  # what comes later could not be set in line with a table
        for entry in entries:
            _print(entry)
        return
    if not entries:
        print("no such line is in the journal")
        return
    show.journal(entries)


def _print(entry: JournalEntry) -> None:
    from cdnctl.console.format import clean

    why = f"  ({entry.reason})" if entry.reason else ""
    done = entry.text.splitlines()[0] if entry.text else ""
    mark = "" if entry.ok or done.startswith("refused: ") else "REFUSED: "
    line = f"{entry.seq}  {entry.at[:19]}Z  {entry.user} ({entry.client})  {entry.cli or _verb(entry)}"
    print(clean(f"{line}  {mark}{done}{why}"))


def _verb(entry: JournalEntry) -> str:
    return str(entry.command.get("verb", ""))
