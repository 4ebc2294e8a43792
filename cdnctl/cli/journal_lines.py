"""Where `cdnctl journal` has its lines from: the agent, which also tells those who may only watch; without
one the file, where this user may read it.

Of the agent's pages the newest line comes first, so that no more is asked for than is shown.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cdnctl import paths
from cdnctl.agent.blocking import Client
from cdnctl.cli import pages
from cdnctl.engine.journal import Journal
from cdnctl.errors import AgentRefused, AgentSilent, CdnctlError, NotPermitted, sudo_line
from cdnctl.model import JournalEntry

LOOK_S = 0.25
"""A follower of the file looks this often whether something was added, ..."""
ASK_S = 0.5
"""... and one of the agent asks it so often."""
_AGAIN_S = 1.0
_FEW = 20
"""Lines of a follower's first page."""


class Lines:
    """Of one edge. A context manager."""

    def __init__(self, edge: str, *, follow: bool) -> None:
        """Raises CdnctlError when there is neither an agent nor a file that may be read."""
        self._edge = edge
        self._path = paths.socket_path(edge)
        self._journal = Journal(paths.journal_path(edge))
        self._last: JournalEntry | None = None
        self._client: Client | None = None
        try:
            self._client = Client(self._path)
        except CdnctlError as error:
            self._look_at_file(error, follow=follow)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_why: object) -> None:
        self._hang_up()

    def newest_first(self) -> Iterator[JournalEntry]:
        """All of them."""
        if self._client is None:
            lines: Iterator[JournalEntry] = iter(self._of_file())
        else:
            lines = pages.journal(self._client.request)
        for entry in lines:
            self._last = self._last or entry
            yield entry

    def following(self) -> Iterator[list[JournalEntry]]:
        """Those that came since, the oldest first, again and again; perhaps none.

        An agent that ends is waited for, or followed on its file where that may be read.
        """
        while self._client is not None:
            try:
                found = self._since_last(self._client)
            except CdnctlError:
                self._hang_up()
                yield from self._without_agent()
                continue
            self._last = found[0] if found else self._last
            yield found[::-1]
            time.sleep(ASK_S)
        tail = self._journal.tail()
        yield _after(next(tail), self._last)
        for entries in tail:
            time.sleep(LOOK_S)
            yield entries

    def _since_last(self, client: Client) -> list[JournalEntry]:
        found = list[JournalEntry]()
        for entry in pages.journal(client.request, _FEW):
            if self._last is not None and _is_same(entry, self._last):
                break
            found.append(entry)
        return found

    def _without_agent(self) -> Iterator[list[JournalEntry]]:
        """Until there is an agent again, or the file will do."""
        if os.access(self._journal.path, os.R_OK):
            return
        print(f"cdnctl: the agent of edge {self._edge} is gone: waiting for it", file=sys.stderr)
        while self._client is None:
            yield []
            time.sleep(_AGAIN_S)
            try:
                self._client = Client(self._path)
            except CdnctlError:
                continue

    def _of_file(self) -> list[JournalEntry]:
        return list(self._journal.read())[::-1]

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _look_at_file(self, why_no_agent: CdnctlError, *, follow: bool) -> None:
        path = self._journal.path
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            if not follow:
                raise CdnctlError(
                    f"edge {self._edge} has no journal yet: {path} is not there",
                    "the first change makes it; CDNCTL_STATE_DIR says where, if not in /var/lib/cdnctl",
                ) from None
        except PermissionError:
            raise _not_readable(path, why_no_agent) from None
        except OSError as error:
            raise CdnctlError(f"{path}: {error.strerror}", "see that it is a file that can be read") from None


def _not_readable(path: Path, why_no_agent: CdnctlError) -> CdnctlError:
    """What keeps this user from it: an agent that does not answer, or that he may not ask either."""
    if isinstance(why_no_agent, AgentRefused | AgentSilent):
        return why_no_agent
    return NotPermitted(
        f"{path}: this user may not read it, and no agent is there to tell"
        if not isinstance(why_no_agent, NotPermitted)
        else f"{path}: this user may neither read it nor ask the agent (group cdnctl-view may ask)",
        sudo_line(),
    )


def _is_same(one: JournalEntry, other: JournalEntry) -> bool:
    return (one.seq, one.at) == (other.seq, other.at)


def _after(entries: Sequence[JournalEntry], last: JournalEntry | None) -> list[JournalEntry]:
    """What follows a line; all when it is not there: the file was rotated."""
    for at in reversed(range(len(entries))):
        if last is not None and _is_same(entries[at], last):
            return list(entries[at + 1 :])
    return list(entries)
