"""What the server says of commands: why one is not even tried, and what the log has of it and of events."""

from __future__ import annotations

import asyncio
import logging

from msgspec.structs import replace

from cdnctl.agent import logs
from cdnctl.engine.journal import Journal
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor, AnyCommand, Change, Diff, Event, ListPart, Outcome, Record, StopRecording
from cdnctl.model.lines import command_line
from cdnctl.paths import journal_path

TEXT_LIMIT = 300
"""Characters of any text in a command (a reason, a note)."""
NAMES_LIMIT = 1024
"""Entries of any mapping in a command (weights by CDN)."""
ONLY_OPERATORS_ASK = (
    "`diff` reads every table while frames and commands wait: it needs root or a member of group cdnctl"
)
ONLY_WATCHES = "the view socket takes no command; a change needs root or a member of group cdnctl"

_LEVELS = {"info": logging.INFO, "notice": logging.INFO, "warning": logging.WARNING, "alarm": logging.ERROR}

log = logging.getLogger("cdnctl.agent")


def refusal(command: AnyCommand, actor: Actor) -> str:
    """Why this command is not even tried, or nothing."""
    if isinstance(command, Change) and actor.role != "operate":
        return ONLY_WATCHES
    if isinstance(command, Diff) and actor.role != "operate":
        return ONLY_OPERATORS_ASK
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if isinstance(value, str) and (len(value) > TEXT_LIMIT or not value.isprintable()):
            return f"{name}: at most {TEXT_LIMIT} printable characters, on one line"
        if isinstance(value, dict) and len(value) > NAMES_LIMIT:
            return f"{name}: at most {NAMES_LIMIT} entries"
        if isinstance(value, dict) and any(len(key) > TEXT_LIMIT for key in value):
            return f"{name}: names of at most {TEXT_LIMIT} characters"
    return ""


def failure(error: Exception, command: AnyCommand, actor: Actor) -> Outcome:
    """Trouble in the engine, as an answer."""
    if isinstance(error, CdnctlError):
        return Outcome(ok=False, text=str(error), remedy=error.remedy)
    verb = type(command).__name__
    log.error("internal error in %s by %s", verb, actor.user, exc_info=error, extra=logs.fields(verb=verb))
    text = f"internal error: {type(error).__name__}: {error}; the agent's log has the details"
    return Outcome(ok=False, text=text)


def journaled(edge: str, command: Record | StopRecording, actor: Actor, outcome: Outcome) -> Outcome:
    """In the journal: who recorded an edge, and where to, is asked when it is about who saw what."""
    try:
        Journal(journal_path(edge)).append(actor, command, outcome, cli=command_line(command))
    except OSError as error:
        warning = f"done, but not in the journal: {error.strerror}"
        return replace(outcome, warnings=[*outcome.warnings, warning])
    return outcome


def noted(command: AnyCommand, actor: Actor, outcome: Outcome) -> Outcome:
    """In the log, if it was to change something."""
    if isinstance(command, Change) and not (isinstance(command, ListPart) and outcome.ok):
        done = "planned" if command.dry_run else "done"
        said = logs.fields(
            user=actor.user,
            uid=actor.uid,
            pid=actor.pid,
            client=actor.client,
            verb=command.__struct_config__.tag,
            outcome=done if outcome.ok else "refused",
        )
        level = logging.INFO if outcome.ok else logging.WARNING
        log.log(level, "%s", outcome.text.partition("\n")[0], extra=said)
    return outcome


def log_warnings(reload: asyncio.Task[Outcome]) -> None:
    """Of one that nobody waits for."""
    for line in () if reload.cancelled() else reload.result().warnings:
        log.warning("%s", line)


def log_event(event: Event) -> None:
    """An event of the engine's."""
    if event.kind == "command" and event.severity == "notice":
        return  # whoever gave it is in the log with its outcome
    where = f" [{event.cdn}]" if event.cdn else ""
    said = logs.fields(event=event.kind, **({"cdn": event.cdn} if event.cdn else {}))
    log.log(_LEVELS[event.severity], "%s%s: %s", event.kind, where, event.text, extra=said)
