"""A plan: what a command would change, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from cdnctl.engine.objects import Values
from cdnctl.errors import CdnctlError
from cdnctl.model import AnyCommand, Change, Outcome
from cdnctl.state.intents import Record


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a command comes to."""

    after: Values
    """By object, what it shall be; those that are so already are left out of what is done."""
    would: str
    """The whole sentence of a dry run."""
    done: Callable[[], str]
    """The sentence for when it is in force: asked then, for it may have counted something."""
    shares: dict[str, float] | None = None
    service_shares: dict[str, dict[str, float]] | None = None
    warnings: list[str] = field(default_factory=list)
    risk: str = ""
    """Why it should be confirmed."""
    again: bool = False
    """Put it into the kernel also where it is so already: somebody may have taken it out."""
    despite_disk: bool = False
    """Panic: in force also when it cannot be stored."""
    reverts: int = 0
    """The revision of the pending change that it takes back."""
    keeps: int = 0
    """The revision of the pending change that it confirms."""
    undoes: list[int] = field(default_factory=list)
    """Lines of the journal that it takes back."""
    bears_on: list[str] = field(default_factory=list)
    """Objects that mean something else with it, as a drain where the CDN's configured weight is another."""
    idle: str = ""
    """What to say when nothing is different afterwards; else `done` is said."""

    def preview(self, version: int) -> Outcome:
        """The answer to a dry run."""
        return Outcome(
            ok=True,
            text=self.would,
            shares=self.shares,
            service_shares=self.service_shares,
            warnings=self.warnings,
            risk=self.risk,
            state_version=version,
        )

    def outcome(self, version: int, applied_ns: int, warnings: list[str]) -> Outcome:
        """The answer when it is in force."""
        text, uncounted = self.said()
        return Outcome(
            ok=True,
            text=text,
            applied_monotonic_ns=applied_ns,
            shares=self.shares,
            service_shares=self.service_shares,
            warnings=[*self.warnings, *warnings, *uncounted],
            state_version=version,
        )

    def said(self) -> tuple[str, list[str]]:
        """What is done, and warnings: what cannot be counted afterwards is in force all the same."""
        try:
            return self.done(), []
        except (CdnctlError, OSError) as error:
            text = f"done: {self.would.removeprefix('would ')}"
            return text, [f"in force, but what it came to cannot be counted: {error}"]


def unwaiting(command: AnyCommand, planned: Planned, waiting: Record | None) -> tuple[AnyCommand, Planned]:
    """Panic goes through while another change waits to be confirmed, and then stays: one waits at a time."""
    if waiting is None or planned.reverts or not planned.despite_disk or not isinstance(command, Change):
        return command, planned
    if not command.confirm_s and not (command.dry_run and planned.risk):
        return command, planned
    warning = (
        f"it stays until somebody takes it back: one change waits to be confirmed at a time, and"
        f" {waiting.actor.user}'s does: {waiting.cli}"
    )
    planned = replace(planned, risk="", warnings=[*planned.warnings, warning])
    return msgspec.structs.replace(command, confirm_s=0.0), planned
