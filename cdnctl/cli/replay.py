"""`cdnctl replay` and `redact`: what is done with a recording, with neither privileges nor an agent."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cdnctl.cli import show
from cdnctl.cli.recordings import find, require_moment, require_part
from cdnctl.errors import UsageError
from cdnctl.recording.chapters import chapters
from cdnctl.recording.player import SPEEDS
from cdnctl.recording.reader import Reader

_MOMENT = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,7}(?:\.\d{1,3})?)s)?", re.ASCII)
_COLONS = re.compile(r"(?:(\d{1,4}):)?(\d{1,6}):(\d{1,2}(?:\.\d{1,3})?)", re.ASCII)


def moment(text: str) -> float:
    """Seconds of `1m30s`, `90`, `1:30`, `1:02:03.5`: a place in a recording."""
    if (match := _COLONS.fullmatch(text)) or (text and (match := _MOMENT.fullmatch(text))):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    if re.fullmatch(r"\d{1,7}(\.\d{1,3})?", text, re.ASCII):
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a time as in 1m30s, 90 or 1:30")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `replay` takes."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a recording, or a name: of one made here, or a shipped one",
    )
    parser.add_argument("--at", type=moment, metavar="TIME", help="begin there, as in 1m30s, 90 or 1:30")
    parser.add_argument("--speed", type=float, choices=SPEEDS, default=1.0, metavar="N", help="0.25 to 16")
    parser.add_argument("--pause", action="store_true", help="do not play yet")
    parser.add_argument("--theme", metavar="NAME", default=argparse.SUPPRESS, help="the console's colours")
    parser.set_defaults(takes=("theme",))
    parser.add_argument(
        "--info", action="store_true", help="say how long it is, of which edge, and its chapters"
    )
    parser.add_argument("--frames", action="store_true", help="write the frames instead, a line of JSON each")
    parser.add_argument(
        "--from", dest="from_s", type=moment, metavar="TIME", help="with --frames: from there"
    )
    parser.add_argument("--to", dest="to_s", type=moment, metavar="TIME", help="with --frames: until there")
    parser.add_argument("--json", action="store_true", help="the same as --frames; with --info in JSON")


def replay(options: argparse.Namespace) -> int:
    """The console over a recording; or what is in it."""
    if (options.from_s is not None or options.to_s is not None) and not options.frames:
        raise UsageError("--from and --to go with --frames", "in the console: --at TIME, or ← and →")
    with Reader(find(options.file)) as reader:
        if options.info:
            return _info(reader, options.json)
        if options.frames or options.json:
            return _frames(reader, options.from_s or 0.0, options.to_s)
        return _console(reader, options)


def redact(options: argparse.Namespace) -> int:
    """The same recording without names and addresses."""
    from cdnctl.recording.redaction import Redactor
    from cdnctl.recording.writer import Writer

    if str(options.out) == "-":
        raise UsageError("OUT cannot be stdout: a recording is not text", "name a file to make, as out.rec")
    redactor = Redactor()
    with Reader(find(options.file)) as reader, Writer(options.out, redacted=True) as writer:
        try:
            for frame in reader.frames():
                writer.add(redactor.frame(frame))
        except BaseException:
            options.out.unlink(missing_ok=True)  # a part of it would look like the whole
            raise
        damage = reader.damage
    told: dict[str, Any] = {"frames": writer.frames, "bytes": writer.bytes, "addresses": redactor.addresses}
    told["damage"] = damage
    if damage:
        print(f"cdnctl: {options.file}: {damage}: used up to there", file=sys.stderr)
    if options.json:
        show.print_json(told)
    else:
        print(f"{options.out}: {writer.frames:,} frames, {redactor.addresses:,} addresses replaced")
        print("texts of people's own (reasons, notes) may still name things: read them before you publish")
    return 0


def _console(reader: Reader, options: argparse.Namespace) -> int:
    require_moment(options.at or 0.0, reader)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("a replay needs a terminal", "without one: --info, or --frames for a line a frame")
    from cdnctl.cli.spoken import CommandLine
    from cdnctl.console.app import check, run
    from cdnctl.console.playback import Playback

    check(options.theme)
    number = reader.number_at(round((options.at or 0.0) * 1e9))
    playback = Playback(reader, number=number, playing=not options.pause)
    playback.player.speed = options.speed
    return run(reader.edge, theme=options.theme, playback=playback, grammar=CommandLine())


def _frames(reader: Reader, from_s: float, to_s: float | None) -> int:
    require_part(from_s, to_s, reader.duration_s)
    written = 0
    first = reader.number_at(round(from_s * 1e9)) if from_s else 0
    for number in range(first, reader.length):
        at_s = reader.position_ns(number) / 1e9
        if to_s is not None and at_s > to_s:
            break
        if at_s >= from_s:
            show.print_json(reader.frame(number))
            written += 1
    if not written:
        raise UsageError("there is no frame from --from to --to", "frames are half a second apart: take more")
    if reader.damage:
        print(f"cdnctl: {reader.path}: {reader.damage}: used up to there", file=sys.stderr)
    return 0


def _info(reader: Reader, as_json: bool) -> int:
    header = reader.header
    told: dict[str, Any] = {
        "edge": reader.edge,
        "began_ns": header.began_ns,
        "duration_s": reader.duration_s,
        "frames": reader.length,
        "bytes": reader.size,
        "redacted": header.redacted,
        "made_by": header.made_by,
        "damage": reader.damage,
        "chapters": [
            {"at_s": each.position_ns / 1e9, "frame": each.number, "kind": each.kind, "title": each.title}
            for each in chapters(reader.stamps)
        ],
    }
    if as_json:
        show.print_json(told)
        return 0
    from cdnctl.console.format import clean, position

    began = datetime.fromtimestamp(header.began_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    redacted = ", redacted" if header.redacted else ""
    print(f"edge      {clean(reader.edge)}{redacted}")
    print(f"began     {began}")
    print(f"length    {position(reader.duration_s)}, {reader.length:,} frames, {reader.size:,} bytes")
    print(f"made by   {clean(header.made_by)}")
    if reader.damage:
        print(f"damage    {reader.damage}: it plays up to there")
    for each in chapters(reader.stamps):
        print(f"{position(each.position_ns / 1e9):>9}  {clean(each.title)}")
    return 0
