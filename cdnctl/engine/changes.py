"""Commands: what each does, what it refuses, and the command line that does the same."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from cdnctl.datapath import abi
from cdnctl.defence import blocklist, protected
from cdnctl.engine import shield, steering
from cdnctl.engine.customers import CustomerChanges
from cdnctl.engine.reload import Reloading
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    Actor,
    Allow,
    AnyCommand,
    Arm,
    Attach,
    Block,
    BlockPrefix,
    Bypass,
    Change,
    Detach,
    Disallow,
    Disarm,
    Drain,
    ListBlocks,
    ListCustomers,
    Note,
    Outcome,
    Reload,
    SetLimit,
    SetMode,
    SetShield,
    SetWeights,
    Stop,
    Unblock,
    Undrain,
)

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_LONGEST_LIFETIME_S = 366 * 86400.0
_LONGEST_TEXT = 500
MANUAL = "manual"


class Changes:
    """Executes commands on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reloading = Reloading(engine)
        customers = CustomerChanges(engine, self._save)
        self._do: dict[type[Any], Callable[[Any], Outcome]] = {
            BlockPrefix: self._block,
            Unblock: self._unblock,
            SetWeights: self._weights,
            Drain: lambda command: self._drain(command, True),
            Undrain: lambda command: self._drain(command, False),
            Disarm: self._disarm,
            Arm: self._arm,
            Bypass: self._bypass,
            Attach: self._attach,
            Detach: self._detach,
            Stop: self._stop,
            Note: self._note,
            SetMode: self._mode,
            SetShield: self._shield,
            SetLimit: customers.limit,
            Allow: customers.allow,
            Disallow: customers.disallow,
            ListBlocks: lambda command: Outcome(ok=True, text="", blocks=self._engine.blocks.newest()),
            ListCustomers: customers.list,
        }

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        """One command; changes go into journal and ticker, dry runs into neither."""
        run = self._do.get(type(command))
        if run is None:
            return Outcome(ok=False, text=f"the engine does not know {type(command).__name__}")
        before = self._picture()
        try:
            _check_reason(command)
            if isinstance(command, Change) and not isinstance(command, Stop | Note):
                self._engine.attachment.check_loaded()
            outcome = run(command)
        except (CdnctlError, ValueError, OSError) as error:
            outcome = _refusal(error)
        if not isinstance(command, Change) or command.dry_run or isinstance(command, Note):
            return outcome
        return self._record(command, actor, self._idle(command, outcome), before)

    def _idle(self, command: Change, outcome: Outcome) -> Outcome:
        """With a warning when what was done has no effect for now."""
        if not outcome.ok or not self._engine.state.detached or isinstance(command, Attach | Detach | Stop):
            return outcome
        warning = "the edge is detached: this takes effect when `cdnctl attach` puts it on again"
        return msgspec.structs.replace(outcome, warnings=[*outcome.warnings, warning])

    async def reload(self, command: Reload, actor: Actor) -> Outcome:
        """The same for the one command that takes its time."""
        before = self._picture()
        try:
            _check_reason(command)
            self._engine.attachment.check_loaded()
            outcome = await self._reloading.run(command)
        except (CdnctlError, ValueError, OSError) as error:
            outcome = _refusal(error)
        return outcome if command.dry_run else self._record(command, actor, outcome, before)

    def _record(self, command: AnyCommand, actor: Actor, outcome: Outcome, before: Any) -> Outcome:
        self._engine.tell(
            "command",
            f"{actor.user}: {outcome.text.splitlines()[0]}",
            "notice" if outcome.ok else "warning",
            monotonic_ns=outcome.applied_monotonic_ns,
        )
        try:
            self._engine.journal.append(
                actor, command, outcome, before, self._picture(), command_line(command)
            )
        except OSError as error:
            warning = f"in force, but not in the journal: {error}"
            return msgspec.structs.replace(outcome, warnings=[*outcome.warnings, warning])
        return outcome

    def _picture(self) -> dict[str, Any]:
        state = self._engine.state
        return {
            "weights": self._engine.weights(),
            "drained": list(state.drained),
            "limits": msgspec.to_builtins(state.limits),
            "allowed": len(state.allowed),
            "armed": state.armed,
            "observing": state.observing,
            "shield": state.shield,
            "blocks": len(self._engine.blocks.wanted),
        }

    def _save(self) -> list[str]:
        """Warnings; the change is in force already."""
        try:
            self._engine.store.save(self._engine.state)
        except CdnctlError as error:
            return [str(error)]
        return []

    # -- block list --

    def _block(self, command: BlockPrefix) -> Outcome:
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
        if command.dry_run:
            already = ", which is blocked already" if engine.blocks.wanted.find(network) else ""
            return Outcome(ok=True, text=f"would block {shown} {how_long}{already}", warnings=warnings)
        engine.blocks.block(block)
        applied_ns = time.monotonic_ns()
        engine.state.blocks = list(engine.blocks.wanted)
        warnings += self._save()
        if not engine.state.armed:
            warnings.append("the edge is disarmed: the block takes effect when it is armed again")
        return Outcome(
            ok=True, text=f"blocked {shown} {how_long}", applied_monotonic_ns=applied_ns, warnings=warnings
        )

    def _unblock(self, command: Unblock) -> Outcome:
        engine = self._engine
        shown = blocklist.show_prefix(blocklist.parse_prefix(command.prefix))
        if command.dry_run:
            held = engine.blocks.wanted.find(shown)
            return Outcome(
                ok=bool(held), text=f"would unblock {shown}" if held else f"{shown} is not blocked"
            )
        engine.blocks.unblock(command.prefix, MANUAL)
        applied_ns = time.monotonic_ns()
        engine.state.blocks = list(engine.blocks.wanted)
        return Outcome(
            ok=True, text=f"unblocked {shown}", applied_monotonic_ns=applied_ns, warnings=self._save()
        )

    # -- steering --

    def _known(self, name: str) -> None:
        cdns = self._engine.layout.cdns
        if name not in cdns:
            raise CdnctlError(f"there is no CDN {name!r}", f"there are {', '.join(cdns)}")

    def _steer(
        self, weights: dict[str, int], drained: list[str], *, would: str, done: str, dry_run: bool
    ) -> Outcome:
        engine = self._engine
        merged = {**engine.weights(), **weights}
        steering.check(engine.config, merged, drained)
        shares = steering.split(engine.layout, merged, drained).shares
        by_service = steering.by_service(engine.config, merged, drained)
        if dry_run:
            return Outcome(ok=True, text=f"would {would}", shares=shares, service_shares=by_service)
        before = engine.state.weights, engine.state.drained
        engine.state.weights = {**engine.state.weights, **weights}
        engine.state.drained = drained
        try:
            engine.steer()
        except (OSError, CdnctlError):
            engine.state.weights, engine.state.drained = before
            with contextlib.suppress(OSError, CdnctlError):
                engine.steer()  # part of it may be in force
            raise
        return Outcome(
            ok=True,
            text=done,
            shares=shares,
            service_shares=by_service,
            applied_monotonic_ns=time.monotonic_ns(),
            warnings=self._save(),
        )

    def _weights(self, command: SetWeights) -> Outcome:
        if not command.weights:
            raise CdnctlError("no weights given", "as in: cdnctl weight aurora=60 borealis=40")
        for name, weight in command.weights.items():
            self._known(name)
            if not 0 <= weight <= 1000:
                raise CdnctlError(f"weight {weight} of {name}", "weights are whole numbers from 0 to 1000")
        text = "set weights " + ", ".join(f"{name}={weight}" for name, weight in command.weights.items())
        drained = list(self._engine.state.drained)
        return self._steer(dict(command.weights), drained, would=text, done=text, dry_run=command.dry_run)

    def _drain(self, command: Drain | Undrain, drain: bool) -> Outcome:
        self._known(command.cdn)
        drained = [name for name in self._engine.state.drained if name != command.cdn]
        if drain == (command.cdn in self._engine.drained()):
            return Outcome(ok=True, text=f"{command.cdn} is {'drained already' if drain else 'not drained'}")
        if drain:
            drained.append(command.cdn)
        verb = "drain" if drain else "undrain"
        return self._steer(
            {},
            drained,
            would=f"{verb} {command.cdn}",
            done=f"{verb}ed {command.cdn}",
            dry_run=command.dry_run,
        )

    # -- switches --

    def _disarm(self, command: Disarm) -> Outcome:
        what = "no source is blocked, no CDN ejected; new flows follow plain weights"
        if command.dry_run:
            return Outcome(ok=True, text=f"would disarm: {what}")
        mode = (self._engine.tables.mode | abi.Mode.DISARMED) & ~abi.Mode.BYPASS
        return self._switch(mode, f"disarmed: {what}")

    def _arm(self, command: Arm) -> Outcome:
        if command.dry_run:
            return Outcome(ok=True, text="would arm")
        return self._switch(self._engine.tables.mode & abi.Mode.OBSERVE, "armed")

    def _bypass(self, command: Bypass) -> Outcome:
        what = "every packet passes untouched; this cuts {} translated flows"
        if command.dry_run:
            return Outcome(ok=True, text="would bypass: " + what.format(self._engine.tables.live_flows()))
        outcome = self._switch(self._engine.tables.mode | abi.Mode.BYPASS, f"bypassed: {what}")
        # counted last: an operator who bypasses is in a hurry
        flows = self._engine.tables.live_flows()
        return msgspec.structs.replace(outcome, text=outcome.text.format(flows))

    def _mode(self, command: SetMode) -> Outcome:
        tables, observe = self._engine.tables, command.mode == "observe"
        before, now = tables.mode, "observes" if observe else "acts on what it decides"
        if observe == (abi.Mode.OBSERVE in before):
            return Outcome(ok=True, text=f"the edge {now} already")
        if not observe:
            text = "acts on what it decides: new flows are translated from now on"
            if command.dry_run:
                return Outcome(ok=True, text=f"would be active: the edge {text}")
            return self._switch(before & ~abi.Mode.OBSERVE, f"active: the edge {text}")
        what = "it decides and counts, but every packet passes; this cuts {} translated flows"
        if command.dry_run:
            return Outcome(ok=True, text="would observe: " + what.format(tables.live_flows()))
        outcome = self._switch(before | abi.Mode.OBSERVE, f"observing: {what}")
        return msgspec.structs.replace(outcome, text=outcome.text.format(tables.live_flows()))

    def _shield(self, command: SetShield) -> Outcome:
        engine, wish = self._engine, command.level
        if command.dry_run:
            level = engine.shielding.level if wish == "auto" else wish
            return Outcome(ok=True, text=f"would have it so: {shield.words(wish, level)}")
        before, engine.state.shield = engine.state.shield, wish
        try:
            level = engine.shielding.put(wish)
        except OSError:
            engine.state.shield = before
            raise
        applied_ns = time.monotonic_ns()
        warnings = self._save()
        if not engine.state.armed:
            warnings.append("the edge is disarmed: nothing is shed or challenged until it is armed again")
        text = shield.words(wish, level)
        return Outcome(ok=True, text=text, applied_monotonic_ns=applied_ns, warnings=warnings)

    def _switch(self, mode: abi.Mode, text: str) -> Outcome:
        engine = self._engine
        engine.tables.mode = mode
        engine.state.armed = abi.Mode.DISARMED not in mode
        engine.state.observing = abi.Mode.OBSERVE in mode
        if not mode & (abi.Mode.DISARMED | abi.Mode.BYPASS):
            engine.tables.bump_generation()
        return Outcome(ok=True, text=text, applied_monotonic_ns=time.monotonic_ns(), warnings=self._save())

    # -- attachment --

    def _attach(self, command: Attach) -> Outcome:
        names = ", ".join(self._engine.config.edge.interfaces)
        if command.dry_run:
            return Outcome(ok=True, text=f"would attach to {names}")
        self._engine.attach_all()
        applied_ns = time.monotonic_ns()
        self._engine.neighbours.keep()
        self._engine.state.detached = False
        return Outcome(
            ok=True, text=f"attached to {names}", applied_monotonic_ns=applied_ns, warnings=self._save()
        )

    def _detach(self, command: Detach) -> Outcome:
        engine = self._engine
        if engine.state.detached and not engine.attachment.attached:
            return Outcome(ok=True, text="detached already: `cdnctl attach` puts the edge on again")
        if command.dry_run:
            names, flows = ", ".join(engine.attachment.attached) or "nothing", engine.tables.live_flows()
            return Outcome(ok=True, text=f"would detach from {names}; this cuts {flows} translated flows")
        names = ", ".join(engine.detach_all()) or "nothing"
        applied_ns = time.monotonic_ns()
        engine.neighbours.release()
        engine.state.detached = True
        return Outcome(
            ok=True,
            text=f"detached from {names}; {engine.tables.live_flows()} translated flows were cut",
            applied_monotonic_ns=applied_ns,
            warnings=self._save(),
        )

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


