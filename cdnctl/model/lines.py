"""The command line that does the same as a command: for the journal, and for whoever wants to do it again."""

from __future__ import annotations

import shlex

from cdnctl.model.commands import (
    Allow,
    AnyCommand,
    BlockList,
    BlockPrefix,
    Bypass,
    Change,
    Detach,
    Disallow,
    Drain,
    LoadModel,
    Mark,
    Record,
    Reload,
    SetAutoban,
    SetLimit,
    SetMode,
    SetModel,
    SetPlanner,
    SetShield,
    SetWeights,
    StopRecording,
    Unblock,
    Undo,
    Undrain,
)


def duration(seconds: float) -> str:
    """`4h`, `90m`, `45s`: as the command line takes it."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def nth(number: int) -> str:
    """An ordinal: `second`, `third`, `11th`, `21st`."""
    if number in (2, 3):
        return ("second", "third")[number - 2]
    teens = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def command_line(command: AnyCommand) -> str:
    """The `cdnctl` line that does the same."""
    words = ["cdnctl", str(type(command).__struct_config__.tag)]
    match command:
        case BlockPrefix():
            lifetime = "forever" if command.lifetime_s is None else duration(command.lifetime_s)
            words += [command.prefix, "--for", lifetime]
        case BlockList():
            lifetime = "forever" if command.lifetime_s is None else duration(command.lifetime_s)
            words[1:] = ["block", "--file", command.name, "--for", lifetime]
        case Unblock():
            words += [command.prefix, *(["--source", command.source] if command.source else [])]
        case Allow() | Disallow():
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
        case SetAutoban():
            words.append(command.mode)
        case SetModel():
            words.append(command.mode)
        case LoadModel():
            words[1:] = ["model", "load", command.file or command.fit.name]
        case SetMode():
            words += [command.mode, *(["--yes"] if command.mode == "observe" else [])]
        case SetLimit():
            words.append(command.customer)
            for option in ("pps", "mbit", "flows_per_s"):
                if (value := getattr(command, option)) is not None:
                    words += [f"--{option.replace('_', '-')}", f"{value:.12g}" if value else "none"]
            words += ["--clear"] if command.clear else []
        case SetPlanner():
            words += [command.mode] if command.mode else []
            words += ["pin", command.pin] if command.pin else []
            words += ["unpin", command.unpin] if command.unpin else []
        case Undo():
            words += ["--to", str(command.to)] if command.to is not None else []
            words += [str(command.seq)] if command.seq is not None else []
        case Mark():
            words += ["--", command.text] if command.text.startswith("-") else [command.text]
        case Record():
            words += [command.path] if command.path else []
            words += [] if command.for_s is None else ["--for", duration(command.for_s)]
            words += ["--redact"] if command.redact else []
        case StopRecording():
            words[1:] = ["record", "--stop"]
    if isinstance(command, Change) and command.confirm_s:
        words += ["--confirm", f"{command.confirm_s:g}"]
    if isinstance(command, Change) and command.reason:
        # what begins with a dash would be taken for an option
        dashed = command.reason.startswith("-")
        words += [f"--reason={command.reason}"] if dashed else ["--reason", command.reason]
    return shlex.join(words)
