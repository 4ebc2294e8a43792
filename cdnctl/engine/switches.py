"""Commands that switch the whole edge: disarm, arm, bypass, mode, shield, model, attach, detach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import to_builtins

from cdnctl.engine import objects, risks, shield, suspicion
from cdnctl.engine.consequences import cuts
from cdnctl.engine.planned import Planned
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    FEATURES,
    Arm,
    Attach,
    Bypass,
    Detach,
    Disarm,
    LoadModel,
    SetAutoban,
    SetMode,
    SetModel,
    SetShield,
)

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_ARMED, _OBSERVING, _BYPASSED = map(objects.switch, ("armed", "observing", "bypassed"))


class Switches:
    """Plans them on an engine. Panic works also when the disk is full."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def disarm(self, _command: Disarm) -> Planned:
        """Nothing is dropped or ejected."""
        what = "no source is blocked, no CDN ejected; new flows follow plain weights"
        return Planned(
            after={_ARMED: False, _BYPASSED: False},
            would=f"would disarm: {what}",
            done=lambda: f"disarmed: {what}",
            again=True,
            despite_disk=True,
        )

    def arm(self, _command: Arm) -> Planned:
        """Back from that, and from bypass."""
        after = {_ARMED: True, _BYPASSED: False}
        return Planned(after=after, would="would arm", done=lambda: "armed", again=True)

    def bypass(self, command: Bypass) -> Planned:
        """Every packet passes."""
        flows = self._cut(command.dry_run)
        what = "every packet passes untouched; this cuts {} translated flows"
        # counted last: an operator who bypasses is in a hurry
        return Planned(
            after={_BYPASSED: True},
            would=f"would bypass: {what.format(flows)}",
            done=lambda: "bypassed: " + what.format(self._cut(True)),
            risk=cuts(flows),
            again=True,
            despite_disk=True,
        )

    def mode(self, command: SetMode) -> Planned:
        """Only observe, or act."""
        observe = command.mode == "observe"
        if observe == objects.read(self._engine, _OBSERVING):
            said = f"the edge {'observes' if observe else 'acts on what it decides'} already"
            return Planned(after={}, would=said, done=lambda: said)
        if not observe:
            text = "acts on what it decides: new flows are translated from now on"
            return Planned(
                after={_OBSERVING: False},
                would=f"would be active: the edge {text}",
                done=lambda: f"active: the edge {text}",
                risk=risks.ALL_FLOWS,
            )
        flows = self._cut(command.dry_run)
        what = "it decides and counts, but every packet passes; this cuts {} translated flows"
        return Planned(
            after={_OBSERVING: True},
            would=f"would observe: {what.format(flows)}",
            done=lambda: "observing: " + what.format(self._cut(True)),
            risk=cuts(flows),
        )

    def shield(self, command: SetShield) -> Planned:
        """Hold a level, or follow the load."""
        engine, wish = self._engine, command.level
        held = wish if wish != "auto" else engine.shielding.asked
        warnings = []
        if not engine.state.armed:
            warnings.append("the edge is disarmed: nothing is shed or challenged until it is armed again")
        return Planned(
            after={objects.SHIELD: wish},
            would=f"would have it so: {shield.words(wish, held)}; cost: {shield.cost(engine.config, held)}",
            done=lambda: shield.words(wish, engine.shielding.level),
            warnings=warnings,
            again=True,
        )

    def autoban(self, command: SetAutoban) -> Planned:
        """Have blocks set themselves, only say which, or not at all."""
        engine, wish = self._engine, command.mode
        mode = engine.config.autoban.mode if wish == "config" else wish
        warnings = []
        what = {
            "off": "no block sets itself, and those that did are lifted",
            "dry-run": "it is told whom a ban would be for, and those there are are lifted",
            "on": "who is over a threshold of [autoban] is banned while that lasts",
        }[mode]
        if mode == "on" and not engine.state.armed:
            warnings.append("the edge is disarmed: nobody is banned until it is armed again")
        return Planned(
            after={objects.AUTOBAN: wish},
            would=f"would have it so: autoban is {mode}: {what}",
            done=lambda: f"autoban is {mode}: {what}",
            warnings=warnings,
            again=True,
        )

    def model(self, command: SetModel) -> Planned:
        """Look at sources' manners, and let that decide, or not."""
        engine, fit = self._engine, self._engine.state.fit
        engine.suspecting.require_fit(command.mode)
        mode = engine.suspecting.mode_of(suspicion.Wish(command.mode, fit))
        said = suspicion.words(mode, fit, engine.config.model.times)
        warnings = []
        if mode == "on" and engine.shielding.level == "calm":
            warnings.append("the shield is calm: nobody has a budget until it is busy")
        return Planned(
            after={objects.MODEL_MODE: command.mode},
            would=f"would have it so: {said}",
            done=lambda: said,
            warnings=warnings,
            again=True,
        )

    def load_model(self, command: LoadModel) -> Planned:
        """Weigh by this one from now on."""
        engine, fit = self._engine, command.fit
        if not fit.name or not any(fit.row):
            raise CdnctlError("a model without a name, or that weighs nothing", "`cdnctl train` makes one")
        mode = engine.suspecting.mode_of(suspicion.Wish(engine.state.model, fit))
        unknown = sorted(fit.weights.keys() - set(FEATURES))
        if unknown:
            raise CdnctlError(
                f"a model of features that this cdnctl does not know: {', '.join(unknown)}",
                f"it knows {', '.join(FEATURES)}",
            )
        said = f"model {fit.name} is loaded; it is {mode}"
        return Planned(
            after={objects.MODEL_FIT: to_builtins(fit)},
            would=f"would load model {fit.name}; it is {mode}",
            done=lambda: said,
            again=True,
        )

    def attach(self, _command: Attach) -> Planned:
        """Put the program on."""
        names = ", ".join(self._engine.config.edge.interfaces)
        return Planned(
            after={objects.ATTACHMENT: True},
            would=f"would attach to {names}",
            done=lambda: f"attached to {names}",
            again=True,
        )

    def detach(self, command: Detach) -> Planned:
        """Take it off."""
        engine = self._engine
        if engine.state.detached and not engine.attachment.attached:
            said = "detached already: `cdnctl attach` puts the edge on again"
            return Planned(after={}, would=said, done=lambda: said)
        names, flows = ", ".join(engine.attachment.attached) or "nothing", self._cut(command.dry_run)
        return Planned(
            after={objects.ATTACHMENT: False},
            would=f"would detach from {names}; this cuts {flows} translated flows",
            done=lambda: f"detached from {names}; {self._cut(True)} translated flows were cut",
            risk=cuts(flows),
            again=True,
            despite_disk=True,
        )

    def _cut(self, counted: bool) -> int | str:
        """Flows that are translated now; not counted for an operator who has decided."""
        return self._engine.tables.live_flows() if counted else "all"
