"""What operators change, taken apart: a value for each thing that a change may touch.

    weight NAME      a number; None: the configuration's       allow PREFIX    its entry, or None
    drain NAME       whether                                   block PREFIX    the manual one, or None
    autoban          the mode that operators want              ban PREFIX      the automatic one, or None
    limit CUSTOMER   its limits; None: the configuration's     switch NAME     armed, observing, bypassed
    list REVISION    how many prefixes of it are blocked
    attachment       whether the edge is attached              config          which text is in force
    shield           the level that operators want             model mode, fit   what the model does, and it
    planner          its mode; empty: the configuration's      pin NAME         whether

Values are plain, as JSON has them. With them a change can be kept in a record, compared, refused when
somebody else was quicker, and taken back.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import convert, to_builtins
from msgspec.structs import replace

from cdnctl.datapath import abi
from cdnctl.defence import blocklist
from cdnctl.errors import CdnctlError
from cdnctl.model import Allowed, Block, Fit
from cdnctl.state import CustomerLimit, State

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

Values = dict[str, Any]
"""By object, as `weight aurora`."""

MANUAL, AUTO = "manual", "auto"
ATTACHMENT = "attachment"
CONFIG = "config"
SHIELD = "shield"
AUTOBAN = "autoban"
MODEL_MODE, MODEL_FIT = "model mode", "model fit"
PLANNER = "planner"
_SWITCHES = {
    "armed": abi.Mode.DISARMED,
    "observing": abi.Mode.OBSERVE,
    "bypassed": abi.Mode.BYPASS,
}
_INVERTED = "armed"
_STEERING, _CLIENTS, _SWITCH = ("weight", "drain", "pin", PLANNER), ("limit", "allow"), "switch"
_BLOCKS = {"block": MANUAL, "ban": AUTO}
_LIST = "list"


def weight(name: str) -> str:
    """A CDN's weight."""
    return f"weight {name}"


def drain(name: str) -> str:
    """Whether a CDN is drained."""
    return f"drain {name}"


def pin(name: str) -> str:
    """Whether a CDN keeps exactly its weight."""
    return f"pin {name}"


def limit(name: str) -> str:
    """A customer's limits."""
    return f"limit {name}"


def allow(prefix: str) -> str:
    """The entry of an allowed prefix."""
    return f"allow {prefix}"


def block(prefix: str) -> str:
    """The manual block of a prefix."""
    return f"block {prefix}"


def ban(prefix: str) -> str:
    """The automatic block of a prefix."""
    return f"ban {prefix}"


def switch(name: str) -> str:
    """One of the edge's switches."""
    return f"switch {name}"


def words(what: str) -> str:
    """An object as operators call it."""
    kind, _, name = what.partition(" ")
    return {
        "weight": f"the weight of {name}",
        "drain": f"the drain of {name}",
        "pin": f"the pin of {name}",
        "limit": f"the limits of {name}",
        "allow": f"what is allowed of {name}",
        "block": f"the block of {name}",
        "list": f"list {name}",
        "ban": f"the ban of {name}",
        "switch": f"whether the edge is {name}",
        ATTACHMENT: "whether the edge is attached",
        CONFIG: "the configuration in force",
        SHIELD: "the level of the shield",
        AUTOBAN: "whether bans set themselves",
        "model": "what the model does" if name == "mode" else "the model of sources' manners",
        PLANNER: "the planner's mode",
    }[kind]


def moves(what: str, before: Any, after: Any) -> str:
    """An object's way from one value to another: `the weight of aurora: 100 -> 50`."""
    return f"{words(what)}: {_shown(what, before)} -> {_shown(what, after)}"


def _shown(what: str, value: Any) -> str:
    kind = what.partition(" ")[0]
    if kind == _LIST and isinstance(value, dict):
        return f"{value['count']:,} prefixes"
    if kind == CONFIG:
        return "another file" if value else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if kind == "limit" and isinstance(value, dict):
        return ", ".join(f"{name} {limit:g}" for name, limit in value.items() if limit) or "none"
    if kind == "model" and isinstance(value, dict):
        return str(value["name"]) or "none"
    return "set" if isinstance(value, dict) else str(value)


# -- to and from ------------------------------------------------------------------------------------


