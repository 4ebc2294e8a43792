"""The configuration read again, and a new program in place of the one before.

On the same tables no packet is lost for that. For other tables flows are held for a moment (moving.py): those
that are established go on, new ones begin a retransmission later.

What takes long, compiling and loading, is done by a thread, beside the maps that are in use: frames and
commands go on. Then the tables are changed in the engine's own thread, in an order that leaves no moment
without (`Engine.put_config`), and interface after interface gets the new program. Until the last one has
it both work on the same maps, or on others that say the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from cdnctl.config import Config, read
from cdnctl.config.differences import differences
from cdnctl.datapath import attach, build, host, moving
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.hold import SETTLED_S
from cdnctl.datapath.program import Program
from cdnctl.datapath.sweep import Sweep
from cdnctl.datapath.tables import Tables
from cdnctl.defence.blocklist import Blocklist
from cdnctl.engine import expansion, objects, overlays, restore, ways
from cdnctl.engine.blocks import Blocks
from cdnctl.engine.layout import Layout
from cdnctl.engine.objects import Values
from cdnctl.errors import CdnctlError
from cdnctl.model import Outcome
from cdnctl.state import State

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_SHOWN = 3
"""Differences on the line that the ticker shows."""


class Wanted(NamedTuple):
    """What a reload comes to."""

    config: Config
    read: Config
    """The same before addresses of names are in it."""
    text: str
    """That it was read from."""
    words: str
    found: list[str]
    """What is different, a sentence each."""
    astray: list[str]
    program: Program
    anew: bool
    risk: str
    bears_on: list[str]
    """Operators' words that it gives another meaning, as objects."""


class _New(NamedTuple):
    """What is prepared."""

    program: Program
    move: moving.Move | None
    """Its tables are others."""


class _Before(NamedTuple):
    """What to go back to."""

    config: Config
    layout: Layout
    state: State
    tables: Tables
    blocks: Blocks


class Reloading:
    """Of one engine, one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._busy = False

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """For the length of one reload. Raises CdnctlError."""
        if self._busy:
            raise CdnctlError("the edge is being reloaded already", "wait until that is done")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def plan(self, text: str | None, *, anew: bool) -> Wanted:
        """What the file says now, or `text` in place of it; `anew`: the program, too. Raises CdnctlError."""
        engine = self._engine
        if text is None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                text = engine.config.path.read_bytes().decode()
        found_in_file = expansion.with_regions(self._checked(engine.config, text))
        await engine.names.learn(found_in_file)
        config = expansion.with_addresses(found_in_file, engine.names.addresses)
        found = differences(engine.config, config)
        program = Program(config.edge.name)
        words = _words(found, program.lacks(config), anew)
        astray = await asyncio.to_thread(ways.astray, config)  # netlink's library has a loop of its own
        gone = [
            f"{kind} {name}"
            for kind, before, after in (
                ("cdn", engine.config.cdns, config.cdns),
                ("service", engine.config.services, config.services),
            )
            for name in sorted({each.name for each in before} - {each.name for each in after})
        ]
        risks = [f"it takes away {', '.join(gone)}"] if gone else []
        if (engine.config.edge.snat_from, config.edge.snat_from) == ("anyone", "providers"):
            risks.append("it leaves SNAT addresses to providers and whoever else is on the list")
        risk, bears_on = " and ".join(risks), overlays.bears_on(engine.config, config)
        return Wanted(config, found_in_file, text or "", words, found, astray, program, anew, risk, bears_on)

    def overlays(self, wanted: Wanted, values: Values) -> Values:
        """What of the operators' words, `values` among them, cannot stand with it: as it will be then."""
        engine = self._engine
        state = objects.with_values(engine.state, values)
        cleaned, _ = _cleaned(state, engine.blocks.wanted, wanted.config)
        return overlays.otherwise(state, cleaned)

    async def prepare(self, wanted: Wanted) -> _New | None:
        """What takes long, beside what is in use. Raises CdnctlError or OSError; nothing has changed then."""
        return await asyncio.to_thread(_prepare, wanted.program, wanted.config, wanted.anew)

    def apply(self, wanted: Wanted, new: _New | None, values: Values) -> Outcome:
        """Put it, and these values, into force. Raises CdnctlError or OSError; then nothing has changed."""
        warnings = self._apply(wanted.config, new, values)
        self._engine.config_in_force, self._engine.config_read = wanted.text, wanted.read
        self._engine.scouts.follow()
        return Outcome(
            ok=True,
            text=f"reloaded: {wanted.words}",
            applied_monotonic_ns=time.monotonic_ns(),
            warnings=[
                *warnings,
                *_overlaid(wanted.config, self._engine.state),
                *self._engine.door.warnings(),
                *wanted.astray,
            ],
            changed=wanted.found,
        )

    def adopt_addresses(self) -> list[str]:
        """Names have other addresses. Raises CdnctlError or OSError; then nothing has changed."""
        engine = self._engine
        config = expansion.with_addresses(engine.config_read, engine.names.addresses)
        return self._apply(config, None, {}) if config != engine.config else []

    def _checked(self, before: Config, text: str | None) -> Config:
        """The file as it is now, if it can be put into force."""
        config = read(before.path, text)
        if config.edge.name != before.edge.name:
            raise CdnctlError(
                f"{before.path} is that of edge {config.edge.name} now, and this is {before.edge.name}",
                "an edge keeps its name: give it that again, or end this one, which cuts its flows, with"
                f" `cdnctl detach --edge {before.edge.name} --stop --yes`, and start another",
            )
        if not self._engine.state.detached:
            attach.check(config.edge.interfaces, self._engine.program.maps())
        for clash in host.port_clashes(config):
            raise CdnctlError(str(clash), f"set {clash.remedy}")
        return config

    def _apply(self, config: Config, new: _New | None, values: Values) -> list[str]:
        """Put it into force, and the program if there is another one; warnings."""
        engine = self._engine
        before = _Before(engine.config, engine.layout, engine.state, engine.tables, engine.blocks)
        engine.config = config
        state = objects.with_values(engine.state, values)
        engine.state, warnings = _cleaned(state, engine.blocks.wanted, config)
        wanted = engine.state.blocks or list(before.blocks.wanted)
        engine.state.blocks = []
        try:
            if new and new.move:
                new.move.refresh()
                engine.use(Tables(new.program.pins), KernelBlocks(new.program.pins))
                engine.blocks.listed = before.blocks.listed
                engine.blocks.load(wanted)
            engine.attachment.follow(config, new.program if new else engine.program)
            engine.put_config()
            if new:
                engine.reader.follow(new.program.current)
            with new.move.swapping() if new and new.move else contextlib.nullcontext():
                if not engine.state.detached:
                    engine.attach_all()
        except BaseException:
            self._take_back(before, new)
            raise
        # From here on there is no way back: what is attached is the new program.
        for step in (
            engine.attachment.leave_others,
            lambda: self._settle(new),
            lambda: warnings.extend(engine.let_go()),
        ):
            try:
                step()
            except (CdnctlError, OSError) as error:
                warnings.append(f"in force, but not all of what was before is gone: {error}")
        engine.follow_config()
        if new:
            warnings += new.program.built.warnings if new.program.built else []
            warnings += new.move.told() if new.move else []
        return warnings

    def _take_back(self, before: _Before, new: _New | None) -> None:
        """As far as the kernel lets us."""
        engine = self._engine
        engine.config, engine.layout, engine.state = before.config, before.layout, before.state
        if engine.tables is not before.tables:
            engine.tables, engine.blocks = before.tables, before.blocks
            engine.attachment.use(before.tables)
        engine.attachment.follow(engine.config, engine.program)
        with contextlib.suppress(CdnctlError, OSError):
            engine.put_config()
            engine.let_go()
        with contextlib.suppress(CdnctlError, OSError):
            engine.attachment.leave_others()
        if new:
            engine.reader.leave(newest=True)
            new.program.abandon()

    def _settle(self, new: _New | None) -> None:
        """A new program is attached everywhere: it is the edge's now."""
        if new is None:
            return
        engine, program = self._engine, new.program
        engine.program = program
        time.sleep(SETTLED_S)
        program.commit()
        engine.reader.leave()
        sweep = Sweep(program.open(build.SWEEP), program.pins)
        sweep.rounds, sweep.open = engine.sweep.rounds, engine.sweep.open
        engine.sweep.close()
        engine.sweep = engine.collector.sweep = sweep


