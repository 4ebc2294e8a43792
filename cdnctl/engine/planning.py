"""The planner's slot: each frame is a round, whose plan is put into the kernel as an operator's weights are.

Operators come first: the planner works with their weights, drains and pins, and only while the edge is
switched on. What it moves is an overlay: nothing of it is in the operators' state, and the mode `observe`
or `off` takes it away at once. Trouble in here costs a round, never a frame: the kernel goes on with the
weights that it has.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from cdnctl.engine import steering
from cdnctl.engine.plan_cells import CellPlanning
from cdnctl.engine.plan_pictures import Pictures, why_lines
from cdnctl.engine.plan_store import Kept, PlanStore
from cdnctl.engine.traffic import TrafficBook
from cdnctl.engine.wellness import Wellness, left_out
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    Actor,
    CdnPlan,
    Frame,
    Outcome,
    PlannerMode,
    PlannerPicture,
    PlanShift,
)
from cdnctl.model.planning import SHIFTS_KEPT
from cdnctl.paths import state_dir
from cdnctl.steering import shares
from cdnctl.steering.planner import Capacity, Cell, Settings, Shift, Wants, plan, readings, words
from cdnctl.steering.probes import Health, Passive, Probe, Result

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

PLANNER = Actor(user="planner", uid=0, pid=os.getpid(), client="planner", role="operate")

ROUND_S = 0.2
"""Frames that somebody asked for come besides: no two rounds are nearer than this."""
STEER_EVERY_S = 1.0
"""Tables are written no more often."""
SHIFTS_AN_HOUR = 240
"""More would be a fault of the planner's: it holds still then."""
LOOK_BACK_S = 5.0
"""Failures are counted over so long."""
RETURN = 0.1
"""The part of its weight that a CDN gets at first whose probes are good again."""

log = logging.getLogger("cdnctl.planner")