def of_block(made: Block) -> dict[str, Any]:
    """A block's value: without its hits, which change by themselves."""
    return {name: value for name, value in to_builtins(made).items() if name != "hits"}


def read(engine: Engine, what: str) -> Any:
    """The value now."""
    kind, _, name = what.partition(" ")
    match kind:
        case "block" | "ban":
            return _block(engine, name, _BLOCKS[kind])
        case "list":
            count = engine.blocks.wanted.by_source.get(what, 0)
            return {"count": count} if count else None
        case "switch":
            return (_SWITCHES[name] in engine.tables.mode) != (name == _INVERTED)
        case "config":
            return engine.config_in_force
        case _:
            return of_state(engine.state, what)


def of_state(state: State, what: str) -> Any:
    """The value that a state has, for what is kept in it."""
    kind, _, name = what.partition(" ")
    match kind:
        case "weight":
            return state.weights.get(name)
        case "drain":
            return name in state.drained
        case "pin":
            return name in state.pinned
        case "planner":
            return state.planner
        case "limit":
            return to_builtins(state.limits[name]) if name in state.limits else None
        case "allow":
            found = (each for each in state.allowed if _is(each.prefix, name))
            return next((to_builtins(each) for each in found), None)
        case "switch":
            return {"armed": state.armed, "observing": state.observing}.get(name, False)
        case "attachment":
            return not state.detached
        case "shield":
            return state.shield
        case "autoban":
            return state.autoban
        case "model" if name == "mode":
            return state.model
        case "model":
            return to_builtins(state.fit)
    raise KeyError(what)


def switches_of(mode: abi.Mode) -> Values:
    """Those that a state keeps, as the kernel has them."""
    return {switch("armed"): abi.Mode.DISARMED not in mode, switch("observing"): abi.Mode.OBSERVE in mode}


def objects_of(state: State) -> Iterator[str]:
    """All that a state says something about."""
    yield from map(weight, state.weights)
    yield from map(drain, state.drained)
    yield from map(pin, state.pinned)
    yield PLANNER
    yield from map(limit, state.limits)
    yield from (allow(each.prefix) for each in state.allowed)
    yield from (switch("armed"), switch("observing"), ATTACHMENT, SHIELD, AUTOBAN, MODEL_MODE, MODEL_FIT)


def with_values(state: State, values: Mapping[str, Any]) -> State:
    """The state with these values; those that it does not keep are left out."""
    weights, limits = dict(state.weights), dict(state.limits)
    drained, allowed = list(state.drained), list(state.allowed)
    pinned, planner = list(state.pinned), state.planner
    armed, observing, detached = state.armed, state.observing, state.detached
    shield, autoban, model, fit = state.shield, state.autoban, state.model, state.fit
    for what, value in values.items():
        kind, _, name = what.partition(" ")
        match kind:
            case "weight":
                _set(weights, name, value)
            case "drain":
                drained = [each for each in drained if each != name] + ([name] if value else [])
            case "pin":
                pinned = [each for each in pinned if each != name] + ([name] if value else [])
            case "planner":
                planner = value
            case "limit":
                _set(limits, name, None if value is None else convert(value, CustomerLimit))
            case "allow":
                allowed = [each for each in allowed if not _is(each.prefix, name)]
                allowed += [] if value is None else [convert(value, Allowed)]
            case "switch" if name == "armed":
                armed = value
            case "switch" if name == "observing":
                observing = value
            case "attachment":
                detached = not value
            case "shield":
                shield = value
            case "autoban":
                autoban = value
            case "model" if name == "mode":
                model = value
            case "model":
                fit = convert(value, Fit)
    return replace(
        state,
        weights=weights,
        limits=limits,
        drained=drained,
        pinned=pinned,
        planner=planner,
        allowed=allowed,
        armed=armed,
        observing=observing,
        detached=detached,
        shield=shield,
        autoban=autoban,
        model=model,
        fit=fit,
    )


def in_blocks(what: str) -> bool:
    """Whether the blocks' file keeps it, and not the state's."""
    return what.startswith(("block ", "ban ", "list "))


def is_list(what: str) -> bool:
    """Whether it is a list that was blocked as one: its blocks have this very name as their source."""
    return what.startswith("list ")


