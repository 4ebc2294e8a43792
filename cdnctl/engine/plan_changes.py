"""What operators say to the planner, and ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cdnctl.engine import objects
from cdnctl.engine.planned import Planned
from cdnctl.errors import CdnctlError
from cdnctl.model import AskPlanner, Outcome, SetPlanner

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_DOES = {
    "off": "plans nothing; weights are the operators' alone",
    "observe": "plans and says what it would do; weights are the operators' alone",
    "on": "moves weights by itself",
}


class PlanChanges:
    """Plans and answers on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.table: dict[type[Any], Callable[[Any], Outcome | Planned]] = {
            SetPlanner: self.change,
            AskPlanner: self.ask,
        }

    def change(self, command: SetPlanner) -> Planned:
        """Its mode, a pin, or one less. Raises CdnctlError."""
        given = [each for each in (command.mode, command.pin, command.unpin) if each]
        if len(given) != 1:
            raise CdnctlError(
                "say one thing at a time: a mode, a pin or an unpin", "as in: cdnctl planner on"
            )
        if command.mode:
            text = f"set the planner {command.mode}: it {_DOES[command.mode]}"
            return Planned(after={objects.PLANNER: command.mode}, would=f"would {text}", done=lambda: text)
        name = command.pin or command.unpin
        engine, pinned = self._engine, bool(command.pin)
        if name not in engine.layout.cdns:
            raise CdnctlError(f"there is no CDN {name!r}", f"there are {', '.join(engine.layout.cdns)}")
        verb = "pin" if pinned else "unpin"
        if (name in engine.state.pinned) == pinned:
            said = f"{name} is {'pinned already' if pinned else 'not pinned'}"
            return Planned(after={}, would=said, done=lambda: said)
        return Planned(
            after={objects.pin(name): pinned},
            would=f"would {verb} {name}",
            done=lambda: f"{verb}ned {name}" + (": it keeps exactly its weight" if pinned else ""),
        )

    def ask(self, command: AskPlanner) -> Outcome:
        """What it does, or why one CDN has what it has."""
        planning = self._engine.planning
        picture = planning.picture()
        text = (
            planning.why(command.cdn)
            if command.cdn
            else f"the planner is {picture.mode}: it {_DOES[picture.mode]}"
        )
        plans = planning.plans()
        if command.cdn:
            plans = {command.cdn: plans[command.cdn]}
        return Outcome(ok=True, text=text, planner=picture, plans=plans)
