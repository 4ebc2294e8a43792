"""A change, all or nothing: over the kernel's maps, the state on the disk, and the journal.

In this order: the intent goes to the disk; then the kernel has the change, then the state, then the
journal; then the intent goes. What fails before the state has it is rolled back. What is interrupted,
wherever, is found by the next start (`recover`): it rolls back what the state has not, and finishes what
it has. The edge's switches are the exception: they are one word in the kernel, which root may write past
a hung agent, so the kernel's word always holds, and a disk that is full must not keep anybody from
disarming.

A change may need to be confirmed. It is then on the disk as pending before it is in the kernel, and `tick`,
which comes with every frame, reverts it when its time is over: nothing hangs on the session it came from.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec.structs import replace

from cdnctl.engine import objects
from cdnctl.engine.planned import Planned
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor, Change, Outcome, Pending, Revert
from cdnctl.state import StateError
from cdnctl.state.intents import Record, RecordError

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

LONGEST_CONFIRM_S = 86_400.0
AGAIN_S = 5.0
"""A revert that the kernel refused is tried again after so long."""
_TIMER = "the timer"


class Touch(NamedTuple):
    """Who changed something last."""

    revision: int
    at_ns: int
    who: str
    what: str


class Transactions:
    """Those of one engine, one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.pending: Record | None = None
        self.record: Record | None = None
        """Of the change that is being made, until the journal has it."""
        self._due_ns = 0
        """By the monotonic clock: when the pending one reverts."""
        self._trouble = ""
        self._touched: dict[str, Touch] = {}

    # -- one change -------------------------------------------------------------------------------

    def apply(self, command: Change, actor: Actor, cli: str, planned: Planned) -> Outcome:
        """Carry out a plan. Raises CdnctlError, OSError or ValueError; then all is as it was."""
        engine = self._engine
        record = self.begin(command, actor, cli, planned)
        if record is None:
            applied_ns = objects.put(engine, planned.after) if planned.again else 0
            text = planned.idle or planned.done()
            return Outcome(
                ok=True,
                text=text,
                applied_monotonic_ns=applied_ns,
                warnings=planned.warnings,
                state_version=engine.state.revision,
            )
        try:
            applied_ns = objects.put(engine, planned.after if planned.again else record.after)
            warnings = self.store(record, despite_disk=planned.despite_disk)
        except BaseException:
            objects.put_back(engine, record.before)
            self.abandon()
            raise
        return planned.outcome(record.revision, applied_ns, warnings)

    def begin(self, command: Change, actor: Actor, cli: str, planned: Planned) -> Record | None:
        """Check that it may be made, and write the intent; None when there is nothing to change."""
        engine = self._engine
        before = {what: objects.read(engine, what) for what in planned.after}
        after = {what: value for what, value in planned.after.items() if before[what] != value}
        # all that it names: who says again what waits must hear that it waits
        self._check(command, planned, planned.after)
        if not after and not planned.reverts:
            return None
        confirm_s, now_ns = command.confirm_s, time.time_ns()
        record = Record(
            revision=engine.state.revision + 1,
            actor=actor,
            cli=cli,
            text=planned.would,
            command=msgspec.to_builtins(command),
            before={what: before[what] for what in after},
            after=after,
            at_ns=now_ns,
            confirm_s=confirm_s,
            ends_at_ns=now_ns + int(confirm_s * 1e9) if confirm_s else 0,
            reverts=planned.reverts,
            undoes=planned.undoes,
        )
        try:
            engine.store.intent.write(record)
        except RecordError:
            if not planned.despite_disk:
                raise
        self.record = record
        return record

    def store(self, record: Record, *, despite_disk: bool = False) -> list[str]:
        """The kernel has it: keep it, and wait for its confirmation; warnings. Raises StateError."""
        engine = self._engine
        before, engine.state = engine.state, replace(engine.state, revision=record.revision)
        warnings = []
        try:
            if record.confirm_s:
                engine.store.pending.write(record)
            self._save(record)
        except (StateError, RecordError) as error:
            if not despite_disk:
                engine.state = before
                raise
            warnings.append(f"in force, but would not survive a restart: {error}")
        if record.confirm_s:
            self._wait_for(record, record.confirm_s)
        if record.reverts:
            self.pending = None
            if not warnings:  # else it is on the disk still, and is reverted once more by the next start
                self._forget_pending(warnings)
        self._touch(record.after, record.revision, record.actor.user, record.cli)
        return warnings

    def _save(self, record: Record) -> None:
        """Blocks are in one file, all else in the other, and no change is in both."""
        store, revision = self._engine.store, record.revision
        blocks = [what for what in record.after if objects.in_blocks(what)]
        try:
            for what in blocks:
                name = what.partition(" ")[2]
                made = (
                    each for each in self._engine.blocks.wanted.find(name) if each.source == objects.MANUAL
                )
                block = next(made, None)
                if block is None:
                    store.blocks.remove(name, objects.MANUAL, revision)
                else:
                    store.blocks.add(block, revision)
        except OSError as error:
            raise StateError(
                f"cannot write {store.blocks.path}: {error.strerror or error}",
                "make room or mend the directory",
            ) from error
        if len(blocks) < len(record.after):
            store.save(self._engine.state)

    def abandon(self) -> None:
        """What was begun is not made; the kernel is as it was."""
        self.record = None
        engine = self._engine
        try:
            engine.store.intent.clear()
            if self.pending is None and engine.store.pending.path.exists():
                engine.store.pending.clear()  # it was written for what is not made
        except RecordError as error:  # what is left says what was; the next start sees that it is so
            engine.tell("warning", str(error), "warning")

    def settle(self) -> None:
        """The journal has it, too."""
        if self.record is None:
            return
        self.record = None
        try:
            self._engine.store.intent.clear()
        except RecordError as error:  # it is found again, and found to be finished
            self._engine.tell("warning", str(error), "warning")

    # -- who may ----------------------------------------------------------------------------------

    def _check(self, command: Change, planned: Planned, after: Collection[str]) -> None:
        if not 0 <= command.confirm_s <= LONGEST_CONFIRM_S:
            raise CdnctlError(
                f"{command.confirm_s:g} s to confirm it",
                f"from 1 to {LONGEST_CONFIRM_S:g}; 0 for a change that stays",
            )
        if command.expect is not None:
            self._check_expected(command.expect, after)
        waiting = self.pending
        if waiting is None or planned.reverts or planned.despite_disk:
            return  # panic does not wait itself then: see `planned.unwaiting`
        if planned.risk or command.confirm_s or waiting.after.keys() & set(after):
            raise self._is_waiting(waiting)

    def _is_waiting(self, waiting: Record) -> CdnctlError:
        return CdnctlError(
            f"refused: what {waiting.actor.user} did waits to be confirmed for {self.left_s:.0f} s more:"
            f" {waiting.cli}",
            "`cdnctl confirm` keeps it, `cdnctl revert` takes it back; then try again",
        )

    def _check_expected(self, version: int, after: Collection[str]) -> None:
        now = self._engine.state.revision
        if version > now:
            raise CdnctlError(
                f"this was planned on version {version} of the state, and it has {now}", "look again"
            )
        for what in after:
            touch = self._touched.get(what)
            if touch is not None and touch.revision > version:
                age_s = max(0.0, (time.time_ns() - touch.at_ns) / 1e9)
                raise CdnctlError(
                    f"refused: {objects.words(what)} has changed since this was planned:"
                    f" {touch.who}, {age_s:.0f} s ago: {touch.what}",
                    "look at what it is now, and decide anew",
                )

    def last_touch(self, what: str) -> Touch | None:
        """Who changed it last, if that is known."""
        return self._touched.get(what)

    def _touch(self, after: Collection[str], revision: int, who: str, what: str, at_ns: int = 0) -> None:
        touch = Touch(revision, at_ns or time.time_ns(), who, what)
        self._touched.update(dict.fromkeys(after, touch))

    def past_agent(self, after: Mapping[str, Any]) -> None:
        """Somebody has switched the kernel by hand: the state follows."""
        engine = self._engine
        engine.state = replace(objects.with_values(engine.state, after), revision=engine.state.revision + 1)
        self._touch(after, engine.state.revision, "root", "past the agent")
        try:
            engine.store.save(engine.state)
        except StateError as error:
            engine.tell("warning", str(error), "warning")

    # -- what waits ---------------------------------------------------------------------------------

    @property
    def left_s(self) -> float:
        """Seconds until the pending change reverts."""
        return max(0.0, (self._due_ns - time.monotonic_ns()) / 1e9)

    def picture(self) -> Pending | None:
        """The pending change, for a frame."""
        if self.pending is None:
            return None
        waiting = self.pending
        return Pending(
            revision=waiting.revision,
            what=waiting.text,
            by=waiting.actor.user,
            cli=waiting.cli,
            at_ns=waiting.at_ns,
            ends_at_ns=waiting.ends_at_ns,
            left_s=self.left_s,
            trouble=self._trouble,
        )

    def confirm(self) -> Record:
        """Keep the pending change; it, as it was. Raises CdnctlError."""
        if self.pending is None:
            raise CdnctlError("nothing waits to be confirmed", "`cdnctl status` shows it when something does")
        self._engine.store.pending.clear()
        kept, self.pending = self.pending, None
        return kept

    def _wait_for(self, record: Record, left_s: float) -> None:
        self.pending, self._trouble = record, ""
        self._due_ns = time.monotonic_ns() + int(left_s * 1e9)

    def _forget_pending(self, warnings: list[str]) -> None:
        try:
            self._engine.store.pending.clear()
        except RecordError as error:
            warnings.append(f"{error}: the next start would revert it once more")

    def tick(self) -> None:
        """Revert what was not confirmed in time."""
        if self.pending is None or time.monotonic_ns() < self._due_ns:
            return
        engine = self._engine
        actor = Actor(user=_TIMER, uid=os.geteuid(), pid=os.getpid(), client="agent")
        command = Revert(reason="not confirmed in time")
        self._due_ns = time.monotonic_ns() + int(AGAIN_S * 1e9)
        if objects.CONFIG not in self.pending.before:
            self._note(engine.execute(command, actor))
            return

        async def reload() -> None:
            self._note(await engine.reload(command, actor))

        self._task = asyncio.get_running_loop().create_task(reload())

    def _note(self, outcome: Outcome) -> None:
        self._trouble = "" if outcome.ok else outcome.text

    # -- after a start --------------------------------------------------------------------------------

    def recover(self) -> None:
        """Finish or roll back what was interrupted; go on waiting, or revert what is overdue."""
        engine = self._engine
        for entry in engine.journal.recent():
            if entry.ok and entry.changes:
                at_ns = int(entry.at_ns)
                self._touch(entry.changes, entry.revision, entry.user, entry.cli or entry.text, at_ns)
        self._recover_intent()
        waiting = engine.store.pending.read()
        if engine.store.pending.warning:
            engine.tell("warning", engine.store.pending.warning, "warning")
        if waiting is None:
            return
        if waiting.revision > engine.state.revision and objects.CONFIG not in waiting.before:
            # it never came into force; of a configuration, the file that it is in did
            engine.store.pending.clear()
            return
        self._wait_for(waiting, min((waiting.ends_at_ns - time.time_ns()) / 1e9, waiting.confirm_s))
        engine.tell("note", f"waits to be confirmed, {self.left_s:.0f} s more: {waiting.cli}", "notice")
        if objects.CONFIG not in waiting.before:
            self.tick()  # else the first frame, when there is a loop

    def _recover_intent(self) -> None:
        engine = self._engine
        record = engine.store.intent.read()
        if engine.store.intent.warning:
            engine.tell("warning", engine.store.intent.warning, "warning")
        if record is None:
            return
        in_state = record.revision <= engine.state.revision
        switched = {what: objects.read(engine, what) for what in record.after if what.startswith("switch ")}
        if not in_state:
            before = {what: value for what, value in record.before.items() if what not in switched}
            for said in objects.put_back(engine, before):
                engine.tell("warning", f"cannot take back {record.cli}: {said}", "warning")
            if any(switched[what] == record.after[what] for what in switched):
                self.past_agent(switched)  # the kernel had it, and its word holds
                in_state = True
        journaled = any(entry.revision == record.revision and entry.ok for entry in engine.journal.recent())
        if in_state and record.confirm_s and not journaled:
            engine.store.pending.write(record)
        if in_state and record.reverts:
            engine.store.pending.clear()
        text = f"{'finished' if in_state else 'taken back'}, for the agent died meanwhile: {record.cli}"
        if not journaled:
            engine.journal_of(record, Outcome(ok=in_state, text=text))
            engine.tell("command", f"{record.actor.user}: {text}", "notice")
        engine.store.intent.clear()