def _check_reason(command: AnyCommand) -> None:
    if isinstance(command, Change) and len(command.reason) > _LONGEST_TEXT:
        raise ValueError(f"a reason of {len(command.reason)} characters; at most {_LONGEST_TEXT}")


def _refusal(error: Exception) -> Outcome:
    if isinstance(error, OSError):
        return Outcome(ok=False, text=f"the kernel refused: {error}; see `cdnctl check`")
    return Outcome(ok=False, text=str(error), remedy=getattr(error, "remedy", ""))


def duration(seconds: float) -> str:
    """`4h`, `90m`, `45s`: as the command line takes it."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def command_line(command: AnyCommand) -> str:
    """The `cdnctl` line that does the same."""
    words = ["cdnctl", str(type(command).__struct_config__.tag)]
    match command:
        case BlockPrefix():
            lifetime = "forever" if command.lifetime_s is None else duration(command.lifetime_s)
            words += [command.prefix, "--for", lifetime]
        case Unblock() | Allow() | Disallow():
            words.append(command.prefix)
        case SetWeights():
            words += [f"{name}={weight}" for name, weight in command.weights.items()]
        case Drain() | Undrain():
            words.append(command.cdn)
        case Bypass() | Detach():
            words.append("--yes")
        case Reload():
            words += ["--program"] if command.program else []
        case SetShield():
            words.append(command.level)
        case SetMode():
            words += [command.mode, *(["--yes"] if command.mode == "observe" else [])]
        case SetLimit():
            words.append(command.customer)
            for option in ("pps", "mbit", "flows_per_s"):
                if (value := getattr(command, option)) is not None:
                    words += [f"--{option.replace('_', '-')}", f"{value:.12g}" if value else "none"]
            words += ["--clear"] if command.clear else []
    if isinstance(command, Change) and command.reason:
        words += ["--reason", command.reason]
    return shlex.join(words)