def _prepare(program: Program, config: Config, anew: bool) -> _New | None:
    """What takes its time; None when all that is wanted is there."""
    if not program.prepare(config, anew=anew):
        return None
    try:
        move = moving.begin(program, config)
        if move:
            move.fill()
    except BaseException:
        program.abandon()
        raise
    return _New(program, move)


def _words(found: list[str], lacking: str, wanted: bool) -> str:
    """What is, or would be, done: a line for the ticker, and more below it if there is more."""
    said = {"program": ["another program"], "tables": ["other tables, and all flows into them"]}.get(
        lacking, ["the program anew"] if wanted else []
    )
    if not found:
        return " and ".join([*said, "the same configuration"])
    line = "; ".join([*said, *found[:_SHOWN]])
    if len(found) <= _SHOWN:
        return line
    return "\n".join([f"{line}; and {len(found) - _SHOWN} more", *(f"  {each}" for each in found)])


def _cleaned(state: State, blocks: Blocklist, config: Config) -> tuple[State, list[str]]:
    """What of the operators' words can be put into force with it, and what cannot."""
    fits = len(blocks) <= config.limits.block_entries  # they were looked at one by one when they came
    cleaned = replace(
        state,
        weights=dict(state.weights),
        limits=dict(state.limits),
        blocks=[] if fits else list(blocks),
    )
    return cleaned, restore.clean(cleaned, config)


def _overlaid(config: Config, state: State) -> list[str]:
    """Where an operator's word stands in front of what the configuration says."""
    said = [
        f"the weight of {cdn.name} is {state.weights[cdn.name]}, as operators set it,"
        f" and not the configuration's {cdn.weight}"
        for cdn in config.cdns
        if state.weights.get(cdn.name, cdn.weight) != cdn.weight
    ]
    said += [
        f"the limits of customer {customer.name} are the operators', not the configuration's"
        for customer in config.customers
        if customer.name in state.limits
    ]
    return said
