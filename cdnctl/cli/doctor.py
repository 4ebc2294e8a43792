"""`cdnctl doctor`: looks at the box, and says what keeps packets from going their way, with the remedy.

Exit status: 0 when nothing fails, 1 when something does. Without root it says what it could not look at.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from cdnctl import paths
from cdnctl.agent import process
from cdnctl.agent.edge import config_of, edge_of_config, guess_edge, named_edge
from cdnctl.cli import show
from cdnctl.cli.grid import print_rows
from cdnctl.cli.held_back import held_back
from cdnctl.errors import AgentRefused, AgentSilent, AgentUnreachable, NotPermitted, UsageError, sudo_line

if TYPE_CHECKING:
    from cdnctl.cli.place import Place
    from cdnctl.config import Config
    from cdnctl.engine.doctor import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "cyan"}
_AGENT_TIMEOUT_S = 1.5


class Report(Struct, kw_only=True):
    """What was found; what `--json` prints."""

    ok: bool
    edge: str
    findings: list[Finding]
    unseen: list[str] = field(default_factory=list)


def run(options: argparse.Namespace) -> int:
    """Look and report."""
    report = examine(options)
    if options.json:
        show.print_json(report)
    else:
        _show(report)
    return 0 if report.ok else 1


def examine(options: argparse.Namespace) -> Report:
    """Everything about the edge that is meant, or about the box alone when none is."""
    from cdnctl.config import ConfigError, load
    from cdnctl.datapath import elsewhere, inspect
    from cdnctl.engine import doctor

    edge = _edge(options)
    file = options.config or config_of(edge)
    config: Config | None = None
    findings: list[Finding] = []
    try:
        config = load(file)
    except ConfigError as error:
        check = f"cdnctl check -c {file}"
        findings += [doctor.Finding("fail", "configuration", str(each), check) for each in error.problems]
    if config and edge and config.edge.name != edge:
        text = f"{file} is that of edge {config.edge.name}, not of {edge}"
        findings.append(doctor.Finding("fail", "configuration", text, "name the right one: -c FILE"))
        config = None
    edge = edge or (config.edge.name if config else "")
    if config:
        findings.append(doctor.Finding("ok", "configuration", f"{file} is in order"))
    there = _go_there(options, edge)
    answers, silence, barred = _agent(edge) if edge else (False, "", "")
    if config and (held := held_back(edge, file, asks=answers and not barred)):
        findings.append(doctor.Finding("warn", "configuration", held.text, held.remedy))
    box = inspect.look(edge, config, agent=answers, elsewhere=there.unseen)
    where = elsewhere.shown(there.moved_to) if there.moved_to else ""
    judged = doctor.judge(replace(box, silence=silence, where=where), config)
    if barred:  # whether it answers is for others to find out
        judged = [each for each in judged if each.what != "agent"]
        judged.append(doctor.Finding("unknown", "agent", barred, sudo_line()))
    findings += judged
    return Report(
        ok=not any(each.level == "fail" for each in findings),
        edge=edge,
        findings=findings,
        unseen=list(box.unseen),
    )


def _edge(options: argparse.Namespace) -> str:
    if options.config is not None and not options.edge:
        return edge_of_config(options.config)
    if found := named_edge(options.edge) or edge_of_config(paths.config_path()):
        return found
    with contextlib.suppress(UsageError):
        return guess_edge(options.edge)
    return ""


def _go_there(options: argparse.Namespace, edge: str) -> Place:
    from cdnctl.cli import place

    if edge:
        return place.go_to(edge, options.netns)
    if options.netns:
        process.enter_netns(options.netns)
    return place.Place()


def _agent(edge: str) -> tuple[bool, str, str]:
    """Whether one answers; what to do about one that is there and does not; why this user cannot know."""
    from cdnctl.agent.blocking import Client

    try:
        Client(paths.socket_path(edge), timeout_s=_AGENT_TIMEOUT_S).close()
    except NotPermitted as error:
        return True, "", error.message
    except AgentRefused:
        return True, "", ""
    except AgentUnreachable as error:
        return False, error.remedy if isinstance(error, AgentSilent) else "", ""
    return True, "", ""


def _show(report: Report) -> None:
    rows: list[list[tuple[str, str]]] = []
    for each in report.findings:
        rows.append([(each.level, _STYLES[each.level]), (each.what, "bold"), (each.text, "")])
        if each.remedy:
            rows.append([("", ""), ("", ""), (each.remedy, "cyan")])
    print_rows(rows)
    for text in report.unseen:
        print(f"not looked at: {text}")
    if report.unseen and os.geteuid() != 0:
        print(f"  {sudo_line()}")
    counts = Counter(each.level for each in report.findings)
    said = [f"{counts[level]} {level}" for level in ("fail", "warn", "unknown", "ok") if counts[level]]
    print(f"{f'edge {report.edge}' if report.edge else 'this box'}: {', '.join(said)}")