def source_of(what: str) -> str:
    """Who wants it, as the blocks' file says."""
    return _BLOCKS[what.partition(" ")[0]]


def put(engine: Engine, values: Mapping[str, Any]) -> int:
    """Have these values in the kernel and in the engine's state; when the last of it was written, by the
    kernel's clock. Raises CdnctlError, OSError or ValueError; then part of it may be in force.
    """
    applied_ns = 0
    for step in _steps(engine, values):
        applied_ns = step()
    return applied_ns


def put_back(engine: Engine, values: Mapping[str, Any]) -> list[str]:
    """The same as far as the kernel lets us; what it did not."""
    said = []
    for step in _steps(engine, values):
        try:
            step()
        except (CdnctlError, OSError, ValueError) as error:
            said.append(str(error))
    return said


def _steps(engine: Engine, values: Mapping[str, Any]) -> Iterator[Callable[[], int]]:
    """What there is to do, in an order that opens nothing before what guards it is there."""
    by_kind: dict[str, Values] = {}
    for what, value in values.items():
        by_kind.setdefault(what.partition(" ")[0], {})[what] = value
    engine.state = with_values(engine.state, values)
    if by_kind.keys() & set(_CLIENTS):
        yield lambda: _stamped(engine.write_clients)
    for kind, source in _BLOCKS.items():
        for what, value in by_kind.get(kind, {}).items():
            yield partial(_put_block, engine, what.partition(" ")[2], source, value)
    for what, value in by_kind.get(_LIST, {}).items():
        yield partial(_put_list, engine, what, value)
    if by_kind.keys() & set(_STEERING):
        yield lambda: _stamped(engine.steer)
    if SHIELD in by_kind:
        yield lambda: _stamped(lambda: engine.shielding.put(by_kind[SHIELD][SHIELD]))
    if AUTOBAN in by_kind:
        yield lambda: _stamped(lambda: engine.banning.put(by_kind[AUTOBAN][AUTOBAN]))
    if "model" in by_kind:
        yield lambda: _stamped(engine.suspecting.put)
    if _SWITCH in by_kind:
        yield lambda: _put_switches(engine, by_kind[_SWITCH])
    if ATTACHMENT in by_kind:
        yield lambda: _put_attachment(engine, by_kind[ATTACHMENT][ATTACHMENT])


def _stamped(write: Callable[[], object]) -> int:
    write()
    return time.monotonic_ns()


def _put_block(engine: Engine, name: str, source: str, value: Any) -> int:
    if value is not None:
        engine.blocks.block(convert(value, Block))
    elif _block(engine, name, source) is not None:
        engine.blocks.unblock(name, source)
    return time.monotonic_ns()


def _put_list(engine: Engine, source: str, value: Any) -> int:
    if value is None:
        engine.blocks.let_go(source)
    elif source not in engine.blocks.wanted.by_source:
        engine.blocks.take(engine.lists.blocks_of(source))
    return time.monotonic_ns()


def _put_switches(engine: Engine, values: Values) -> int:
    mode = engine.tables.mode
    for what, value in values.items():
        name = what.partition(" ")[2]
        flag = _SWITCHES[name]
        mode = mode | flag if value != (name == _INVERTED) else mode & ~flag
    engine.tables.mode = mode
    if not mode & (abi.Mode.DISARMED | abi.Mode.BYPASS):
        engine.tables.bump_generation()
    return time.monotonic_ns()


def _put_attachment(engine: Engine, attached: bool) -> int:
    if attached:
        engine.attach_all()
        applied_ns = time.monotonic_ns()
        engine.neighbours.keep()
    else:
        engine.detach_all()
        applied_ns = time.monotonic_ns()
        engine.neighbours.release()
    return applied_ns


def _block(engine: Engine, name: str, source: str) -> Any:
    made = (each for each in engine.blocks.wanted.find(name) if each.source == source)
    return next((of_block(each) for each in made), None)


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value


def _is(prefix: str, name: str) -> bool:
    """Whether two texts mean the same prefix; what is in a state may be written by hand."""
    if prefix == name:
        return True
    with contextlib.suppress(ValueError):
        return blocklist.parse_prefix(prefix) == ipaddress.ip_network(name)
    return False
