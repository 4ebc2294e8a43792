"""The engine: loads and attaches the data path, makes frames, carries out commands.

Synchronous, and used from one thread. Every change is refused whole or carried out whole: the kernel
first, then the state file, then the journal; if one of the latter two fails, the operator is told.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import time
from typing import Any

from msgspec.structs import replace

from cdnctl.config import Config
from cdnctl.datapath import abi, attach, host, network, perf, toolchain
from cdnctl.datapath.attach import Attached
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.neighbours import Neighbours
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import Tables
from cdnctl.defence.blocklist import Blocklist, Delta, parse_prefix
from cdnctl.engine import frames, layout, restore, steering
from cdnctl.engine.changes import Changes
from cdnctl.engine.journal import Journal
from cdnctl.engine.ticker import Ticker
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    FRAME_BLOCKS,
    Actor,
    AnyCommand,
    Block,
    Frame,
    Outcome,
)
from cdnctl.paths import forwarding_path, state_dir
from cdnctl.state import State, StateStore

FIRST_GENERATION = 1


class Engine:
    """One edge. `start` before anything else; `close` leaves the data path up unless told otherwise."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.program = Program(config.edge.name)
        self.store = StateStore(state_dir(config.edge.name))
        self.journal = Journal(state_dir(config.edge.name) / "journal.jsonl")
        self.state = State()
        self.blocklist = Blocklist()
        self.attached: dict[str, Attached] = {}
        self.step = ""
        self._ticker = Ticker()
        self.tell = self._ticker.tell
        self._frame_seq = 0
        self._started_ns = time.time_ns()
        self._forwarding = network.Forwarding(forwarding_path(config.edge.name))
        self.neighbours = Neighbours(frames.endpoint_addresses(config))
        self._changes = Changes(self)

    # -- life --

    def start(self) -> None:
        """Load (or take over) the data path, bring it up to date, attach. Raises CdnctlError."""
        if os.geteuid() != 0:
            raise CdnctlError("the agent must be root to load and attach the data path", "use sudo")
        toolchain.import_bcc()  # says which package is missing, before anything is made
        fresh = not self.program.exists()
        attach.check(self.config.edge.interfaces, frozenset() if fresh else self.program.maps())
        for clash in host.port_clashes(self.config):
            raise CdnctlError(f"[edge] snat {clash.address} is {clash.why}", f"set {clash.remedy}")
        self.state = self.store.load()
        for warning in self.store.warnings:
            self.tell("warning", warning, "warning")
        compiled = self.program.prepare(self.config)
        try:
            self.tables = Tables(self.program.pins)
            self.kernel_blocks = KernelBlocks(self.program.pins)
            self._bring_up_to_date()
            self.reader = perf.PerfReader(self.program.current)
            self.observer = frames.Observer(self.config, self.layout, self.tables, self.reader)
            if not self.state.detached:
                self.attach_all()
        except BaseException:
            self._undo_start(fresh)
            raise
        self.program.commit()
        self._leave_others()
        self.observer.observe()
        how = "compiled and loaded" if compiled else "taken over as it was"
        where = ", ".join(self.attached) or "nothing: an operator detached it, `cdnctl attach` puts it on"
        self.tell("attach", f"data path {how}, attached to {where}", "notice")

    def close(self, *, detach: bool = False) -> None:
        """Stop reading; take the data path down too when asked."""
        if hasattr(self, "reader"):
            self.reader.close()
        if detach:
            self.detach_all()
            self.program.remove()
            self.neighbours.release()
        self.neighbours.close()

    def _undo_start(self, fresh: bool) -> None:
        """A failed start leaves what it found: nothing, or the data path of before."""
        if hasattr(self, "reader"):
            self.reader.close()
        if fresh:
            self.detach_all()
            self.program.remove()
        else:
            self.program.abandon()

    def _leave_others(self) -> None:
        """Detach from the interfaces that an earlier configuration had."""
        maps = self.program.maps()
        for name, _ in attach.attached_to(maps):
            if name not in self.config.edge.interfaces and attach.detach(name, maps):
                self._forwarding.restore([name])
                self.tell("attach", f"detached from {name}, which the configuration has no more", "notice")

    def attach_all(self) -> None:
        """Attach to every configured interface, or leave all as they were."""
        names = self.config.edge.interfaces
        if not self.program.exists():
            raise CdnctlError(
                "the data path was unloaded past this agent",
                "end the agent and start it again: its flows are gone",
            )
        program, changed = self.program.open(), list[str]()
        try:
            attach.check(names, self.program.maps())
            # everywhere first: the first packet of the first interface may leave by the last one
            for name in names:
                if self._forwarding.enable(name):
                    changed.append(name)
            if changed:
                self.tell(
                    "warning",
                    f"IPv4 forwarding was off on {', '.join(changed)}: switched on, for translated packets",
                    "warning",
                )
            for result in attach.attach_all(names, program, self.config.edge.attach):
                self.attached[result.name] = result
                if result.warning:
                    self.tell("warning", result.warning, "warning")
        except BaseException as error:
            live = {name for name, _ in attach.attached_to(self.program.maps())}
            self._forwarding.restore(set(changed) - live)
            if isinstance(error, OSError):
                raise CdnctlError(
                    f"cannot attach: {error}", "run as root, with CAP_NET_ADMIN and CAP_BPF"
                ) from error
            raise
        finally:
            os.close(program)

    def detach_all(self) -> list[str]:
        """Take the program off; the pins stay."""
        self.attached.clear()
        try:
            maps = self.program.maps()
        except OSError:  # no pins, nothing attached
            maps = frozenset()
        names = [name for name, _ in attach.attached_to(maps) if attach.detach(name, maps)]
        self._forwarding.restore()
        return names

    # -- putting the configuration and the state into the kernel --

    def _bring_up_to_date(self) -> None:
        config, tables = self.config, self.tables
        self.layout = layout.plan(config, tables)
        for warning in restore.clean(self.state, config):
            self.tell("warning", warning, "warning")
        self._take_over_mode()  # first: the settings tell new tables from old ones
        self._write_settings()
        self._load_blocks()
        tables.set_management([ipaddress.IPv4Network(prefix) for prefix in config.edge.management])
        if not self.state.detached:
            self.neighbours.keep()
            self._ticker.neighbours(self.neighbours.changes())
        self.steer()
        services = {(service.vip, service.port) for service in config.services}
        for vip, port in set(tables.service_ids()) - services:
            tables.drop_service(vip, port)
        for service in config.services:
            tables.put_local(service.vip, abi.LocalKind.VIP)
        for index, address in enumerate(config.edge.snat):
            tables.put_local(address, abi.LocalKind.SNAT, index)
        tables.keep_local({*config.edge.snat, *(service.vip for service in config.services)})

    def _write_settings(self) -> None:
        config, settings = self.config, self.tables.settings
        first, last = config.edge.snat_ports
        if not settings.generation:
            settings.generation = FIRST_GENERATION
            settings.seed = secrets.randbits(32)
            settings.sample_one_in = 1
        settings.port_min_host = first
        settings.ports = last - first + 1
        settings.snat_count = len(config.edge.snat)
        settings.endpoint_stride = config.limits.endpoints
        for index, address in enumerate(config.edge.snat):
            settings.snat[index] = abi.address(address)
        settings.dark_connects = config.reflex.dark_connects
        settings.refused_connects = config.reflex.refused_connects
        settings.slow_connects = config.reflex.slow_connects
        settings.distinct_prefixes = config.reflex.distinct_prefixes
        settings.out_ns = int(config.reflex.out_s * 1e9)
        settings.max_out_ns = int(config.reflex.max_out_s * 1e9)
        settings.rescue_after_ns = int(config.reflex.rescue_after_ms * 1e6)
        self.tables.settings = settings

    def _take_over_mode(self) -> None:
        """The kernel's word holds: root may have disarmed or armed it while no agent ran.

        New tables have none yet, and take the state's.
        """
        if self.tables.settings.generation:
            self.state.armed = abi.Mode.DISARMED not in self.tables.mode
        elif not self.state.armed:
            self.tables.mode = self.tables.mode | abi.Mode.DISARMED

    def _load_blocks(self) -> None:
        for block in self.state.blocks:
            self.blocklist.add(block)
        self.blocklist.expire(time.time_ns())
        self.kernel_blocks.load(self.blocklist.kernel_view())
        self.tables.bump_generation()

    def steer(self) -> None:
        """Put weights and drains into the kernel. Raises CdnctlError before anything is written."""
        steering.check(self.config, self.weights(), self.drained())
        steering.apply(self.config, self.layout, self.tables, self.weights(), self.drained())

    def write_blocks(self, delta: Delta) -> None:
        """Put a change of the block list into the kernel; what is new cuts live flows at once."""
        for prefix in delta.removed:
            self.kernel_blocks.remove(prefix)
        written = {**delta.changed, **delta.added}
        freed = [self.kernel_blocks.put(prefix, expires_ns) for prefix, expires_ns in written.items()]
        if delta.added or any(freed):
            self.tables.bump_generation()

    def block(self, block: Block) -> None:
        """Want `block`, and enforce it. Raises OSError or ValueError; then all is as it was."""
        before = self._blocks_of(block.prefix, block.source)
        delta = self.blocklist.add(block)
        try:
            self.write_blocks(delta)
        except OSError:
            self._put_back(block.prefix, block.source, before)
            raise

    def unblock(self, prefix: str, source: str) -> None:
        """Want it no longer. Raises OSError or ValueError; then all is as it was."""
        before = self._blocks_of(prefix, source)
        delta = self.blocklist.remove(prefix, source)
        try:
            self.write_blocks(delta)
        except OSError:
            self._put_back(prefix, source, before)
            raise

    def _blocks_of(self, prefix: str, source: str) -> list[Block]:
        return [block for block in self.blocklist.find(prefix) if block.source == source]

    def _put_back(self, prefix: str, source: str, before: list[Block]) -> None:
        """The wanted list as it was, and the kernel after it, as far as the kernel lets us."""
        with contextlib.suppress(ValueError):
            self.blocklist.remove(prefix, source)
        for block in before:
            self.blocklist.add(block)
        network, end_ns = parse_prefix(prefix), self.blocklist.end(prefix)
        with contextlib.suppress(OSError):
            if end_ns is None:
                self.kernel_blocks.remove(network)
            else:
                self.kernel_blocks.put(network, end_ns)

    def weights(self) -> dict[str, int]:
        """What is wanted now: the operators' word, else the configuration's."""
        return {cdn.name: self.state.weights.get(cdn.name, cdn.weight) for cdn in self.config.cdns}

    def drained(self) -> list[str]:
        """The CDNs that operators drained."""
        return [cdn.name for cdn in self.config.cdns if cdn.name in self.state.drained]

    # -- frames --

    def frame(self) -> Frame:
        """The next frame, numbered."""
        now_ns = self.observer.observe()
        self._expire_blocks()
        self._ticker.reflexes(self.reader.take_events(), self.layout.by_id())
        if self.attached:
            self.neighbours.keep_on()
        self._ticker.neighbours(self.neighbours.changes())
        steering.reconcile(self.tables)
        self._look_at_interfaces()
        mode = self._follow_mode()
        verdicts = self.observer.verdicts()
        self._ticker.nowhere(verdicts)
        wanted = frames.Wanted(
            self.weights(), self.drained(), steering.split(self.layout, self.weights(), self.drained()).shares
        )
        self._frame_seq += 1
        return Frame(
            seq=self._frame_seq,
            at_ns=time.time_ns(),
            monotonic_ns=now_ns,
            edge=self.config.edge.name,
            armed=abi.Mode.DISARMED not in mode,
            bypassed=abi.Mode.BYPASS in mode,
            generation=self.tables.settings.generation,
            interfaces=frames.interfaces(self.config, self.attached),
            services=self.observer.services(),
            cdns=self.observer.cdns(wanted, now_ns),
            verdicts=verdicts,
            talkers=self.observer.talkers.top(20, self.observer.talker_names()),
            blocks=self.blocks(FRAME_BLOCKS),
            blocks_wanted=len(self.blocklist),
            blocks_enforced=self.kernel_blocks.count(),
            events=self._ticker.take(),
            totals=self.observer.totals(verdicts),
            sampling=self.observer.sampling(now_ns),
            step=self.step,
            agent_pid=os.getpid(),
            agent_started_ns=self._started_ns,
        )

    def blocks(self, count: int | None = None) -> list[Any]:
        """The wanted blocks, the newest first, with their hits."""
        chosen = self.blocklist.newest(len(self.blocklist) if count is None else count)
        return [
            replace(block, hits=self.kernel_blocks.hits(ipaddress.IPv4Network(block.prefix)))
            for block in chosen
        ]

    def _expire_blocks(self) -> None:
        expired, delta = self.blocklist.expire(time.time_ns())
        if not expired:
            return
        try:
            self.write_blocks(delta)
        except OSError as error:
            self.tell("warning", f"cannot take ended blocks out of the kernel's tables: {error}", "warning")
        self.state.blocks = list(self.blocklist)
        with contextlib.suppress(CdnctlError):
            self.store.save(self.state)
        for block in expired[:5]:
            self.tell("expire", f"the block of {block.prefix} ({block.source}) has ended", "info")

    def _look_at_interfaces(self) -> None:
        """What the kernel says of them holds: somebody may have taken the program off past the agent."""
        live = dict(attach.attached_to(frozenset({self.tables.identity})))
        for name in [name for name in self.attached if name not in live]:
            del self.attached[name]
            self.tell("attach", f"{name} has lost the program: it was taken off past the agent", "alarm")
        for name, mode in live.items():
            if name in self.attached:
                self.attached[name] = self.attached[name]._replace(mode=mode)

    def _follow_mode(self) -> abi.Mode:
        """The kernel's mode; somebody may have switched it past a hung agent."""
        mode = self.tables.mode
        armed = abi.Mode.DISARMED not in mode
        if armed != self.state.armed:
            self.state.armed = armed
            with contextlib.suppress(CdnctlError):
                self.store.save(self.state)
            self.tell("command", f"the edge was {'armed' if armed else 'disarmed'} past the agent", "warning")
        return mode

    # -- commands --

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        """Carry out one command. Whatever can be foreseen comes back as an Outcome that is not ok."""
        return self._changes.execute(command, actor)
