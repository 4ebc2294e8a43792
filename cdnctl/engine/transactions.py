"""A change, all or nothing: over the kernel's maps, the state on the disk, and the journal.

In this order: the intent goes to the disk; then the kernel has the change, then the state, then the
journal; then the intent goes. What fails before the state has it is rolled back. What is interrupted,
wherever, is found by the next start (recovery.py): it rolls back what the state has not, and finishes what
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
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from cdnctl.engine import objects
from cdnctl.engine.past_agent import PastAgent
from cdnctl.engine.planned import Planned
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor, Change, Outcome, Pending, Revert
from cdnctl.model.lines import duration
from cdnctl.state import StateError
from cdnctl.state.intents import Record, RecordError

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

LONGEST_CONFIRM_S = 86_400.0
AGAIN_S, SELDOM_S = 5.0, 300.0
"""A revert that the kernel refused is tried again after so long: first, and at last."""
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
        self._again_s = AGAIN_S
        self._trouble = ""
        self._owed: tuple[Record, Outcome] | None = None
        self.past = PastAgent(engine, self)
        self._touched: dict[str, Touch] = {}

    # -- one change -------------------------------------------------------------------------------

    def apply(self, command: Change, actor: Actor, cli: str, planned: Planned) -> Outcome:
        """Carry out a plan. Raises CdnctlError, OSError or ValueError; then all is as it was."""
        engine = self._engine
        if planned.keeps:
            if command.expect is not None and planned.keeps > command.expect:
                raise CdnctlError(
                    "refused: another change waits since this was planned:"
                    f" {planned.would.removeprefix('would keep: ')}",
                    "look at what waits now, and decide anew",
                )
            return self._keep(command, actor, cli, planned)
        record = self.begin(command, actor, cli, planned)
        if record is None:
            applied_ns = objects.put(engine, planned.after) if planned.again else 0
            text, warnings = (planned.idle, []) if planned.idle else planned.said()
            return Outcome(
                ok=True,
                text=text,
                applied_monotonic_ns=applied_ns,
                warnings=[*planned.warnings, *warnings],
                state_version=engine.state.revision,
            )
        try:
            applied_ns = objects.put(engine, planned.after if planned.again else record.after)
            warnings = self.store(record, despite_disk=planned.despite_disk)
        except BaseException as error:
            self._put_back(record, error)
            raise
        return planned.outcome(record.revision, applied_ns, warnings)

    def _put_back(self, record: Record, why: BaseException) -> None:
        """Roll back a change that failed. Raises CdnctlError when the kernel does not let all of it go."""
        engine = self._engine
        left = objects.put_back(engine, record.before)
        self.abandon()
        for said in left:
            engine.tell("warning", f"cannot take back {record.cli}: {said}", "warning")
        if left and isinstance(why, CdnctlError | OSError | ValueError):
            told = why.message if isinstance(why, CdnctlError) else f"the kernel refused: {why}"
            raise CdnctlError(
                f"{told}; and not all of it was taken back: {'; '.join(left)}",
                "`cdnctl diff` shows what the kernel holds otherwise, `cdnctl repair` mends it",
            ) from why

    def begin(self, command: Change, actor: Actor, cli: str, planned: Planned) -> Record | None:
        """Check that it may be made, and write the intent; None when there is nothing to change."""
        engine = self._engine
        if planned.reverts and (self.pending is None or self.pending.revision != planned.reverts):
            raise CdnctlError(
                "what was to be reverted was confirmed or reverted meanwhile", "`cdnctl journal` says by whom"
            )
        before = {what: objects.read(engine, what) for what in planned.after}
        after = {what: value for what, value in planned.after.items() if before[what] != value}
        # all that it names: who says again what waits must hear that it waits
        self._check(command, planned, {*planned.after, *planned.bears_on})
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
            bears_on=planned.bears_on,
        )
        self._pay()
        try:
            engine.store.intent.write(record)
        except RecordError:
            if not planned.despite_disk:
                raise
        self.record = record
        return record

    def store(self, record: Record, *, despite_disk: bool = False, unheld: str = "") -> list[str]:
        """The kernel has it: keep it, and wait for its confirmation; warnings. Raises StateError.

        `unheld` says why a configuration that was taken back would come back by a start.
        """
        engine = self._engine
        before, engine.state = engine.state, replace(engine.state, revision=record.revision)
        warnings = [unheld] if unheld else []
        steps = [(partial(self._save, record), "in force, but would not survive a restart")]
        if record.confirm_s:
            write = partial(engine.store.pending.write, record)
            steps.insert(0, (write, "in force, but will not revert if the agent ends meanwhile"))
        for keep, lost in steps:
            try:
                keep()
            except (StateError, RecordError) as error:
                if not despite_disk:
                    engine.state = before
                    raise
                warnings.append(f"{lost}: {error.message}")
        if record.confirm_s:
            self.wait_for(record, record.confirm_s)
        if record.reverts:
            self.pending = None
            if not warnings:  # else it is on the disk still, and is reverted once more by the next start
                self._forget_pending(warnings)
        elif objects.CONFIG in record.after and self.pending is None:
            self._forget_pending(warnings)  # of a revert that could not be kept: this is another decision
        self.touch({*record.after, *record.bears_on}, record.revision, record.actor.user, record.cli)
        return warnings

    def _save(self, record: Record) -> None:
        """Blocks are in one file, all else in the other, and no change is in both."""
        store, revision = self._engine.store, record.revision
        blocks = [what for what in record.after if objects.in_blocks(what)]
        try:
            for what in blocks:
                if objects.is_list(what):
                    self._save_list(what, record)
                    continue
                name, source = what.partition(" ")[2], objects.source_of(what)
                made = (each for each in self._engine.blocks.wanted.find(name) if each.source == source)
                block = next(made, None)
                if block is None:
                    store.blocks.remove(name, source, revision)
                else:
                    store.blocks.add(block, revision)
        except OSError as error:
            raise StateError(
                f"cannot write {store.blocks.path}: {error.strerror or error}",
                "make room or mend the directory",
            ) from error
        if len(blocks) < len(record.after):
            store.save(self._engine.state)

    def _save_list(self, source: str, record: Record) -> None:
        log = self._engine.store.blocks
        if record.after[source] is None:
            log.let_go(source, record.revision)
        else:
            log.add_list(self._engine.lists.blocks_of(source), record.revision)

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

    def _keep(self, command: Change, actor: Actor, cli: str, planned: Planned) -> Outcome:
        """What waits is confirmed. Raises CdnctlError."""
        store, state = self._engine.store, self._engine.state
        record = Record(
            revision=0,  # it changes nothing
            actor=actor,
            cli=cli,
            text=planned.would,
            command=msgspec.to_builtins(command),
            before={},
            after={},
            at_ns=time.time_ns(),
            keeps=planned.keeps,
        )
        self._pay()
        try:
            store.intent.write(record)
        except RecordError:
            store.intent.clear()  # one that waits for room in the journal would have it wait again
        self.record = record
        try:
            store.pending.clear()
        except RecordError:
            self.abandon()
            raise
        self.pending = None
        return planned.outcome(state.revision, 0, [])

    def owe(self, record: Record, outcome: Outcome) -> None:
        """The journal could not have this line; its intent stands until it has, or another comes."""
        self._owed = record, outcome

    def _pay(self) -> None:
        if self._owed is None:
            return
        record, outcome = self._owed
        try:
            self.journal_of(record, outcome)
        except OSError:
            return  # whoever comes now is told that the journal cannot be written
        self._owed = None

    def journal_of(self, record: Record, outcome: Outcome) -> None:
        """Write down what was not done by a command of this agent. Raises OSError."""
        kept = record if outcome.ok else None
        self._engine.journal.append(record.actor, record.command, outcome, cli=record.cli, record=kept)

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
        clash = [what for what in (*waiting.after, *waiting.bears_on) if what in set(after)]
        if planned.risk or command.confirm_s or clash:
            raise self._is_waiting(waiting, clash)

    def _is_waiting(self, waiting: Record, clash: Sequence[str]) -> CdnctlError:
        bears_on = f", which bears on {objects.words(clash[0])}" if clash else ""
        return CdnctlError(
            f"refused: what {waiting.actor.user} did waits to be confirmed for {self.left_s:.0f} s more:"
            f" {waiting.cli}{bears_on}",
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

    def touch(self, after: Collection[str], revision: int, who: str, what: str, at_ns: int = 0) -> None:
        """Somebody has changed these."""
        touch = Touch(revision, at_ns or time.time_ns(), who, what)
        self._touched.update(dict.fromkeys(after, touch))

    def save(self) -> None:
        """The state as it is now; tells when it cannot be stored."""
        try:
            self._engine.store.save(self._engine.state)
        except StateError as error:
            self._engine.tell("warning", str(error), "warning")

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

    def told(self, command: Change, outcome: Outcome) -> Outcome:
        """With the word that it waits, and until when, if that is what waits now."""
        waiting = self.pending
        if not command.confirm_s or waiting is None or self.record is not waiting:
            return outcome
        first, *rest = outcome.text.split("\n")
        ends = time.strftime("%H:%M:%S", time.gmtime(waiting.ends_at_ns / 1e9))
        first += (
            f"; reverts in {duration(command.confirm_s)} unless `cdnctl confirm` comes, that is at {ends} UTC"
        )
        return replace(outcome, text="\n".join([first, *rest]), reverts_at_ns=waiting.ends_at_ns)

    def wait_for(self, record: Record, left_s: float) -> None:
        """Revert it after so long."""
        self.pending, self._trouble, self._again_s = record, "", AGAIN_S
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
        self._due_ns = time.monotonic_ns() + int(self._again_s * 1e9)
        self._again_s = min(2 * self._again_s, SELDOM_S)
        if objects.CONFIG not in self.pending.before:
            self._note(engine.execute(command, actor))
            return

        async def reload() -> None:
            self._note(await engine.reload(command, actor))

        self._task = asyncio.get_running_loop().create_task(reload())

    def _note(self, outcome: Outcome) -> None:
        self._trouble = "" if outcome.ok else outcome.text
        for warning in outcome.warnings:  # nobody else is there to be told
            self._engine.tell("warning", warning, "warning")

    def is_old_news(self, actor: Actor, outcome: Outcome) -> bool:
        """Whether the timer says again what it said before: the journal has room for other things."""
        return actor.user == _TIMER and not outcome.ok and outcome.text == self._trouble