class Planning:
    """Of one engine."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self.clock = clock
        """Seconds of a steady clock."""
        self._store = PlanStore(state_dir(engine.config.edge.name))
        self._kept = Kept()
        self.cells = CellPlanning()
        self.traffic = TrafficBook()
        self.wellness = Wellness()
        self.pictures = Pictures()
        self.trouble = ""
        self.acts = False
        self.ill: list[str] = []
        """Endpoints that get no new flows."""
        self.rounds = 0
        self._round_s = self._steered_s = -1e9
        self._frames: deque[Frame] = deque()
        self._shifts: deque[PlanShift] = deque(maxlen=SHIFTS_KEPT)
        self._shifted_s: deque[float] = deque()
        self._in_force: object = ({}, {}, [])
        self._stuck: set[str] = set()
        """Bad endpoints that keep their flows, once an operator was told."""

    def start(self) -> None:
        """Take up what the last agent kept."""
        self._kept, self.traffic.foresight = self._store.load()
        self.traffic.usage = self._kept.usage
        for warning in self._store.warnings:
            self._engine.tell("warning", warning, "warning")
        self.acts = self._may_act() and self._kept.acted
        if self.acts:
            self.cells.take_up(self._kept.cells)
        else:
            self._kept.memory = {}

    def close(self) -> None:
        """Keep all of it."""
        try:
            self._save(at_once=True)
            self._store.save_foresight(self.traffic.foresight)
        except OSError as error:
            log.warning("the planner's memory cannot be kept: %s", error)

    # -- what is in force ---------------------------------------------------------------------------

    @property
    def mode(self) -> PlannerMode:
        """The operators' word, else the configuration's."""
        said = self._engine.state.planner
        return said if said in ("off", "observe", "on") else self._engine.config.planner.mode  # type: ignore[return-value]

    @property
    def factors(self) -> dict[str, float]:
        """By CDN, the part of its weight that it has now; those that have all are not in it."""
        if not (self.acts and self._may_act()):
            return {}
        pinned = self._engine.state.pinned
        return {
            cdn: each.factor
            for cdn, each in self._kept.memory.items()
            if each.factor < 1 and cdn not in pinned
        }

    @property
    def cell_factors(self) -> dict[Cell, dict[str, float]]:
        """The same beside that for the clients of a region and a class of traffic, where it is not all."""
        if not (self.acts and self._may_act()):
            return {}
        return self.cells.factors(self._engine.state.pinned)

    @property
    def left_out(self) -> list[str]:
        """Endpoints that get no new flows, for what probes say."""
        return self.left_out_by(self._engine.weights(), self._engine.drained())

    def left_out_by(self, weights: Mapping[str, int], drained: Collection[str]) -> list[str]:
        """The same under other words of operators: who was left out may be the last one then."""
        if not (self.ill and self.acts and self._may_act()):
            return []
        return self._dispensable(self._movable(self.ill), weights, drained)

    def _may_act(self) -> bool:
        engine = self._engine
        return (
            self.mode == "on"
            and not engine.state.detached
            and engine.state.armed
            and not engine.state.observing
        )

    # -- a round ------------------------------------------------------------------------------------

    def tick(self, frame: Frame) -> None:
        """The frame's round, if it is time for one."""
        now_s = self.clock()
        if now_s - self._round_s < ROUND_S:
            return
        self._round_s = now_s
        try:
            try:
                self._follow_switches(frame)
                self._round(frame, now_s)
            finally:
                self._apply(now_s)  # also when it failed: what operators took back is to go
            self.trouble = ""
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            if said != self.trouble:
                self.trouble = said
                log.exception("a round of the planner failed")
                self._engine.tell("warning", f"the planner cannot plan, weights stay: {said}", "warning")

    def _round(self, frame: Frame, now_s: float) -> None:
        engine = self._engine
        self._frames.append(frame)
        while (
            len(self._frames) > 2 and frame.monotonic_ns - self._frames[1].monotonic_ns >= LOOK_BACK_S * 1e9
        ):
            self._frames.popleft()
        before = self._frames[0]
        if before.agent_started_ns != frame.agent_started_ns or len(self._frames) < 2:
            before = None  # type: ignore[assignment]
        for told in self.traffic.add(frame, engine.config):
            engine.tell("surprise", told.text, "notice", cdn=told.cdn)
        if self.mode == "off":
            return
        self.rounds += 1
        self._leave_out(frame, before)
        if self._is_too_restless(now_s):
            return
        found, wants = readings(frame, before, self._capacities()), self._wants(frame)
        whole = found
        if self.cells.is_crowded:  # what cells are to do is not done: they excuse nobody
            whole = {name: each._replace(cells={}) for name, each in found.items()}
        done = plan(self._kept.memory, whole, wants, now_s, self._settings())
        self._kept.memory = done.memory
        for shift in done.shifts:
            self._note(shift, done.shares, now_s)
        self.cells.follow(engine.layout.regions)
        in_cells = self.cells.round(found, wants, done, now_s, self._settings())
        for shift in in_cells:
            self._note_cell(shift)
        self._save(at_once=bool(done.shifts or in_cells))

    def _follow_switches(self, frame: Frame) -> None:
        """What was found under other circumstances says nothing of these."""
        acts = self._may_act() and frame.armed and not frame.bypassed and not frame.observing
        if acts != self.acts:
            self.acts, self._kept.acted = acts, acts
            self._kept.memory = {}
            self.cells.forget()
            self._frames.clear()

    def _wants(self, frame: Frame) -> Wants:
        engine = self._engine
        weights = {cdn: float(weight) for cdn, weight in engine.weights().items()}
        pinned = [cdn for cdn in engine.state.pinned if cdn in weights]
        growth = self.traffic.growth(frame, engine.config.planner.horizon_s)
        self.pictures.growth = growth
        return Wants(
            weights=weights,
            drained=engine.drained(),
            pinned=pinned,
            costs=self.traffic.costs(engine.config),
            growth=growth,
        )

    def _settings(self) -> Settings:
        config = self._engine.config.planner
        return Settings(step=config.step, most_moved=config.most_moved)

    def _capacities(self) -> dict[str, Capacity]:
        return {
            cdn.name: Capacity(cdn.capacity.flows_per_s, cdn.capacity.mbit)
            for cdn in self._engine.config.cdns
            if cdn.capacity
        }

    def _is_too_restless(self, now_s: float) -> bool:
        while self._shifted_s and now_s - self._shifted_s[0] > 3600:
            self._shifted_s.popleft()
        return len(self._shifted_s) >= SHIFTS_AN_HOUR

    # -- probes -------------------------------------------------------------------------------------

    def hear(self, key: str, cdn: str, probe: Probe, result: Result, health: Health) -> None:
        """A probe's result; acted on at once when it is bad news."""
        was = health.state == "ill" and key not in self.ill
        for told in self.wellness.hear(key, cdn, probe, result, health):
            self._engine.tell("probe", told.text, "notice" if told.is_good else "warning", cdn=told.cdn)
        if was and self._frames and self.mode != "off":
            self._leave_out(self._frames[-1], self._frames[0])
            self._apply(self.clock(), at_once=True)

    def _leave_out(self, frame: Frame, before: Frame | None) -> None:
        """Endpoints whose probes are bad, as far as others can do without them."""
        engine = self._engine
        bad = self.wellness.bad(_passives(frame, before))
        known = {place.key: place.cdn for place in engine.layout.endpoints}
        order = [key for key in self.ill if key in bad] + [key for key in bad if key not in self.ill]
        order = self._movable(order)
        ill = self._dispensable(order, engine.weights(), engine.drained())
        for key in ill:
            if key not in self.ill:
                self._journal_probe(known[key], f"no new flows to {key}: {bad[key]}", bad[key])
        for key in self.ill:
            if key not in ill:
                why = "nobody else could take them" if key in order else "its probes are good"
                self._come_back(key, known.get(key, ""), ill, why)
        stuck = [key for key in order if key not in ill and key not in self._stuck]
        for key in stuck:
            engine.tell(
                "warning",
                f"{known[key]} ({key}) keeps its flows, for nobody could take them: {bad[key]}",
                "warning",
                cdn=known[key],
            )
        self._stuck = {*self._stuck, *stuck} & set(order)  # their texts have figures: always others
        self.ill = ill

    def _movable(self, keys: Iterable[str]) -> list[str]:
        """Endpoints there are, without those of pinned CDNs."""
        pinned = self._engine.state.pinned
        ours = {place.key for place in self._engine.layout.endpoints if place.cdn not in pinned}
        return [key for key in keys if key in ours]

    def _dispensable(
        self, keys: Iterable[str], weights: Mapping[str, int], drained: Collection[str]
    ) -> list[str]:
        """Those of them, the first ones first, that others can do without."""
        config, layout = self._engine.config, self._engine.layout
        services = [
            steering.servers(config, layout, service, place)
            for service in config.services
            for place in layout.services
            if place.name == service.name
        ]
        taking = {cdn: 0 if cdn in drained else weight for cdn, weight in weights.items()}
        return left_out(keys, services, taking, config.planner.most_moved)

    def _come_back(self, key: str, cdn: str, ill: list[str], why: str) -> None:
        """A CDN all of whose endpoints were left out begins with little."""
        ours = [place.key for place in self._engine.layout.endpoints if place.cdn == cdn and place.serves]
        if not ours:
            return
        memory = self._kept.memory.get(cdn)
        if (
            all(each in self.ill for each in ours)
            and memory is not None
            and cdn not in self._engine.state.pinned
        ):
            self._kept.memory[cdn] = replace(
                memory,
                kept=min(memory.kept, RETURN),
                factor=min(memory.factor, RETURN),
                moved_at_s=self.clock(),
                code="probed",
                numbers={},
            )
        self._journal_probe(cdn, f"new flows to {key} again: {why}", why)

    def _journal_probe(self, cdn: str, text: str, why: str) -> None:
        self._tell(cdn, "probes", f"{cdn}: {text}", {}, {"why": why})

    # -- into the kernel, the journal and the ticker --------------------------------------------------

    def _apply(self, now_s: float, *, at_once: bool = False) -> None:
        """Have the kernel pick by what is planned. Raises CdnctlError or OSError; it is tried again then."""
        wanted: object = self._wanted_in_force()
        if wanted == self._in_force or (not at_once and now_s - self._steered_s < STEER_EVERY_S):
            return
        self._steered_s = now_s
        self._engine.steer()
        self._in_force = wanted

    def took(self) -> None:
        """Somebody else has steered, with what is planned now."""
        self._in_force = self._wanted_in_force()

    def _wanted_in_force(self) -> object:
        return self.factors, self.cell_factors, sorted(self.left_out)

    def _note(self, shift: Shift, after: Mapping[str, float], now_s: float) -> None:
        self._shifted_s.append(now_s)
        text = words(shift)
        at = self.pictures.shares
        self.pictures.shares = dict(after)
        numbers = {"share before": shift.before, "share after": shift.after, **shift.numbers}
        self._tell(shift.cdn, shift.code, text, numbers, {"before": at, "after": dict(after)}, shift)

    def _note_cell(self, shift: Shift) -> None:
        """Shares in journal and picture are of the cell's flows."""
        numbers = {"share before": shift.before, "share after": shift.after, **shift.numbers}
        self._tell(shift.cdn, shift.code, words(shift), numbers, {}, shift)

    def _tell(
        self,
        cdn: str,
        code: str,
        text: str,
        numbers: dict[str, float],
        more: dict[str, Any],
        shift: Shift | None = None,
    ) -> None:
        """In the picture always; in ticker and journal where it acts."""
        before, after = (shift.before, shift.after) if shift else (0.0, 0.0)
        cell = shift.cell._asdict() if shift and shift.cell else {}
        self._shifts.appendleft(
            PlanShift(
                at_ns=time.time_ns(),
                cdn=cdn,
                code=code,
                before=before,
                after=after,
                text=text,
                numbers=numbers,
                **cell,
            )
        )
        if not self.acts:
            return
        self._kept.shifts_total += 1
        engine = self._engine
        engine.tell("shift", text, "notice" if shift else "warning", cdn=cdn)
        command = {"verb": "shift", "cdn": cdn, **cell, "code": code, "numbers": numbers, "reason": code}
        outcome = Outcome(ok=True, text=text, state_version=engine.state.revision)
        try:
            engine.journal.append(PLANNER, command, outcome, more.get("before"), more.get("after"))
        except OSError as error:
            log.warning("in force, but not in the journal: %s", error)

    def _save(self, *, at_once: bool = False) -> None:
        self._kept.usage = self.traffic.usage
        self._kept.cells = self.cells.kept()
        self._store.save(self._kept, self.traffic.foresight, at_once=at_once)

    # -- pictures -------------------------------------------------------------------------------------

    def picture(self) -> PlannerPicture:
        """For a frame."""
        return self.pictures.planner(
            self.traffic,
            mode=self.mode,
            acts=self.acts,
            rounds_total=self.rounds,
            shifts_total=self._kept.shifts_total,
            shifts=list(self._shifts),
            trouble=self.trouble
            or (
                f"more than {SHIFTS_AN_HOUR} shifts in an hour: it holds still"
                if self._is_too_restless(self.clock())
                else self.cells.trouble(self.clock())
            ),
        )

    def plans(self) -> dict[str, CdnPlan]:
        """What is said of each CDN, for a frame."""
        engine = self._engine
        return {
            cdn.name: self.pictures.cdn(
                cdn,
                self._kept.memory.get(cdn.name),
                self.wellness,
                self.traffic,
                pinned=cdn.name in engine.state.pinned,
                ill=[place.key for place in engine.layout.endpoints_of(cdn.name) if place.key in self.ill],
                cells=self.cells.plans(cdn.name),
            )
            for cdn in engine.config.cdns
        }

    def why(self, cdn: str) -> str:
        """Why a CDN has what it has, line by line. Raises CdnctlError."""
        engine = self._engine
        if cdn not in engine.layout.cdns:
            raise CdnctlError(f"there is no CDN {cdn!r}", f"there are {', '.join(engine.layout.cdns)}")
        weights, drained = engine.weights(), engine.drained()
        asked = shares.shares(weights, drained)
        effective = shares.shares(steering.scaled(weights, self.factors), drained)
        return "\n".join(
            why_lines(
                cdn,
                self.plans()[cdn],
                self._kept.memory.get(cdn),
                mode=self.mode,
                acts=self.acts,
                drained=cdn in drained,
                asked=asked[cdn],
                effective=0.0 if self._is_out(cdn) else effective[cdn],
                settings=self._settings(),
                now_s=self.clock(),
            )
        )

    def _is_out(self, cdn: str) -> bool:
        ours = [place.key for place in self._engine.layout.endpoints_of(cdn) if place.serves]
        left_out = self.left_out
        return bool(ours) and all(key in left_out for key in ours)


def _passives(frame: Frame, before: Frame | None) -> dict[str, Passive]:
    """What real flows of each CDN say, since the frame before."""
    return dict(_each_passive(frame, before)) if before is not None else {}


def _each_passive(frame: Frame, before: Frame) -> Iterator[tuple[str, Passive]]:
    earlier = {cdn.name: cdn for cdn in before.cdns}
    for cdn in frame.cdns:
        was = earlier.get(cdn.name)
        attempts = cdn.new_flows_total - was.new_flows_total if was else 0
        if was and attempts > 0:
            failed = max(0, cdn.rescued_from_total - was.rescued_from_total)
            yield cdn.name, Passive(attempts, min(1.0, failed / attempts))
