"""`cdnctl journal`: who changed what, when and why; read from the file, so no agent is needed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cdnctl import paths
from cdnctl.agent.edge import guess_edge
from cdnctl.cli import show
from cdnctl.engine.journal import Journal
from cdnctl.errors import CdnctlError, NotPermitted, sudo_line
from cdnctl.model import JournalEntry

_LOOK_S = 0.25
"""A follower looks this often whether something was added."""


def run(options: argparse.Namespace) -> int:
    """Print the lines that are asked for; with `-f` also those that come."""
    edge = guess_edge(options.edge)
    journal = Journal(paths.journal_path(edge))
    _require_readable(journal.path, edge, follow=options.follow)
    tail = journal.tail()
    chosen: Iterable[JournalEntry] = (entry for entry in next(tail) if wanted(entry, options))
    if options.count is not None:
        chosen = deque(chosen, options.count)
    if options.json:
        for entry in chosen:
            show.print_json(entry)
    else:
        _table(list(chosen), follow=options.follow)
    if options.follow:
        _follow(tail, options)
    return 0


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


def _require_readable(path: Path, edge: str, *, follow: bool) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        if not follow:
            raise CdnctlError(
                f"edge {edge} has no journal yet: {path} is not there",
                "the first change makes it; CDNCTL_STATE_DIR says where, if not in /var/lib/cdnctl",
            ) from None
    except PermissionError:
        raise NotPermitted(f"{path}: this user may not read it", sudo_line()) from None
    except OSError as error:
        raise CdnctlError(f"{path}: {error.strerror}", "see that it is a file that can be read") from None


def _follow(tail: Iterator[list[JournalEntry]], options: argparse.Namespace) -> None:
    for entries in tail:
        for entry in entries:
            if wanted(entry, options):
                show.print_json(entry) if options.json else _print(entry)
        sys.stdout.flush()
        time.sleep(_LOOK_S)


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
