"""What `:` needs of the command line's grammar, which the command line itself provides.

The console knows no verbs of its own: whoever starts it hands over a `Grammar`, made from the very parser
that reads a shell's words. So `:` takes what a shell does, but for programs of their own, and says the same
of mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cdnctl.model import AnyCommand, Frame

ELSEWHERE = frozenset({"agent", "demo", "init", ""})
"""Verbs that are programs of their own, for a shell."""


@dataclass(frozen=True)
class Spoken:
    """A command line that was understood."""

    verb: str
    words: tuple[str, ...]
    """All of it, the verb first."""
    command: AnyCommand | None = None
    """What the agent is asked; None for what the command line does by itself."""
    names_edge: bool = True
    """Takes `--edge`."""


class Grammar(Protocol):
    """The command line's verbs and options."""

    def parse(self, line: str) -> Spoken:
        """Read one line, and the files that it sends. Raises CdnctlError, whose text is for the operator."""

    def changes(self, line: str) -> bool:
        """Whether it asks for a change of the edge; reads no file, and says nothing of mistakes."""

    def complete(self, line: str, frame: Frame | None) -> Sequence[str]:
        """What the last word of the line may become, from the verbs, options and names in the frame."""

    def help(self, line: str) -> str:
        """One line on the verb that the line begins with; empty when it is none."""


class NoGrammar:
    """For a console that was not started by the command line."""

    def parse(self, line: str) -> Spoken:
        """Nothing is understood."""
        from cdnctl.errors import UsageError

        raise UsageError(f"'{line.split()[0]}': this console was started without a command line")

    def changes(self, line: str) -> bool:
        """Nothing is understood."""
        return False

    def complete(self, line: str, frame: Frame | None) -> Sequence[str]:
        """Nothing is known."""
        return ()

    def help(self, line: str) -> str:
        """Nothing is known."""
        return ""
