"""What each verb does: one request to the agent, and its answer shown."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import cast

from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import config_of, edge_of_config, find_edge, named_edge, start_of
from cdnctl.cli import pages, panic, show, taking_back
from cdnctl.cli.commands import change_of
from cdnctl.errors import CdnctlError, NoAgent, UsageError
from cdnctl.model import (
    AnyCommand,
    GetFrame,
    GetMetrics,
    ListCustomers,
    Outcome,
    Who,
)

ATTACH_TIMEOUT_S = 30.0
"""Attaching may have to wait for a driver to reset its queues."""


def console(options: argparse.Namespace) -> int:
    """The full-screen console, with an agent started for it when none runs."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the console needs a terminal", "`cdnctl status` answers without one, `--help` lists all"
        )
    from cdnctl.cli import first

    if first.nothing_is_here(options):
        from cdnctl.cli import main

        return first.offer(main)
    from cdnctl.cli.spoken import CommandLine
    from cdnctl.console.app import check, run

    check(options.theme)  # a console that cannot be shown must leave no agent behind
    path = _agent_to_watch(options) if options.read_only else _agent_for(options)
    return run(
        path.stem, read_only=options.read_only, theme=options.theme, socket=path, grammar=CommandLine()
    )


def agent(options: argparse.Namespace) -> int:
    """Be the agent."""
    from cdnctl.agent.main import run

    if options.no_cache:
        os.environ["CDNCTL_NO_CACHE"] = "1"
    return run(
        options.config,
        netns=options.netns,
        detach_on_exit=options.detach_on_exit,
        log_style=options.log,
    )


def status(options: argparse.Namespace) -> int:
    """The newest frame, a numbered one, or all from now on."""
    if options.watch:
        return _watch(options)
    outcome = _ask(options, GetFrame(seq=options.frame))
    if outcome.frame is None:
        return show.outcome(outcome, options.json)
    show.frame(outcome.frame, options.json)
    return 0


def metrics(options: argparse.Namespace) -> int:
    """What Prometheus is told, once."""
    outcome = _ask(options, GetMetrics())
    if outcome.metrics is None:
        return show.outcome(outcome, options.json)
    if options.json:
        show.print_json({"metrics": outcome.metrics})
    else:
        sys.stdout.write(outcome.metrics)
    return 0


def journal(options: argparse.Namespace) -> int:
    """Who changed what."""
    from cdnctl.cli.journal import run

    return run(options)


def report(options: argparse.Namespace) -> int:
    """All that is known of an incident, in one file."""
    from cdnctl.cli.report import run

    return run(options)


def blocks(options: argparse.Namespace) -> int:
    """All wanted blocks."""
    with Client(find_edge(options.edge)) as client:
        outcome = pages.blocks(client.request)
    if outcome.blocks is None:
        return show.outcome(outcome, options.json)
    show.blocks(outcome.blocks, options.json)
    show.warnings(outcome)
    return 0


def who(options: argparse.Namespace) -> int:
    """Who is connected."""
    outcome = _ask(options, Who())
    if outcome.watchers is None:
        return show.outcome(outcome, options.json)
    show.watchers(outcome.watchers, options.json)
    return 0


def reload(options: argparse.Namespace) -> int:
    """Have the agent read its configuration again."""
    return taking_back.change(options, change_of(options), taking_back.SLOW_S)


def block(options: argparse.Namespace) -> int:
    """Block a prefix, or all of a file."""
    if options.file is not None and options.prefix is None:
        from cdnctl.cli.block_list import run

        return run(options)
    return taking_back.change(options, change_of(options))


def unblock(options: argparse.Namespace) -> int:
    """Lift a manual block."""
    return taking_back.change(options, change_of(options))


def weight(options: argparse.Namespace) -> int:
    """Set wanted weights."""
    return taking_back.change(options, change_of(options))


def drain(options: argparse.Namespace) -> int:
    """Drain a CDN."""
    return taking_back.change(options, change_of(options))


def undrain(options: argparse.Namespace) -> int:
    """Undrain a CDN."""
    return taking_back.change(options, change_of(options))


def customers(options: argparse.Namespace) -> int:
    """All customers, and who is allowed."""
    outcome = _ask(options, ListCustomers())
    if outcome.customers is None:
        return show.outcome(outcome, options.json)
    show.customers(outcome.customers, outcome.allowed or [], options.json)
    return 0


def limit(options: argparse.Namespace) -> int:
    """Set a customer's limits, or clear them."""
    return taking_back.change(options, change_of(options))


def allow(options: argparse.Namespace) -> int:
    """Neither block nor limit a prefix."""
    return taking_back.change(options, change_of(options))


