"""After a start: what an earlier agent was interrupted in, what waits, what was switched while none ran.

Nothing here may keep an edge from starting: traffic is on already. What the disk does not allow is told, and
done for as long as this agent lives.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from cdnctl.engine import held, objects
from cdnctl.errors import CdnctlError
from cdnctl.model import JournalEntry, Outcome
from cdnctl.state.intents import Record

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine


class _Left(NamedTuple):
    """What the disk did not allow."""

    unkept: Record | None = None
    """It waits, and is not in its file."""
    reverted: int = 0
    """The revision of one that waits no more, and may be in its file."""


def recover(engine: Engine) -> None:
    """Finish or roll back what was interrupted; go on waiting, or revert what is overdue."""
    entries, left = list[JournalEntry](), _Left()
    with _told(engine):
        entries = engine.journal.recent()
    for entry in entries:
        if entry.ok and entry.changes:
            at_ns, what = int(entry.at_ns), entry.cli or entry.text
            engine.transactions.touch(entry.changes, entry.revision, entry.user, what, at_ns)
    with _told(engine):
        left = _finish(engine, entries)
    with _told(engine):
        engine.transactions.past.note(entries)
    with _told(engine):
        _go_on_waiting(engine, left)


@contextlib.contextmanager
def _told(engine: Engine) -> Iterator[None]:
    """What the disk refuses is said."""
    try:
        yield
    except (CdnctlError, OSError) as error:
        said = error.message if isinstance(error, CdnctlError) else str(error)
        engine.tell("warning", f"after an interrupted change: {said}", "warning")


# -- what was interrupted --------------------------------------------------------------------------------


def _finish(engine: Engine, entries: Sequence[JournalEntry]) -> _Left:
    store, transactions = engine.store, engine.transactions
    record = store.intent.read()
    if store.intent.warning:
        engine.tell("warning", store.intent.warning, "warning")
    if record is None:
        return _Left()
    journaled = any(_is_of(entry, record) for entry in entries)
    is_done = _is_done(engine, record) or _taken_back(engine, record)
    left = _Left(reverted=record.reverts if is_done else 0)
    if is_done and record.confirm_s and not journaled:
        with _told(engine):
            left = left._replace(unkept=record)
            store.pending.write(record)
            left = left._replace(unkept=None)
    if is_done and record.reverts:
        with _told(engine):
            store.pending.clear()
    if not journaled:
        text = f"{'finished' if is_done else 'taken back'}, for the agent died meanwhile: {record.cli}"
        outcome = Outcome(ok=is_done, text=text)
        engine.tell("command", f"{record.actor.user}: {text}", "notice")
        try:
            transactions.journal_of(record, outcome)
        except OSError as error:
            engine.tell("warning", f"that is not in the journal yet: {error}", "warning")
            transactions.owe(record, outcome)
            return left
    with _told(engine):
        store.intent.clear()
    return left


def _is_of(entry: JournalEntry, record: Record) -> bool:
    """Whether the journal has the line of it."""
    if record.keeps:  # it has no revision of its own
        is_same = (entry.cli, entry.pid) == (record.cli, record.actor.pid)
        return entry.ok and is_same and entry.at_ns >= record.at_ns // 10**9 * 10**9
    return entry.ok and entry.revision == record.revision


def _is_done(engine: Engine, record: Record) -> bool:
    """Whether what says so has it already: the pending file, the configuration in force, or the state."""
    if record.keeps:
        return not engine.store.pending.path.exists()
    if record.revision <= engine.state.revision:
        return True
    if engine.config_in_force != record.after.get(objects.CONFIG, object()):
        return False
    engine.state = replace(engine.state, revision=record.revision)
    engine.transactions.save()
    return True


def _taken_back(engine: Engine, record: Record) -> bool:
    """Roll it back; True when the kernel's word is another, and holds."""
    switched = {what: objects.read(engine, what) for what in record.after if what.startswith("switch ")}
    before = {what: value for what, value in record.before.items() if what not in switched}
    for said in objects.put_back(engine, before):
        engine.tell("warning", f"cannot take back {record.cli}: {said}", "warning")
    if objects.CONFIG in record.after and (record.reverts or record.undoes):
        held.forget(engine.config.edge.name)  # it may have been written for what is not made
    if not any(switched[what] == record.after[what] for what in switched):
        return False
    engine.transactions.past.follow(switched)
    return True


# -- what waits --------------------------------------------------------------------------------------------


def _go_on_waiting(engine: Engine, left: _Left) -> None:
    store, transactions = engine.store, engine.transactions
    waiting = left.unkept or store.pending.read()
    if store.pending.warning:
        engine.tell("warning", store.pending.warning, "warning")
    if waiting is None or waiting.revision == left.reverted:
        return
    is_config = objects.CONFIG in waiting.after
    is_newer = waiting.revision > engine.state.revision
    if (is_newer or is_config) and not _is_in_force(engine, waiting):
        if is_config:
            engine.tell("warning", f"waits no more, for it is not in force: {waiting.cli}", "warning")
        store.pending.clear()
        return
    if is_newer:  # the disk had no room for the state, and the kernel's switches have it
        engine.state = replace(engine.state, revision=waiting.revision)
    left_s = min((waiting.ends_at_ns - time.time_ns()) / 1e9, waiting.confirm_s)
    transactions.wait_for(waiting, left_s)
    engine.tell("note", f"waits to be confirmed, {transactions.left_s:.0f} s more: {waiting.cli}", "notice")
    if not is_config:
        transactions.tick()  # else the first frame, when there is a loop


def _is_in_force(engine: Engine, waiting: Record) -> bool:
    if objects.CONFIG in waiting.after:  # what else it changed follows from that
        return bool(engine.config_in_force == waiting.after[objects.CONFIG])
    return any(objects.read(engine, what) == value for what, value in waiting.after.items())
