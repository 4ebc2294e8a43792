"""The verbs around a change: confirm, revert, undo; what was kept; what is not as wanted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import find_edge
from cdnctl.cli import show
from cdnctl.cli.commands import undo_of
from cdnctl.errors import NotPermitted, sudo_line
from cdnctl.model import (
    AnyChange,
    AnyCommand,
    Confirm,
    Diff,
    GetState,
    Outcome,
    Repair,
    Revert,
)

CONFIRM_S = 120.0
"""How long a risky change waits to be confirmed when an operator at a terminal makes it and says nothing."""
SLOW_S = 150.0
"""A change may put a configuration back into force: a program may have to be compiled."""

_Change = TypeVar("_Change", bound=AnyChange)


def confirming(options: argparse.Namespace, command: _Change, plan: Callable[[], Outcome | None]) -> _Change:
    """The command with the time to confirm it in: what was said, or what its plan asks for at a terminal."""
    if options.confirm is not None:
        return msgspec.structs.replace(command, confirm_s=options.confirm)
    if command.dry_run or options.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return command
    planned = plan()
    if planned is None or not (planned.ok and planned.risk):
        return command
    print(
        f"{_with_risk(planned)}. It reverts by itself in {CONFIRM_S:.0f} s unless"
        " `cdnctl confirm` comes before (--confirm says otherwise, --yes makes it stay).",
        file=sys.stderr,
    )
    return msgspec.structs.replace(command, confirm_s=CONFIRM_S, expect=planned.state_version)


def _with_risk(planned: Outcome) -> str:
    """What would be done, and why that is risky; often the same figure says both, and is said once."""
    first = planned.text.split("\n")[0]
    said = planned.risk.removeprefix("it ")
    return first if said in first else f"{first}: {planned.risk}"


def change(options: argparse.Namespace, command: AnyChange, timeout_s: float | None = None) -> int:
    """Send a change, and say what became of it."""
    command = msgspec.structs.replace(command, reason=options.reason, dry_run=options.dry_run)
    with Client(find_edge(options.edge)) as client:
        require_operator(client)
        dry = msgspec.structs.replace(command, dry_run=True)
        command = confirming(options, command, lambda: client.request(dry, timeout_s))
        return show.outcome(client.request(command, timeout_s), options.json)


def confirm(options: argparse.Namespace) -> int:
    """Keep what waits."""
    return change(options, Confirm())


def revert(options: argparse.Namespace) -> int:
    """Take it back at once."""
    return change(options, Revert(), SLOW_S)


def undo(options: argparse.Namespace) -> int:
    """Take back the last change, or another."""
    return change(options, undo_of(options), SLOW_S)


def repair(options: argparse.Namespace) -> int:
    """Have the kernel hold what is wanted."""
    return change(options, Repair(), SLOW_S)


def state(options: argparse.Namespace) -> int:
    """The revisions that are kept, or the text of one."""
    if options.what == "list":
        outcome = _ask(options, GetState())
        if outcome.revisions is None:
            return show.outcome(outcome, options.json)
        show.revisions(outcome.revisions, options.json)
        return 0
    number = options.revision
    if number is None:
        kept = _ask(options, GetState()).revisions or []
        number = kept[0].number if kept else 0
    outcome = _ask(options, GetState(revision=number))
    if outcome.state is None:
        return show.outcome(outcome, options.json)
    if options.json:
        show.print_json({"revision": number, "state": outcome.state})
    else:
        sys.stdout.write(show.clean_text(outcome.state))
    return 0


def diff(options: argparse.Namespace) -> int:
    """What the kernel holds otherwise than it is wanted; 1 when there is anything."""
    outcome = _ask(options, Diff(), SLOW_S)
    if outcome.differences is None:
        return show.outcome(outcome, options.json)
    show.differences(outcome.differences, options.json)
    return 1 if outcome.differences else 0


def require_operator(client: Client) -> None:
    """Raise NotPermitted for a user who may only watch."""
    if client.role != "operate":
        raise NotPermitted(
            f"this user may only watch edge {client.edge}; a change needs root or group cdnctl", sudo_line()
        )


def _ask(options: argparse.Namespace, command: AnyCommand, timeout_s: float | None = None) -> Outcome:
    with Client(find_edge(options.edge)) as client:
        return client.request(command, timeout_s)
