"""Commands that take something back, or keep it: confirm, revert, undo."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cdnctl.defence import protected
from cdnctl.engine import objects, risks, steering
from cdnctl.engine.objects import Values
from cdnctl.engine.planned import Planned
from cdnctl.engine.transactions import Transactions
from cdnctl.errors import CdnctlError
from cdnctl.model import Confirm, JournalEntry, Revert, Undo

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine


class TakingBack:
    """Plans it on an engine."""

    def __init__(self, engine: Engine, transactions: Transactions) -> None:
        self._engine = engine
        self._transactions = transactions

    def confirm(self, _command: Confirm) -> Planned:
        """Keep the pending change."""
        waiting = self._transactions.pending
        if waiting is None:
            raise CdnctlError("nothing waits to be confirmed", "`cdnctl status` shows it when something does")
        return Planned(
            after={},
            would=f"would keep: {waiting.cli}",
            done=lambda: f"confirmed: {waiting.cli}",
            keeps=waiting.revision,
        )

    def revert(self, _command: Revert) -> Planned:
        """Take it back: all that is still as it left it."""
        waiting = self._transactions.pending
        if waiting is None:
            raise CdnctlError(
                "nothing waits to be confirmed", "`cdnctl undo` takes back what was changed before"
            )
        after, warnings = dict[str, Any](), list[str]()
        for what, value in waiting.before.items():
            if objects.read(self._engine, what) == waiting.after[what]:
                after[what] = value
            else:
                warnings.append(f"{objects.words(what)} stays as it is: {self._since(what)}")
        permitted = self._permitted(after, warnings)
        left = f", but not all of it: {'; '.join(warnings)}" if warnings else ""
        done = f"reverted: {waiting.cli}{left}"
        if not permitted:
            done = (
                f"not reverted, for nothing is left of it to take back: {waiting.cli}: {'; '.join(warnings)}"
            )
        return Planned(
            after=permitted,
            would=f"would revert: {waiting.cli}{left}",
            done=lambda: done,
            warnings=warnings,
            despite_disk=True,
            reverts=waiting.revision,
        )

    def undo(self, command: Undo) -> Planned:
        """Take back a line of the journal, or go back to a kept state."""
        if command.seq is not None and command.to is not None:
            raise CdnctlError("a line of the journal and a revision", "give one or the other")
        return self._restore(command.to) if command.to is not None else self._undo(command)

    def _undo(self, command: Undo) -> Planned:
        seq = command.seq
        if self._transactions.pending is not None and seq is None:
            raise CdnctlError(
                "the last change waits to be confirmed",
                "`cdnctl revert` takes it back, `cdnctl confirm` keeps it",
            )
        entry = self._find(seq)
        in_the_way = [
            f"{objects.words(what)}: {self._since(what)}"
            for what, (_, after) in entry.changes.items()
            if objects.read(self._engine, what) != after
        ]
        if in_the_way:
            raise CdnctlError(
                f"number {entry.seq} ({entry.cli}) cannot be undone, for what it changed is not as it left"
                f" it: {'; '.join(in_the_way)}",
                "change it by itself, or undo what came later first",
            )
        after: Values = {what: before for what, (before, _) in entry.changes.items()}
        warnings = list[str]()
        if any(objects.is_list(what) and (after[what] or command.confirm_s) for what in after):
            raise CdnctlError(
                f"number {entry.seq} ({entry.cli}): the prefixes of a list that is lifted are not kept, so"
                " that it comes back neither by an undo nor for want of a confirmation",
                "block it again from its file: cdnctl block --file FILE",
            )
        permitted = self._permitted(after, warnings)
        if warnings and not permitted:
            raise CdnctlError(f"number {entry.seq} ({entry.cli}) cannot be undone: {warnings[0]}")
        plain = {} if objects.CONFIG in permitted else permitted  # else it is the reload that looks at them
        self._check(plain)
        changes = [objects.moves(what, entry.changes[what][1], value) for what, value in permitted.items()]
        whose = f"number {entry.seq}, of {entry.user}: {entry.cli} ({'; '.join(changes)})"
        return Planned(
            after=permitted,
            would=f"would undo {whose}",
            done=lambda: f"undid {whose}",
            warnings=warnings,
            risk=risks.of_values(self._engine, plain),
            undoes=[entry.seq],
        )

    def _find(self, seq: int | None) -> JournalEntry:
        entries = self._engine.journal.recent()
        stays = (entry for entry in entries if entry.ok and not _is_reverted(entry, entries))
        undone = {number for entry in stays for number in entry.undoes}
        if seq is None:
            over = set[str]()  # of what came later and is over by itself nothing is left to be taken back
            for entry in reversed(entries):
                if entry.ok and entry.changes and not entry.undoes and entry.seq not in undone:
                    if entry.command.get("verb") == "revert" or _is_reverted(entry, entries):
                        continue
                    if _has_ended(entry) or entry.changes.keys() <= over:
                        over |= entry.changes.keys()
                        continue
                    return entry
            raise CdnctlError("there is nothing to undo", "`cdnctl undo SEQ` names a line of the journal")
        found = next((entry for entry in entries if entry.seq == seq), None)
        if found is None:
            raise CdnctlError(f"the journal has no number {seq}, or it is too long ago", "name another")
        if not found.changes:
            raise CdnctlError(
                f"number {seq} changed nothing that can be undone: {found.cli or found.text}", "name another"
            )
        if seq in undone:
            raise CdnctlError(f"number {seq} was undone already: {found.cli}", "name another")
        return found

    def _restore(self, revision: int) -> Planned:
        """The small state as it was then; blocks have files and lifetimes of their own."""
        engine = self._engine
        then = engine.store.state_of(revision)
        known = {*objects.objects_of(engine.state), *objects.objects_of(then)}
        after = {
            what: value
            for what in sorted(known)
            if (value := objects.of_state(then, what)) != objects.read(engine, what)
        }
        self._check(after)
        changes = [objects.moves(what, objects.read(engine, what), value) for what, value in after.items()]
        listed = "; ".join(changes) or "nothing, for all is as it was then"
        return Planned(
            after=after,
            would=f"would go back to revision {revision}: {listed}",
            done=lambda: f"back to revision {revision}: {listed}",
            risk=risks.of_values(engine, after)
            or ("it changes several things at once" if len(after) > 1 else ""),
        )

    def _check(self, after: Values) -> None:
        """Raises CdnctlError when a service would be left without any CDN."""
        engine = self._engine
        state = objects.with_values(engine.state, after)
        steering.check(engine.config, engine.weights(state), engine.drained(state))

    def _permitted(self, after: Values, warnings: list[str]) -> Values:
        """Without blocks that nobody may make any more, or that have ended by now."""
        return {what: value for what, value in after.items() if not self._why_not(what, value, warnings)}

    def _why_not(self, what: str, value: Any, warnings: list[str]) -> bool:
        if not objects.in_blocks(what) or objects.is_list(what) or value is None:
            return False
        prefix, now_ns = value["prefix"], time.time_ns()
        if 0 < value["expires_ns"] <= now_ns:
            warnings.append(f"{prefix} would have been free again by now, and stays so")
            return True
        refusal = protected.refusal(prefix, protected.protected(self._engine.config))
        if refusal:
            warnings.append(f"{prefix} is not blocked again: it {refusal}")
        return bool(refusal)

    def _since(self, what: str) -> str:
        touch = self._transactions.last_touch(what)
        return f"changed since by {touch.who}: {touch.what}" if touch else "it has changed by itself since"


def _has_ended(entry: JournalEntry) -> bool:
    """Whether all that it would bring back are blocks that would have ended by now."""
    now_ns = time.time_ns()
    return bool(entry.changes) and all(
        objects.in_blocks(what) and before is not None and 0 < before.get("expires_ns", 0) <= now_ns
        for what, (before, _) in entry.changes.items()
    )


def _is_reverted(entry: JournalEntry, entries: Sequence[JournalEntry]) -> bool:
    """Whether the same change was taken back because nobody confirmed it."""
    return bool(entry.expires_ns) and any(
        each.ok and each.reverts == entry.revision for each in entries if each.seq > entry.seq
    )
