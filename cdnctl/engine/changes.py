"""Commands: what each comes to, and what it refuses; then a transaction carries it out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from cdnctl.defence import blocklist, protected
from cdnctl.engine import consequences, held, objects, steering
from cdnctl.engine.customers import CustomerChanges
from cdnctl.engine.drift import Drift
from cdnctl.engine.objects import AUTO, MANUAL
from cdnctl.engine.plan_changes import PlanChanges
from cdnctl.engine.planned import Planned, unwaiting
from cdnctl.engine.queries import Queries
from cdnctl.engine.reload import Reloading
from cdnctl.engine.switches import Switches
from cdnctl.engine.transactions import Transactions
from cdnctl.engine.undo import TakingBack
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    Actor,
    Allow,
    AnyCommand,
    Arm,
    Attach,
    Block,
    BlockList,
    BlockPrefix,
    Bypass,
    Change,
    Confirm,
    Detach,
    Diff,
    Disallow,
    Disarm,
    Drain,
    GetState,
    Lasting,
    ListCustomers,
    ListPart,
    LoadModel,
    Mark,
    Note,
    Outcome,
    Reload,
    Repair,
    Revert,
    SetAutoban,
    SetLimit,
    SetMode,
    SetModel,
    SetShield,
    SetWeights,
    Stop,
    Unblock,
    Undo,
    Undrain,
)
from cdnctl.model.lines import command_line, duration

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_BESIDE = Note | Mark | ListPart
"""Changes of nothing that the journal is about."""
_LONGEST_LIFETIME_S = 366 * 86400.0
_LONGEST_TEXT = 500


class Changes:
    """Executes commands on an engine: first a plan, then the change, if it is not a dry run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.transactions = Transactions(engine)
        self._reloading = Reloading(engine)
        customers, switches = CustomerChanges(engine), Switches(engine)
        back, drift = TakingBack(engine, self.transactions), Drift(engine)
        self._back, self._drift = back, drift
        self._do: dict[type[Any], Callable[[Any], Outcome | Planned]] = {
            BlockPrefix: self._block,
            ListPart: lambda command: engine.lists.take(command),
            BlockList: lambda command: engine.lists.plan(command),
            Unblock: self._unblock,
            SetWeights: self._weights,
            Drain: lambda command: self._drain(command, True),
            Undrain: lambda command: self._drain(command, False),
            Disarm: switches.disarm,
            Arm: switches.arm,
            Bypass: switches.bypass,
            Attach: switches.attach,
            Detach: switches.detach,
            SetMode: switches.mode,
            SetShield: switches.shield,
            SetAutoban: switches.autoban,
            SetModel: switches.model,
            LoadModel: switches.load_model,
            Stop: self._stop,
            Note: self._note,
            Mark: self._mark,
            SetLimit: customers.limit,
            Allow: customers.allow,
            Disallow: customers.disallow,
            Confirm: back.confirm,
            Revert: back.revert,
            Undo: back.undo,
            Diff: drift.diff,
            Repair: drift.repair,
            GetState: self._state,
            ListCustomers: customers.list,
            **Queries(self._engine).table,
            **PlanChanges(self._engine).table,
        }

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        """One command; changes go into journal and ticker, dry runs into neither."""
        run = self._do.get(type(command))
        if run is None:
            return Outcome(ok=False, text=f"the engine does not know {type(command).__name__}")
        before = self._picture()
        try:
            _check_reason(command)
            if isinstance(command, Change) and not isinstance(command, Stop | _BESIDE):
                self._engine.attachment.check_loaded()
            found = run(command)
            if isinstance(found, Planned):
                command, found = unwaiting(command, found, self.transactions.pending)
            if isinstance(command, Undo) and isinstance(found, Planned):
                command = _numbered(command, found)
            outcome = found if isinstance(found, Outcome) else self._carry_out(command, actor, found)
        except (CdnctlError, ValueError, OSError) as error:
            outcome = _refusal(error)
        if not isinstance(command, Change) or command.dry_run or isinstance(command, _BESIDE):
            return outcome
        return self._record(command, actor, self._idle(command, outcome), before)

    def _carry_out(self, command: AnyCommand, actor: Actor, planned: Planned) -> Outcome:
        assert isinstance(command, Change)
        if command.dry_run:
            return planned.preview(self._engine.state.revision)
        outcome = self.transactions.apply(command, actor, command_line(command), planned)
        return self.transactions.told(command, outcome)

    def _idle(self, command: Change, outcome: Outcome) -> Outcome:
        """With a warning when what was done has no effect for now."""
        if not outcome.ok or not self._engine.state.detached or isinstance(command, Attach | Detach | Stop):
            return outcome
        warning = "the edge is detached: this takes effect when `cdnctl attach` puts it on again"
        return msgspec.structs.replace(outcome, warnings=[*outcome.warnings, warning])

    def adopt_addresses(self) -> list[str]:
        """Have the endpoints that names lead to now; warnings. Raises CdnctlError or OSError."""
        self._engine.attachment.check_loaded()
        with self._reloading.alone():
            return self._reloading.adopt_addresses()

    async def diff(self, command: Diff) -> Outcome:
        """What the kernel holds otherwise; a thread looks."""
        try:
            return await self._drift.diff_aside(command)
        except (CdnctlError, ValueError, OSError) as error:
            return _refusal(error)

    async def reload(self, command: Lasting, actor: Actor) -> Outcome:
        """The same for commands that may take their time: those that put a configuration into force, or look
        at all that the kernel holds."""
        before = self._picture()
        try:
            _check_reason(command)
            self._engine.attachment.check_loaded()
            if isinstance(command, Repair):
                with self._reloading.alone():
                    outcome = await self._drift.repair_aside(command)
                return outcome if command.dry_run else self._record(command, actor, outcome, before)
            planned = None
            if not isinstance(command, Reload):
                planned = (
                    self._back.revert(command) if isinstance(command, Revert) else self._back.undo(command)
                )
                if objects.CONFIG not in planned.after:
                    return self.execute(command, actor)
                if isinstance(command, Undo):
                    command = _numbered(command, planned)
            with self._reloading.alone():
                outcome = await self._reload(command, actor, planned)
        except (CdnctlError, ValueError, OSError) as error:
            outcome = _refusal(error)
        return outcome if command.dry_run else self._record(command, actor, outcome, before)

    async def _reload(self, command: Reload | Revert | Undo, actor: Actor, back: Planned | None) -> Outcome:
        """What the file says, or what `back` takes back, into force."""
        text = None if back is None else back.after[objects.CONFIG]
        wanted = await self._reloading.plan(text, anew=isinstance(command, Reload) and command.program)
        planned = back or Planned(
            after={objects.CONFIG: wanted.text},
            would=f"would reload: {wanted.words}",
            done=lambda: f"reloaded: {wanted.words}",
            warnings=wanted.astray,
            risk=wanted.risk,
        )
        if isinstance(command, Undo):
            planned = replace(planned, risk=wanted.risk or planned.risk)
        planned = replace(planned, bears_on=wanted.bears_on)
        if command.dry_run:
            preview = planned.preview(self._engine.state.revision)
            return msgspec.structs.replace(preview, changed=wanted.found)
        new = await self._reloading.prepare(wanted)
        values = {what: value for what, value in planned.after.items() if what != objects.CONFIG}
        planned = replace(planned, after={**planned.after, **self._reloading.overlays(wanted, values)})
        try:
            record = self.transactions.begin(command, actor, command_line(command), planned)
        except BaseException:
            if new:
                new.program.abandon()
            raise
        edge = self._engine.config.edge.name
        try:
            if record and record.confirm_s:
                self._engine.store.pending.write(record)
            outcome = self._reloading.apply(wanted, new, values)
        except BaseException:
            self.transactions.abandon()
            raise
        # Before `store` forgets what waits: by this alone a start knows that it is reverted, or undone.
        unheld = ""
        try:
            if record and back:
                held.hold(edge, refused=record.before[objects.CONFIG], text=wanted.text)
            else:
                held.forget(edge)
        except OSError as error:
            unheld = f"the next start may go by another configuration than the one in force: {error}"
        if record:
            warnings = self.transactions.store(record, despite_disk=True, unheld=unheld)
        else:
            warnings = [unheld] if unheld else []
        outcome = msgspec.structs.replace(
            outcome,
            text=outcome.text if back is None else planned.done(),
            warnings=[*outcome.warnings, *(planned.warnings if back else ()), *warnings],
            state_version=self._engine.state.revision,
        )
        return self.transactions.told(command, outcome)

    def _record(self, command: AnyCommand, actor: Actor, outcome: Outcome, before: Any) -> Outcome:
        if self.transactions.is_old_news(actor, outcome):
            return outcome
        self._engine.tell(
            "command",
            f"{actor.user}: {outcome.text.splitlines()[0]}",
            "notice" if outcome.ok else "warning",
            monotonic_ns=outcome.applied_monotonic_ns,
        )
        record = self.transactions.record if outcome.ok else None
        try:
            self._engine.journal.append(
                actor, command, outcome, before, self._picture(), command_line(command), record
            )
        except OSError as error:
            warning = f"in force, but not in the journal: {error}"
            outcome = msgspec.structs.replace(outcome, warnings=[*outcome.warnings, warning])
        self.transactions.settle()
        return outcome

    def _picture(self) -> dict[str, Any]:
        state = self._engine.state
        return {
            "weights": self._engine.weights(),
            "drained": list(state.drained),
            "planner": self._engine.planning.mode,
            "limits": msgspec.to_builtins(state.limits),
            "allowed": len(state.allowed),
            "armed": state.armed,
            "observing": state.observing,
            "shield": state.shield,
            "autoban": state.autoban,
            "model": state.model,
            "fit": state.fit.name,
            "blocks": len(self._engine.blocks.wanted),
        }

    def _state(self, command: GetState) -> Outcome:
        """What is kept, or one of it."""
        store, version = self._engine.store, self._engine.state.revision
        if command.revision is None:
            return Outcome(ok=True, text="", revisions=store.revisions(), state_version=version)
        return Outcome(ok=True, text="", state=store.text_of(command.revision), state_version=version)

    # -- block list --

    def _block(self, command: BlockPrefix) -> Planned:
        engine = self._engine
        network = blocklist.parse_prefix(command.prefix)
        lifetime = command.lifetime_s
        if lifetime is not None and not 0 < lifetime <= _LONGEST_LIFETIME_S:
            raise ValueError(f"a lifetime of {lifetime} s; say 1 s to 366 days, or forever")
        around = protected.surroundings()
        refusal = protected.refusal(network, protected.protected(engine.config, around))
        if refusal:
            raise CdnctlError(
                f"refused: {blocklist.show_prefix(network)} {refusal}",
                "block a narrower prefix that leaves it out",
            )
        if len(engine.blocks.wanted) >= engine.config.limits.block_entries:
            raise CdnctlError("the block list is full", "unblock something, or raise [limits] block_entries")
        now_ns = time.time_ns()
        shown = blocklist.show_prefix(network)
        block = Block(
            prefix=shown,
            reason=command.reason,
            source=MANUAL,
            created_ns=now_ns,
            expires_ns=0 if lifetime is None else now_ns + int(lifetime * 1e9),
        )
        how_long = "until unblocked" if lifetime is None else f"for {duration(lifetime)}"
        warnings = list(around.unread)
        for allowed in engine.state.allowed:
            if blocklist.covers(blocklist.parse_prefix(allowed.prefix), network):
                warnings.append(
                    f"{allowed.prefix} is allowed: the block has no effect until"
                    f" `cdnctl disallow {allowed.prefix}`"
                )
        if not command.dry_run and not engine.state.armed:
            warnings.append("the edge is disarmed: the block takes effect when it is armed again")
        already = ", which is blocked already" if engine.blocks.wanted.find(network) else ""
        found = engine.matched(network)
        return Planned(
            after={objects.block(shown): objects.of_block(block)},
            would=f"would block {shown} {how_long}{already}; {consequences.block_words(found)}",
            done=lambda: f"blocked {shown} {how_long}",
            warnings=warnings,
            risk=consequences.block_risk(found),
        )

    def _unblock(self, command: Unblock) -> Planned | Outcome:
        engine = self._engine
        shown = blocklist.show_prefix(blocklist.parse_prefix(command.prefix))
        kinds = {MANUAL: ("manual block", objects.block(shown)), AUTO: ("automatic ban", objects.ban(shown))}
        there = {source: kind for source, kind in kinds.items() if objects.read(engine, kind[1]) is not None}
        source = command.source or next(iter(there), MANUAL)
        if source not in there:
            if command.dry_run and not engine.blocks.wanted.find(shown):
                return Outcome(ok=False, text=f"{shown} is not blocked")
            if source not in kinds:
                remedy = f"`cdnctl allow {shown}` lets it pass all the same"
                raise CdnctlError(f"what {source} blocks is not lifted one by one", remedy)
            if not there:
                self._refuse_listed(shown)
            engine.blocks.wanted.remove(shown, source)  # raises, and says what is
        kind, what = there.pop(source)
        stays = "".join(f", and the {other} stays" for other, _ in there.values())
        return Planned(
            after={what: None},
            would=f"would unblock {shown}: the {kind} of it goes{stays}",
            done=lambda: f"unblocked {shown}: the {kind} of it is gone{stays}",
        )

    def _refuse_listed(self, shown: str) -> None:
        """What no operator blocked may be blocked by a feed."""
        network = blocklist.parse_prefix(shown)
        feeds = sorted({feed for feed, _, _ in self._engine.blocks.listed.touching(network)})
        if feeds:
            raise CdnctlError(
                f"{shown} is not blocked by an operator, but by feed {', '.join(feeds)}",
                f"`cdnctl allow {shown}` lets it in whatever feeds say",
            )

    # -- steering --

    def _known(self, name: str) -> None:
        cdns = self._engine.layout.cdns
        if name not in cdns:
            raise CdnctlError(f"there is no CDN {name!r}", f"there are {', '.join(cdns)}")

    def _steer(self, after: objects.Values, text: str, done: str) -> Planned:
        engine = self._engine
        state = objects.with_values(engine.state, after)
        weights, drained = engine.weights(state), engine.drained(state)
        steering.check(engine.config, weights, drained)
        then = engine.steering(state)
        shares = steering.planned(engine.layout, then)
        before = steering.planned(engine.layout, engine.steering())
        moved = consequences.moved(before, shares)
        given = [[cdn for cdn, share in each.items() if share] for each in (shares, before)]
        return Planned(
            after=after,
            would=f"would {text}: {consequences.steering_words(moved)}",
            done=lambda: done,
            shares=shares,
            service_shares=steering.planned_by_service(engine.config, engine.layout, then),
            risk=consequences.steering_risk(moved, *given),
        )

    def _weights(self, command: SetWeights) -> Planned:
        if not command.weights:
            raise CdnctlError("no weights given", "as in: cdnctl weight aurora=60 borealis=40")
        for name, weight in command.weights.items():
            self._known(name)
            if not 0 <= weight <= 1000:
                raise CdnctlError(f"weight {weight} of {name}", "weights are whole numbers from 0 to 1000")
        text = "set weights " + ", ".join(f"{name}={weight}" for name, weight in command.weights.items())
        after = {objects.weight(name): weight for name, weight in command.weights.items()}
        return self._steer(after, text, text)

    def _drain(self, command: Drain | Undrain, drain: bool) -> Planned:
        self._known(command.cdn)
        if drain == (command.cdn in self._engine.drained()):
            said = f"{command.cdn} is {'drained already' if drain else 'not drained'}"
            return Planned(after={}, would=said, done=lambda: said)
        verb = "drain" if drain else "undrain"
        after = {objects.drain(command.cdn): drain}
        return self._steer(after, f"{verb} {command.cdn}", f"{verb}ed {command.cdn}")

    # -- the rest --

    def _stop(self, command: Stop) -> Outcome:
        engine, would = self._engine, "would " if command.dry_run else ""
        if not command.detach:
            return Outcome(ok=True, text=f"{would}stop the agent and leave the data path up")
        if command.dry_run:
            names, flows = ", ".join(engine.attachment.attached) or "nothing", engine.tables.live_flows()
            text = f"would detach from {names}, which cuts {flows} translated flows, and end the agent"
            return Outcome(ok=True, text=text)
        names, applied_ns = ", ".join(engine.detach_all()) or "nothing", time.monotonic_ns()
        flows = engine.tables.live_flows()
        return Outcome(
            ok=True,
            text=f"detached from {names}; {flows} translated flows were cut",
            applied_monotonic_ns=applied_ns,
        )

    def _note(self, command: Note) -> Outcome:
        if len(command.text) > _LONGEST_TEXT or len(command.step or "") > _LONGEST_TEXT:
            raise ValueError(f"a note of more than {_LONGEST_TEXT} characters")
        if command.dry_run:
            return Outcome(ok=True, text="would note it")
        if command.step is not None:
            self._engine.step = command.step
        if command.text:
            self._engine.tell("step" if command.step is not None else "note", command.text, command.severity)
        return Outcome(ok=True, text="noted")

    def _mark(self, command: Mark) -> Outcome:
        if not command.text.strip():
            raise CdnctlError("a mark without a text", "say what it marks: cdnctl mark 'before the change'")
        if command.dry_run:
            return Outcome(ok=True, text="would set a mark")
        self._engine.tell("mark", command.text, "notice")
        return Outcome(ok=True, text="marked")


def _numbered(command: Undo, planned: Planned) -> Undo:
    """Naming its line of the journal: a bare `undo` means another one each time."""
    if command.seq is not None or command.to is not None or not planned.undoes:
        return command
    return msgspec.structs.replace(command, seq=planned.undoes[0])


def _check_reason(command: AnyCommand) -> None:
    if isinstance(command, Change) and len(command.reason) > _LONGEST_TEXT:
        raise ValueError(f"a reason of {len(command.reason)} characters; at most {_LONGEST_TEXT}")


def _refusal(error: Exception) -> Outcome:
    if isinstance(error, OSError):
        return Outcome(ok=False, text=f"the kernel refused: {error}; see `cdnctl check`")
    return Outcome(ok=False, text=str(error), remedy=getattr(error, "remedy", ""))
