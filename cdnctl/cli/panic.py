"""The verbs of last resort: `disarm`, `arm`, `mode`, `bypass`, `detach`.

They ask the agent, and when it is stopped or hangs they write the kernel's maps themselves, as root.
Those that cut flows say first how many, and are done only on a yes.
"""

from __future__ import annotations

import argparse
import sys

import msgspec

from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import find_edge, guess_edge
from cdnctl.cli import show
from cdnctl.errors import AgentUnreachable, CdnctlError, NotPermitted, UsageError, sudo_line
from cdnctl.model import Arm, Bypass, Detach, Disarm, Outcome, SetMode, Stop

AGENT_TIMEOUT_S = 1.5
"""How long an agent may take to say hello, or what a change would do, before we act without it."""

CHANGE_TIMEOUT_S = 30.0
"""How long one that answered may take for the change itself: detaching waits for drivers and the journal."""

PanicCommand = Disarm | Arm | SetMode | Bypass | Detach | Stop


def run(options: argparse.Namespace, command: PanicCommand) -> int:
    """Do `command`, with the agent or without; returns the exit status."""
    try:
        outcome = _through_agent(options, command)
    except AgentUnreachable as error:
        outcome = _directly(options, command, why=error.message)
    return show.outcome(outcome, options.json)


def _through_agent(options: argparse.Namespace, command: PanicCommand) -> Outcome:
    with Client(find_edge(options.edge), timeout_s=AGENT_TIMEOUT_S) as client:
        if client.role != "operate":
            raise NotPermitted(
                f"this user may only watch edge {client.edge}; this needs root or group cdnctl", sudo_line()
            )
        if _cuts(command) and not command.dry_run:
            plan = client.request(msgspec.structs.replace(command, dry_run=True))
            if not plan.ok:
                return plan
            _confirm(options, plan.text)
        return client.request(command, CHANGE_TIMEOUT_S)


def _directly(options: argparse.Namespace, command: PanicCommand, *, why: str) -> Outcome:
    from cdnctl.agent.process import require_privileges

    edge = guess_edge(options.edge)
    require_privileges()
    from cdnctl.datapath import panic

    if _cuts(command):
        plan = f"edge {edge}: this cuts {panic.live_flows(edge)} translated flows"
        if command.dry_run:
            return Outcome(ok=True, text=plan, warnings=[why])
        _confirm(options, plan)
    elif command.dry_run:
        return Outcome(ok=True, text=f"edge {edge}: would be written into the kernel's maps", warnings=[why])
    match command:
        case Disarm():
            text = panic.disarm(edge)
        case Arm():
            text = panic.arm(edge)
        case SetMode():
            text = panic.observe(edge) if command.mode == "observe" else panic.act(edge)
        case Bypass():
            text = panic.bypass(edge)
        case Detach() | Stop():
            text = panic.detach(edge)
    return Outcome(ok=True, text=text, warnings=[f"{why}; done without it, and not in its journal"])


def _cuts(command: PanicCommand) -> bool:
    if isinstance(command, SetMode):
        return command.mode == "observe"
    return isinstance(command, Bypass | Detach | Stop)


def _confirm(options: argparse.Namespace, plan: str) -> None:
    """Return only on --yes, or on a spelled-out yes at a terminal, after showing what will happen."""
    if options.yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(plan, "nothing was done; say --yes to do it without being asked")
    print(plan, file=sys.stderr)
    print("Go on? Type yes; anything else cancels: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() != "yes":
        raise CdnctlError("cancelled, nothing was done")
