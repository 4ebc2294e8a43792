"""The engine: loads and attaches the data path, makes frames, carries out commands.

Synchronous, and used from one thread. Every change is refused whole or carried out whole, over the kernel
and the state on the disk: see transactions.py.
"""

from __future__ import annotations

import contextlib
import os
import time
from array import array
from collections.abc import Iterator

from cdnctl.config import Config
from cdnctl.datapath import abi, attach, build, host, moving, perf, resuming, toolchain
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.neighbours import Neighbours
from cdnctl.datapath.program import Program
from cdnctl.datapath.sweep import Sweep
from cdnctl.datapath.tables import Tables
from cdnctl.defence import blocklist
from cdnctl.engine import (
    consequences,
    expansion,
    frames,
    held,
    layout,
    leavers,
    lookout,
    objects,
    recovery,
    restore,
    settings,
    steering,
    watching,
)
from cdnctl.engine.announced import Announced
from cdnctl.engine.attachment import Attachment
from cdnctl.engine.banning import Banning
from cdnctl.engine.blocks import Blocks
from cdnctl.engine.cdns import Wanted
from cdnctl.engine.changes import Changes
from cdnctl.engine.collector import Collector
from cdnctl.engine.door import Door
from cdnctl.engine.fills import Fills
from cdnctl.engine.journal import Journal
from cdnctl.engine.lists import Lists
from cdnctl.engine.lookout import Lookout
from cdnctl.engine.names import Names, resolve_first
from cdnctl.engine.nat_log import NatLog
from cdnctl.engine.planning import Planning
from cdnctl.engine.ports import Ports
from cdnctl.engine.scouts import Scouts
from cdnctl.engine.shield import Shielding, outside_bits
from cdnctl.engine.suspicion import Suspecting, Wish
from cdnctl.engine.ticker import Ticker
from cdnctl.engine.video import Video
from cdnctl.engine.video import words as video_words
from cdnctl.engine.window import observed_times
from cdnctl.errors import CdnctlError
from cdnctl.metrics.times import Times
from cdnctl.model import (
    FRAME_BLOCKS,
    FRAME_CUSTOMERS,
    Actor,
    AnyCommand,
    Customer,
    Diff,
    Frame,
    Lasting,
    MapFill,
    Outcome,
    PacketFilter,
    Sampled,
)
from cdnctl.model import Collector as CollectorPicture
from cdnctl.paths import journal_path, nat_log_path, state_dir
from cdnctl.state import State, StateStore
from cdnctl.steering.classes import Shift
from cdnctl.steering.shares import shares

TALKERS_LOOKED_AT = 100
"""The busiest, for what a plan would cut."""


