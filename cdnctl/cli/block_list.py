"""`cdnctl block --file`: all prefixes of a file as one change, however many parts they are sent in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from cdnctl.agent.blocking import Client, new_session
from cdnctl.agent.edge import find_edge
from cdnctl.cli import show, taking_back
from cdnctl.cli.pages import Pace
from cdnctl.errors import CdnctlError
from cdnctl.model import BlockList, ListPart

MOST_BYTES = 16 << 20
MOST = 250_000
"""Prefixes, as many as an agent takes of one list."""
_PART = 10_000
"""Prefixes of a message: it has room for more, but a client may send only so many bytes a second."""
_TIMEOUT_S = 60.0
_NAMED = 3


def run(options: argparse.Namespace) -> int:
    """Send it, and say what became of it."""
    found = read(options.file)
    token = new_session()
    command = BlockList(
        list=token,
        count=len(found),
        name=options.file.name,
        lifetime_s=options.lifetime_s,
        reason=options.reason,
        dry_run=options.dry_run,
    )
    with Client(find_edge(options.edge)) as client:
        taking_back.require_operator(client)
        pace = Pace(client.request)
        for part in _parts(token, found):
            outcome = pace.ask(part)
            if not outcome.ok:
                return show.outcome(outcome, options.json)
        client.timeout_s = _TIMEOUT_S
        command = taking_back.confirming(
            options, command, lambda: client.request(replace(command, dry_run=True))
        )
        return show.outcome(client.request(command), options.json)


def read(path: Path) -> list[int]:
    """The codes of a file's prefixes, each once. Raises CdnctlError, which names lines that are none."""
    from cdnctl.defence.blocklist import parse_code

    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CdnctlError(f"{path}: {error.strerror or error}", "name a file that can be read") from None
    if len(data) > MOST_BYTES:
        raise CdnctlError(f"{path}: more than {MOST_BYTES >> 20} MiB", "cut it into parts")
    found, wrong = dict[int, None](), list[str]()
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        words = line.replace(";", "#").partition("#")[0].split()
        if not words:
            continue
        try:
            found[parse_code(words[0])] = None
        except ValueError as error:
            wrong.append(f"line {number}: {show.clean_text(str(error)).strip()}")
    if wrong:
        more = f"; and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
        raise CdnctlError(f"{path}: {'; '.join(wrong[:_NAMED])}{more}", "mend them; nothing was blocked")
    if not found:
        raise CdnctlError(f"{path}: there is no prefix in it", "write one a line, as 198.51.100.0/24")
    if len(found) > MOST:
        raise CdnctlError(f"{path}: {len(found):,} prefixes; at most {MOST:,} at a time", "cut it into parts")
    return list(found)


def _parts(token: str, found: list[int]) -> Iterator[ListPart]:
    from cdnctl.defence import codes

    for at in range(0, len(found), _PART):
        four, six = codes.pack(found[at : at + _PART])
        yield ListPart(list=token, four=four, six=six)
