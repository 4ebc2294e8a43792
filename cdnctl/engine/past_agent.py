"""Switches that root threw past the agent: in the kernel's own word, while the agent hung or was dead.

The kernel's word holds: the state follows, and the journal gets the line that nobody else could write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from cdnctl.datapath import abi
from cdnctl.engine import objects
from cdnctl.model import Actor, AnyCommand, Arm, Disarm, JournalEntry, Outcome, SetMode
from cdnctl.model.lines import command_line
from cdnctl.state.intents import Record

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine
    from cdnctl.engine.transactions import Transactions

ACTOR = Actor(user="root", uid=0, pid=0, client="past the agent")
_COMMANDS: dict[tuple[str, Any], AnyCommand] = {
    (objects.switch("armed"), True): Arm(),
    (objects.switch("armed"), False): Disarm(),
    (objects.switch("observing"), True): SetMode(mode="observe"),
    (objects.switch("observing"), False): SetMode(mode="active"),
}


class PastAgent:
    """Of one engine."""

    def __init__(self, engine: Engine, transactions: Transactions) -> None:
        self._engine = engine
        self._transactions = transactions
        self._taken_over: dict[str, tuple[Any, Any]] = {}

    def found(self, now: Mapping[str, Any]) -> None:
        """Somebody has switched the kernel by hand: the state follows, and the journal says so."""
        state = self._engine.state
        before = {what: objects.of_state(state, what) for what in now}
        self._note({what: (before[what], now[what]) for what in now if before[what] != now[what]})

    def _note(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        """The same for switches whose values before and now are known, one line each."""
        engine = self._engine
        for what, (before, now) in changes.items():
            self.follow({what: now})
            command = _COMMANDS[what, now]
            done = command.mode if isinstance(command, SetMode) else "armed" if now else "disarmed"
            text = f"the edge was {'set to ' * isinstance(command, SetMode)}{done} past the agent"
            record = Record(
                revision=engine.state.revision,
                actor=ACTOR,
                cli=command_line(command),
                text=text,
                command=msgspec.to_builtins(command),
                before={what: before},
                after={what: now},
            )
            engine.tell("command", text, "warning")
            try:
                self._transactions.journal_of(record, Outcome(ok=True, text=text))
            except OSError as error:
                engine.tell("warning", f"that is not in the journal: {error}", "warning")

    def take_over(self, mode: abi.Mode) -> None:
        """At a start: the state has what the kernel has; what is different is noted when all is up."""
        engine = self._engine
        now = objects.switches_of(mode)
        before = {what: objects.of_state(engine.state, what) for what in now}
        self._taken_over = {what: (before[what], now[what]) for what in now if before[what] != now[what]}
        engine.state = objects.with_values(engine.state, now)

    def note(self, entries: Sequence[JournalEntry]) -> None:
        """What was switched while no agent ran, unless the journal has it: the state had no room then."""
        last = {what: entry.changes[what][1] for entry in entries if entry.ok for what in entry.changes}
        changes, self._taken_over = self._taken_over, {}
        self._note({what: each for what, each in changes.items() if last.get(what) != each[1]})

    def follow(self, now: Mapping[str, Any]) -> None:
        """The state has what the kernel has, and it is known why."""
        engine = self._engine
        self._taken_over = {what: each for what, each in self._taken_over.items() if what not in now}
        engine.state = replace(objects.with_values(engine.state, now), revision=engine.state.revision + 1)
        self._transactions.touch(now, engine.state.revision, ACTOR.user, ACTOR.client)
        self._transactions.save()
