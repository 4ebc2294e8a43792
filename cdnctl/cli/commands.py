"""From a command line's options to the change that they ask for: for the verbs here, and for the console."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from msgspec.structs import replace

from cdnctl.errors import UsageError
from cdnctl.model import (
    Allow,
    AnyChange,
    Arm,
    Attach,
    BlockPrefix,
    Bypass,
    Confirm,
    Detach,
    Disallow,
    Disarm,
    Drain,
    LoadModel,
    Mark,
    Record,
    Reload,
    Repair,
    Revert,
    SetAutoban,
    SetLimit,
    SetMode,
    SetModel,
    SetPlanner,
    SetShield,
    SetWeights,
    Stop,
    StopRecording,
    Unblock,
    Undo,
    Undrain,
)


def _block(options: argparse.Namespace) -> AnyChange:
    if (options.prefix is None) == (options.file is None):
        raise UsageError("block what?", "give a PREFIX, or --file FILE with one a line")
    if options.file is not None:
        raise UsageError("a file is read by the shell's `cdnctl block --file`", "in the console: 5, then i")
    return BlockPrefix(prefix=options.prefix, lifetime_s=options.lifetime_s)


def _weights(options: argparse.Namespace) -> AnyChange:
    weights = dict(options.weights)
    if len(weights) < len(options.weights):
        raise UsageError("a CDN is named twice", "give each one weight")
    return SetWeights(weights=weights)


def _limit(options: argparse.Namespace) -> AnyChange:
    given = {name: getattr(options, name) for name in ("pps", "mbit", "flows_per_s")}
    if options.clear and any(value is not None for value in given.values()):
        raise UsageError("--clear and new limits", "give one or the other")
    if not options.clear and all(value is None for value in given.values()):
        raise UsageError("no limit given", f"as in: cdnctl limit {options.customer} --pps 50000")
    return SetLimit(customer=options.customer, clear=options.clear, **given)


def _record(options: argparse.Namespace) -> AnyChange:
    if options.stop:
        if options.file or options.for_s or options.redact:
            raise UsageError("--stop takes neither file nor options", "cdnctl record --stop")
        return StopRecording()
    path = os.path.abspath(options.file) if "/" in options.file else options.file
    return Record(path=path, for_s=options.for_s, redact=options.redact)


def _mark(options: argparse.Namespace) -> AnyChange:
    if not options.text.strip():
        raise UsageError("a mark without a text", "say what it marks, as in: cdnctl mark 'before the change'")
    return Mark(text=options.text)


def _model(options: argparse.Namespace) -> AnyChange:
    if options.what != "load":
        if options.file:
            raise UsageError(f"`model {options.what}` takes no file", "cdnctl model load FILE")
        return SetModel(mode=options.what)
    if not options.file:
        raise UsageError("no file given", "as in: cdnctl model load model.json")
    from cdnctl.cli.suspicion import read_fit

    return LoadModel(fit=read_fit(options.file), file=options.file)


def undo_of(options: argparse.Namespace) -> Undo:
    """Of a line of the journal, or back to a revision."""
    if options.seq is not None and options.to is not None:
        raise UsageError("a line of the journal and --to", "give one or the other")
    return Undo(seq=options.seq, to=options.to)


def _planner(options: argparse.Namespace) -> AnyChange:
    if options.action in ("pin", "unpin"):
        return (
            SetPlanner(pin=options.cdn or "")
            if options.action == "pin"
            else SetPlanner(unpin=options.cdn or "")
        )
    if options.action not in ("off", "observe", "on"):
        raise UsageError(f"`planner {options.action}` changes nothing", "ask it in a shell")
    return SetPlanner(mode=options.action)


_CHANGES: dict[str, Callable[[argparse.Namespace], AnyChange]] = {
    "block": _block,
    "unblock": lambda options: Unblock(prefix=options.prefix, source=options.source),
    "weight": _weights,
    "drain": lambda options: Drain(cdn=options.cdn),
    "undrain": lambda options: Undrain(cdn=options.cdn),
    "limit": _limit,
    "planner": _planner,
    "allow": lambda options: Allow(prefix=options.prefix),
    "disallow": lambda options: Disallow(prefix=options.prefix),
    "mode": lambda options: SetMode(mode=options.mode),
    "shield": lambda options: SetShield(level=options.level),
    "autoban": lambda options: SetAutoban(mode=options.mode),
    "model": _model,
    "attach": lambda _options: Attach(),
    "detach": lambda options: Stop(detach=True) if options.stop else Detach(),
    "disarm": lambda _options: Disarm(),
    "arm": lambda _options: Arm(),
    "bypass": lambda _options: Bypass(),
    "record": _record,
    "mark": _mark,
    "reload": lambda options: Reload(program=options.program),
    "confirm": lambda _options: Confirm(),
    "revert": lambda _options: Revert(),
    "undo": undo_of,
    "repair": lambda _options: Repair(),
}


def is_change(options: argparse.Namespace) -> bool:
    """Whether a verb, with these options, changes the edge."""
    looks = {
        "shield": ("level", (None,)),
        "autoban": ("mode", (None,)),
        "model": ("what", ("show",)),
        "planner": ("action", ("status", "why")),
    }
    option, idle = looks.get(options.verb, ("verb", ()))
    return options.verb in _CHANGES and getattr(options, option) not in idle


def change_of(options: argparse.Namespace) -> AnyChange:
    """The change, with its reason, tried or in earnest. Raises UsageError for options that contradict."""
    confirm_s = getattr(options, "confirm", None) or 0.0
    common = {"reason": options.reason, "dry_run": options.dry_run, "confirm_s": confirm_s}
    return replace(_CHANGES[options.verb](options), **common)