def disallow(options: argparse.Namespace) -> int:
    """Take that back."""
    return taking_back.change(options, change_of(options))


def mode(options: argparse.Namespace) -> int:
    """Act, or only observe, after saying what that cuts."""
    return panic.run(options, cast(panic.PanicCommand, change_of(options)))


def attach(options: argparse.Namespace) -> int:
    """Attach; with no agent, start one: that attaches."""
    path = _running_agent(options)
    if path is None and options.dry_run:
        return show.outcome(Outcome(ok=True, text="would start an agent, and attach"), options.json)
    with Client(path or _agent_for(options)) as client:
        taking_back.require_operator(client)
        return show.outcome(client.request(change_of(options), ATTACH_TIMEOUT_S), options.json)


def detach(options: argparse.Namespace) -> int:
    """Take the data path off, after saying what that cuts."""
    return panic.run(options, cast(panic.PanicCommand, change_of(options)))


def bypass(options: argparse.Namespace) -> int:
    """Pass everything untouched, after saying what that cuts."""
    return panic.run(options, cast(panic.PanicCommand, change_of(options)))


def disarm(options: argparse.Namespace) -> int:
    """Stop dropping and ejecting."""
    return panic.run(options, cast(panic.PanicCommand, change_of(options)))


def arm(options: argparse.Namespace) -> int:
    """Back from disarm or bypass."""
    return panic.run(options, cast(panic.PanicCommand, change_of(options)))


def init(options: argparse.Namespace) -> int:
    """Make a configuration."""
    from cdnctl.cli.init import run

    return run(options)


def check(options: argparse.Namespace) -> int:
    """Look at a configuration."""
    from cdnctl.cli.check import run

    return run(options)


def record(options: argparse.Namespace) -> int:
    """Begin or end a recording."""
    return _plain(options)


def mark(options: argparse.Namespace) -> int:
    """Set a mark."""
    return _plain(options)


def trace(options: argparse.Namespace) -> int:
    """What would become of a packet; or what becomes of real ones."""
    from cdnctl.cli.trace import run

    return run(options)


def doctor(options: argparse.Namespace) -> int:
    """Look at the box."""
    from cdnctl.cli.doctor import run

    return run(options)


def unit(options: argparse.Namespace) -> int:
    """The systemd unit."""
    from cdnctl.cli.unit import run

    return run(options)


def feed(options: argparse.Namespace) -> int:
    """Look at a list from outside."""
    from cdnctl.cli.feed import run

    return run(options)


def simulate(options: argparse.Namespace) -> int:
    """Compare policies on recorded traffic."""
    from cdnctl.cli.simulate import run

    return run(options)


def _running_agent(options: argparse.Namespace) -> Path | None:
    """The socket of the agent meant, if it runs and answers."""
    if options.config is not None:
        return None  # which edge that is stands in the file
    try:
        path = find_edge(options.edge)
        Client(path).close()
    except NoAgent:
        return None
    return path


def _agent_to_watch(options: argparse.Namespace) -> Path:
    """The socket of the agent meant; raises NoAgent when it does not run, for watching starts none."""
    edge = options.edge
    if options.config is not None and not (edge := edge_of_config(options.config)):
        raise CdnctlError(f"{options.config}: names no edge", f"`cdnctl check -c {options.config}` says why")
    path = find_edge(edge)
    Client(path).close()
    return path


def _agent_for(options: argparse.Namespace) -> Path:
    """The socket of the agent meant, started if need be."""
    if path := _running_agent(options):
        return path
    from cdnctl.agent.start import ensure_agent

    wanted = named_edge(options.edge)
    file = options.config or config_of(wanted)
    found = edge_of_config(file)
    if wanted and found and wanted != found:
        raise CdnctlError(
            f"no agent serves edge {wanted}, and {file} is that of edge {found}",
            f"name the configuration of {wanted}: -c FILE",
        )
    before = start_of(found) if found and options.config is None else None
    return ensure_agent(file, options.netns or (before.netns if before else None))


def _watch(options: argparse.Namespace) -> int:
    with Client(find_edge(options.edge), frames=True) as client:
        for frame in client.frames():
            show.frame_again(frame, options.json)
    return 0


def _ask(options: argparse.Namespace, command: AnyCommand) -> Outcome:
    with Client(find_edge(options.edge)) as client:
        return client.request(command)


def _plain(options: argparse.Namespace) -> int:
    """A change that nothing could be taken back of."""
    with Client(find_edge(options.edge)) as client:
        taking_back.require_operator(client)
        return show.outcome(client.request(change_of(options)), options.json)