class Engine:
    """One edge. `start` before anything else; `close` leaves the data path up unless told otherwise."""

    def __init__(self, config: Config) -> None:
        self.store = StateStore(state_dir(config.edge.name))
        waiting = self.store.pending.peek()
        self.config_read, self.config_in_force, held_back = held.in_force(config, waiting)
        self.names = Names(state_dir(config.edge.name))
        self.config = self._expanded(self.config_read)
        self.program = Program(config.edge.name)
        self.journal = Journal(journal_path(config.edge.name))
        self.state = State()
        self.step = ""
        self._ticker = Ticker()
        self.tell = self._ticker.tell
        for warning in held_back:
            self.tell("warning", warning, "warning")
        self._frame_seq = 0
        self._started_ns = time.time_ns()
        self.attachment = Attachment(self.config, self.program, self.tell)
        self.neighbours = Neighbours()
        self._fills = Fills()
        self._held_back = held.Watch()
        self.lists = Lists(self)
        self._nat_log = NatLog(nat_log_path(config.edge.name))
        self.shielding = Shielding(self.tell, lambda: self.state.shield)
        self.banning = Banning(self)
        self.suspecting = Suspecting(lambda: Wish(self.state.model, self.state.fit))
        self._lookout = Lookout()
        self.planning = Planning(self)
        self.scouts = Scouts(self)
        self.door = Door(self)
        self.announced = Announced(self)
        self._changes = Changes(self)
        self.transactions = self._changes.transactions

    # -- life --

    def start(self) -> None:
        """Load (or take over) the data path, bring it up to date, attach. Raises CdnctlError."""
        if os.geteuid() != 0:
            raise CdnctlError("the agent must be root to load and attach the data path", "use sudo")
        toolchain.import_bcc()  # says which package is missing, before anything is made
        fresh = not self.program.exists()
        attach.check(self.config.edge.interfaces, frozenset() if fresh else self.program.maps())
        for clash in host.port_clashes(self.config):
            raise CdnctlError(str(clash), f"set {clash.remedy}")
        self._read_state()
        self.planning.start()
        if not fresh and (said := resuming.finish(self.program)):
            self.tell("attach", said, "warning")
        self.program.prepare(self.config)
        try:
            move = moving.begin(self.program, self.config)
            if move:
                move.fill()
                move.refresh()
            self.use(Tables(self.program.pins), KernelBlocks(self.program.pins))
            self._bring_up_to_date()
            self.reader = perf.PerfReader(self.program.current)
            self.sweep = Sweep(self.program.open(build.SWEEP), self.program.pins)
            self.collector = Collector(self.sweep)
            self.ports = Ports(settings.port_room(self.config, self.layout))
            self.video = Video(self.config, self.layout)
            self.observer = frames.Observer(self.config, self.layout, self.tables, self.reader, self.ports)
            with move.swapping() if move else contextlib.nullcontext():
                if not self.state.detached:
                    self.attach_all()
            self._settle_state()
        except BaseException:
            self._undo_start(fresh)
            raise
        self.attachment.leave_others()
        self.program.commit()
        for said in self.let_go():
            self.tell("note", said)
        self.observer.observe()
        for warning in move.told() if move else ():
            self.tell("attach", warning, "warning")
        built = self.program.built
        how = "taken over as it was" if built is None else built.how
        for warning in built.warnings if built else ():
            self.tell("warning", warning, "warning")
        where = (
            ", ".join(self.attachment.attached)
            or "nothing: an operator detached it, `cdnctl attach` puts it on"
        )
        self.tell("attach", f"data path {how}, attached to {where}", "notice")
        recovery.recover(self)

    def _expanded(self, config: Config) -> Config:
        """With what it only names. Raises CdnctlError."""
        resolve_first(self.names, config)
        return expansion.with_addresses(expansion.with_regions(config), self.names.addresses)

    async def look_outside(self) -> None:
        """Probes, names and feeds, until it is cancelled."""
        await self.scouts.run()

    def adopt_addresses(self) -> list[str]:
        """Have the endpoints that names lead to now; warnings. Raises CdnctlError or OSError."""
        return self._changes.adopt_addresses()

    def use(self, tables: Tables, kernel_blocks: KernelBlocks) -> None:
        """Work on these; `start` opens them itself, a reload may open others."""
        self.tables = tables
        self.blocks = Blocks(kernel_blocks, tables)
        self.attachment.use(tables)

    def close(self, *, detach: bool = False) -> None:
        """Stop reading; take the data path down too when asked."""
        self.planning.close()
        self._stop_reading()
        if detach:
            self.detach_all()
            self.program.remove()
            self.neighbours.release()
        self.neighbours.close()

    def _stop_reading(self) -> None:
        self.attachment.close()
        self._nat_log.close()
        for name in ("reader", "sweep"):
            if opened := self.__dict__.pop(name, None):
                opened.close()

    def _undo_start(self, fresh: bool) -> None:
        """A failed start leaves what it found: nothing, or the data path of before."""
        self._stop_reading()
        if fresh:
            self.detach_all()
            self.program.remove()
        else:
            self.program.abandon()

    def attach_all(self) -> None:
        """Attach to every configured interface, or leave all as they were. Raises CdnctlError."""
        self.attachment.attach()

    def detach_all(self) -> list[str]:
        """Take the program off; the pins stay."""
        return self.attachment.detach()

    # -- putting the configuration and the state into the kernel --

    def _bring_up_to_date(self) -> None:
        for warning in restore.clean(self.state, self.config):
            self.tell("warning", warning, "warning")
        self._take_over_mode()  # first: the settings tell new tables from old ones
        settings.write_settings(self.config, self.tables)
        self._put_blocks()
        self.put_config()

    def _read_state(self) -> None:
        self.state = self.store.load()
        self.state.revision = max(1, self.state.revision)
        for warning in self.store.warnings:
            self.tell("warning", warning, "warning")

    def _put_blocks(self) -> None:
        keep = any(feed.kind == "blocks" for feed in self.config.feeds)
        self.blocks.load(self.state.blocks, keep=keep)
        self.state.blocks = []  # from here on the list holds

    def _settle_state(self) -> None:
        self.store.settle(self.state, list(self.blocks.wanted))

    def put_config(self) -> None:
        """Have the tables as the configuration, and the operators' words on top of it, say.

        No packet of a service finds less than before meanwhile: what is new comes first, from the last
        link of the chain to the first (endpoints, tables, services, addresses), and only then anything
        goes: `let_go`, once all flows are in these tables. Raises CdnctlError, OSError; then part of it may
        be in force.
        """
        config, tables = self.config, self.tables
        self.layout = layout.plan(config, tables)
        settings.forget_before(self.layout, tables)
        settings.write_settings(config, tables)
        settings.write_capacities(config, self.layout, tables)
        self.write_clients()
        settings.write_management(config, tables)
        self.door.use()
        self.announced.use()
        self.attachment.links.refresh()
        self.put_shield()
        self.banning.use()
        self.neighbours.want(layout.hop_addresses(config, self.layout, tables))
        if not self.state.detached:
            self.neighbours.keep()
            self._ticker.changes(self.neighbours.changes())
        self.steer()
        for key in tables.choice.services().keys() - {place.kernel_key for place in self.layout.services}:
            tables.choice.drop_service(key)
        settings.write_addresses(config, self.layout, tables)

    def put_shield(self) -> None:
        """Have the shield keep what configuration, numbers of links and services say. Raises OSError."""
        outside = outside_bits(self.config.shield.outside, self.attachment.links.ids)
        tcp = {place.id: place.protocol == "tcp" for place in self.layout.services}
        self.shielding.use(self.config, self.tables, outside, tcp)
        self.suspecting.use(self.config, self.tables)

    def follow_config(self) -> None:
        """Have what plans and pictures go by the configuration and its numbers as they are now."""
        self.ports.follow(settings.port_room(self.config, self.layout))
        self.video.follow(self.config, self.layout)
        self.observer.follow(self.config, self.layout, self.tables)
        self.scouts.follow()

    def let_go(self) -> list[str]:
        """Of what left the configuration, whatever has no flow any more; returns what has."""
        leaving = leavers.let_go(self.config, self.layout, self.tables)
        for said in leaving.gone:
            self.tell("note", said)
        return leaving.staying

    def _take_over_mode(self) -> None:
        """The kernel's word holds: root may have switched it while no agent ran.

        New tables have none yet, and take the state's.
        """
        if self.tables.settings.generation:
            self.transactions.past.take_over(self.tables.mode)
            return
        mode = self.tables.mode
        if not self.state.armed:
            mode |= abi.Mode.DISARMED
        if self.state.observing:
            mode |= abi.Mode.OBSERVE
        self.tables.mode = mode

    def write_clients(self) -> None:
        """Put customers, limits, regions and who is allowed into the kernel. Raises OSError."""
        allowed = [each.prefix for each in self.state.allowed]
        settings.write_clients(self.config, self.layout, self.tables, self.state.limits, allowed)

    def steer(self) -> None:
        """Put weights and drains into the kernel. Raises CdnctlError before anything is written."""
        steering.check(self.config, self.weights(), self.drained())
        steering.apply(self.config, self.layout, self.tables, self.steering())
        self.planning.took()

    def steering(self, state: State | None = None) -> steering.Steering:
        """What is to be in force, now or by another state: operators' words, and what the planner makes of
        them.
        """
        kept = self.video.kept if hasattr(self, "video") else {}
        kept = {cdn: part for cdn, part in kept.items() if cdn in self.layout.cdns}
        weights, drained = self.weights(state), self.drained(state)
        ill, cells = self.planning.left_out_by(weights, drained), self.planning.cell_factors
        wanted = steering.Steering(steering.scaled(weights, self.planning.factors), drained, kept, ill, cells)
        is_crowded = bool(cells) and not steering.has_room(self.config, self.layout, wanted)
        if state is None:  # of another it is only asked what would be
            self.planning.cells.is_crowded = is_crowded
        return wanted._replace(cells={}) if is_crowded else wanted

    def weights(self, state: State | None = None) -> dict[str, int]:
        """What is wanted now, or by another state: the operators' word, else the configuration's."""
        said = (state or self.state).weights
        return {cdn.name: said.get(cdn.name, cdn.weight) for cdn in self.config.cdns}

    def drained(self, state: State | None = None) -> list[str]:
        """The CDNs that operators drained."""
        said = (state or self.state).drained
        return [cdn.name for cdn in self.config.cdns if cdn.name in said]

    def pick_rows(self) -> Iterator[tuple[layout.ServicePlace, list[list[array[int]]]]]:
        """What every service is to pick from now."""
        return steering.pick_rows(self.config, self.layout, self.steering())

    def matched(self, network: blocklist.Network) -> consequences.Matched:
        """What a prefix is of the traffic now."""
        talkers, open_flows = [], 0
        if hasattr(self, "observer"):
            talkers = self.observer.talkers.top(TALKERS_LOOKED_AT)
            open_flows = sum(row[abi.SlotState.ESTABLISHED] for row in self.sweep.open.values())
        return consequences.matched(self.tables, talkers, network, open_flows)

    # -- frames --

    def look(self) -> None:
        """Between two frames: what cannot wait for the next. Raises OSError."""
        services = (place.id for place in self.layout.services)
        now = lookout.glance(self.tables, services, self.layout.cdns)
        self._lookout.look(now, self.observer, self.shielding, armed=not self.tables.mode)

    def frame(self) -> Frame:
        """The next frame, numbered."""
        self.transactions.tick()
        now_ns = self.observer.observe()
        self._expire_blocks()
        self._ticker.reflexes(self.reader.take_events(), self.layout.by_id())
        self._log_bindings()
        if self.attachment.attached:
            self.neighbours.keep_on()
        self._ticker.changes(self.neighbours.changes())
        self._ticker.changes(self.attachment.changes())
        steering.reconcile(self.tables)
        self._collect()
        self.attachment.look(detached=self.state.detached)
        mode = self._follow_mode()
        self._plan_video(mode)
        verdicts = self.observer.verdicts()
        self._ticker.nowhere(verdicts)
        totals = self.observer.totals(verdicts)
        half_open_share = totals.half_open / totals.half_open_limit
        self.shielding.tick(self.observer.window, half_open_share, armed=not mode)
        self.banning.tick(self.observer.samples, armed=not mode)
        customers = self.customers()
        suspicion, manners = self.suspecting.picture()
        self._frame_seq += 1
        frame = Frame(
            seq=self._frame_seq,
            at_ns=time.time_ns(),
            monotonic_ns=now_ns,
            edge=self.config.edge.name,
            loaded=self.attachment.is_loaded,
            armed=abi.Mode.DISARMED not in mode,
            bypassed=abi.Mode.BYPASS in mode,
            observing=abi.Mode.OBSERVE in mode,
            generation=self.tables.settings.generation,
            interfaces=self.attachment.interfaces(),
            services=self.observer.services(),
            cdns=self.observer.cdns(self._wanted(), now_ns),
            verdicts=verdicts,
            talkers=self.observer.top_talkers(20),
            blocks=self.blocks.newest(FRAME_BLOCKS),
            blocks_wanted=len(self.blocks.wanted) + sum(self.blocks.listed.by_feed().values()),
            blocks_enforced=self.blocks.enforced,
            blocks_by_source={**self.blocks.wanted.by_source, **self.blocks.listed.by_feed()},
            block_prefixes=self.blocks.prefix_count,
            customers=customers[:FRAME_CUSTOMERS],
            customers_total=len(customers),
            allowed=len(self.state.allowed),
            events=self._ticker.take(),
            totals=totals,
            sampling=self.observer.sampling(now_ns),
            collector=CollectorPicture(
                rounds_total=self.sweep.rounds,
                freed_total=self.sweep.freed,
                round_s=self.collector.round_s,
                cpu=self.collector.cpu,
                tightest=self.ports.tightest,
            ),
            maps=self._maps(),
            state_version=self.state.revision,
            pending=self.transactions.picture(),
            planner=self.planning.picture(),
            held_back=self._held_back.picture(
                self.config.path, self.config.edge.name, self.config_in_force, self.transactions.pending
            ),
            shield=self.shielding.picture(self.observer.window, half_open_share),
            autoban=self.banning.picture(),
            door=self.door.picture(),
            suspicion=suspicion,
            manners=manners,
            step=self.step,
            agent_pid=os.getpid(),
            agent_started_ns=self._started_ns,
        )
        self.planning.tick(frame)
        return frame

    def _maps(self) -> list[MapFill]:
        """The tables that fill: with flows, with ports in use, with blocks."""
        held = sum(sum(row) for row in self.sweep.open.values())
        ports = sum(settings.port_room(self.config, self.layout).values())
        return [
            *self._fills.tick(self.tables),
            MapFill(name="reverse", entries=held, room=ports),
            MapFill(name="blocks", entries=self.blocks.enforced, room=self.config.limits.block_entries),
        ]

    def times(self) -> dict[str, Times]:
        """How long handshakes and first bytes took, by CDN: the histograms of the newest frame's moment."""
        return observed_times(self.observer.window.newest)

    def metrics_listen(self) -> tuple[str, int] | None:
        """Where Prometheus is to find them; None: nowhere."""
        return self.config.metrics.place

    def sampled(self, wanted: PacketFilter) -> Sampled:
        """The sampled packets of the last frame's time that match. Raises ValueError for an odd filter."""
        observer = self.observer
        return watching.sampled(
            observer.samples, wanted, observer.cdn_names(), one_in=observer.one_in, lost=self.reader.lost
        )

    def customers(self) -> list[Customer]:
        """All customers, the busiest first."""
        return self.observer.customers(self.state.limits)

    def customer(self, name: str) -> Customer | None:
        """What one of them takes, once frames are taken."""
        known = self.customers() if hasattr(self, "observer") else ()
        return next((each for each in known if each.name == name), None)

    def _wanted(self) -> Wanted:
        weights, drained, planning = self.weights(), self.drained(), self.planning
        in_force = shares(steering.scaled(weights, planning.factors), drained)
        return Wanted(weights, drained, in_force, self.video.kept, planning.left_out, planning.plans())

    def _plan_video(self, mode: abi.Mode) -> None:
        """Video leaves CDNs that have become bad; of an edge that is switched off nothing is known."""
        if not self.video.applies:
            return
        shifts: list[Shift] = []
        changed = False
        if mode:
            changed = self.video.forget()
        else:
            drained = self.drained()
            weights = {cdn: 0 if cdn in drained else weight for cdn, weight in self.weights().items()}
            shifts = self.video.tick(self.observer.window, weights)
        if not (shifts or changed):
            return
        try:
            steering.put_services(self.config, self.layout, self.tables, self.steering())
        except (CdnctlError, OSError) as error:
            self.tell("warning", f"video cannot be shifted: {error}", "warning")
            self.video.forget()
            return
        for shift in shifts:
            self.tell("shift", video_words(shift), "notice", cdn=shift.cdn)

    def _log_bindings(self) -> None:
        bindings = self.reader.take_bindings()
        if not self.config.log.nat:
            return
        said = self._nat_log.write(bindings, self.reader.bindings_lost, self.config, self.layout)
        if said:
            self.tell("warning", said, "warning")

    def _expire_blocks(self) -> None:
        expired, error = self.blocks.expire()
        if error is not None:
            self.tell("warning", f"cannot take ended blocks out of the kernel's tables: {error}", "warning")
        elif expired:  # in the blocks' file they have ended, too: by themselves
            for block in expired[:5]:
                self.tell("expire", f"the block of {block.prefix} ({block.source}) has ended", "info")

    def _collect(self) -> None:
        """Let the collector of dead slots go on; its census says how long the ports will last."""
        now_s = time.monotonic()
        with contextlib.suppress(OSError):  # whoever misses the program says so
            if self.collector.tick(now_s):
                self.ports.note({number: sum(row) for number, row in self.sweep.open.items()}, now_s)
                self.collector.tightest = self.ports.tightest
                self.let_go()
        self._ticker.ports(self.ports.foretold(now_s), self.layout.by_id())

    def _follow_mode(self) -> abi.Mode:
        """The kernel's mode; somebody may have switched it past a hung agent."""
        mode = self.tables.mode
        now = objects.switches_of(mode)
        if any(objects.of_state(self.state, what) != value for what, value in now.items()):
            self.transactions.past.found(now)
        return mode

    # -- commands --

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        """Carry out one command. Whatever can be foreseen comes back as an Outcome that is not ok."""
        return self._changes.execute(command, actor)

    async def reload(self, command: Lasting, actor: Actor) -> Outcome:
        """The same for what may take its time. Frames and commands go on meanwhile."""
        return await self._changes.reload(command, actor)

    async def diff(self, command: Diff) -> Outcome:
        """All that the kernel holds otherwise. Frames and commands go on meanwhile."""
        return await self._changes.diff(command)
