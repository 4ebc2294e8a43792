"""The verbs of last resort: `disarm`, `arm`, `mode`, `bypass`, `detach`.

They ask the agent, and when it is stopped or hangs they write the kernel's maps themselves, as root.
Those that cut flows say first how many, and are done only on a yes.
"""

from __future__ import annotations

import argparse
import os
import sys

import msgspec

from cdnctl import paths
from cdnctl.agent import ending
from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import find_edge, guess_edge
from cdnctl.cli import show, taking_back
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
        plan: Outcome | None = None
        if (_cuts(command) or isinstance(command, SetMode)) and not command.dry_run:
            plan = client.request(msgspec.structs.replace(command, dry_run=True))
            if not plan.ok:
                return plan
            if _cuts(command):
                _confirm(options, "\n".join((plan.text, *plan.warnings)))
        if not isinstance(command, Stop):
            command = taking_back.confirming(options, command, lambda: plan)
        outcome = client.request(command, CHANGE_TIMEOUT_S)
        if not (isinstance(command, Stop) and outcome.ok) or command.dry_run:
            return outcome
        return msgspec.structs.replace(
            outcome, text=f"{outcome.text}; {_end(client.edge) or 'its agent has ended'}"
        )


def _directly(options: argparse.Namespace, command: PanicCommand, *, why: str) -> Outcome:
    from cdnctl.agent.process import require_privileges

    edge = guess_edge(options.edge)
    require_privileges()
    from cdnctl.datapath import panic

    if options.confirm:
        raise CdnctlError(
            f"{why}: without an agent nothing would revert it",
            "leave out --confirm, or start the agent first",
        )
    if isinstance(command, Stop):
        return _stop_directly(options, command, edge, why)
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
        case Detach():
            text = panic.detach(edge)
    return Outcome(ok=True, text=text, warnings=[_without(why)])


def _stop_directly(options: argparse.Namespace, command: Stop, edge: str, why: str) -> Outcome:
    """Take the data path off, if it is there, and only then end the agent, if that is: traffic first."""
    from cdnctl.datapath import panic

    is_loaded, pid = paths.pin_dir(edge).is_dir(), ending.holder(edge)
    if not (is_loaded or pid):
        ending.clear(edge)
        raise CdnctlError(f"edge {edge} has neither a data path nor an agent here", "nothing is to be done")
    plan = f"this cuts {panic.live_flows(edge)} translated flows" if is_loaded else "no data path is loaded"
    plan = f"edge {edge}: {plan}" + (f", and its agent (pid {pid}) is ended" if pid else "")
    if command.dry_run:
        return Outcome(ok=True, text=plan, warnings=[why])
    _confirm(options, plan)
    text = panic.detach(edge) if is_loaded else f"{edge}: no data path was loaded"
    went = _end(edge, patience_s=0.0) or "no agent was running"
    return Outcome(ok=True, text=f"{text}; {went}", warnings=[_without(why)])


def _end(edge: str, patience_s: float = ending.TOLD_S) -> str:
    """See that neither agent nor data path are left; how the agent went, if there was one."""
    went = ending.end(edge, patience_s=patience_s)
    if os.geteuid() == 0:
        ending.clear(edge)
        if paths.pin_dir(edge).is_dir():
            from cdnctl.datapath import panic

            panic.detach(edge)
    return went


def _without(why: str) -> str:
    return f"{why}; done without it, and not in its journal"


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
