"""`cdnctl cast`: a recording as an asciicast, or one moment of it as an SVG."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from cdnctl.cli import recordings, show
from cdnctl.cli.replay import moment
from cdnctl.errors import CdnctlError, UsageError

if TYPE_CHECKING:
    from cdnctl.console.cast.ansi import Colors
    from cdnctl.console.cast.stage import Press, Size
    from cdnctl.model import Frame
    from cdnctl.recording.reader import Reader

COLORS = ("truecolor", "256", "16", "none")
KEYS_LIMIT = 1_000
"""Lines of a file of keys."""
_SLOWEST, _FASTEST = 0.1, 1_000.0
_ONLY_CASTS = ("v2", "from_s", "to_s", "speed", "idle_limit_s", "color")
"""What a still has no use for."""
EXAMPLES = """\
examples:
  cdnctl cast incident                          incident.cast, for asciinema and web pages
  cdnctl cast incident --speed 4 --idle-limit 2 --size 100x30 --theme daylight
  cdnctl cast my.rec --from 1m10s --to 2m -o flood.cast
  cdnctl cast incident --v2 -o - | asciinema cat -
  cdnctl cast incident --svg --at 1m10s -o flood.svg
  cdnctl cast incident --svg --at 40s --press "tab tab j" -o talkers.svg

A file of keys has a line for each moment: the time, then keys as in `40s tab tab j` or `1m3s ctrl+p`;
what comes after a # is not read.
"""


def add_options(made: argparse.ArgumentParser) -> None:
    """The verb's options."""
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.epilog = EXAMPLES
    made.add_argument("file", metavar="FILE", help="a recording, or the name of one that comes with cdnctl")
    made.add_argument(
        "-o", "--output", metavar="OUT", help="what to write; - is stdout (default: FILE's name, here)"
    )
    made.add_argument(
        "--size", default="120x40", metavar="CxR", help="columns and rows of the terminal (120x40)"
    )
    made.add_argument("--theme", default=argparse.SUPPRESS, metavar="NAME", help="the console's colours")
    made.add_argument("--title", default="", metavar="TEXT", help="what players and pictures call it")
    made.add_argument("--utc", action="store_true", help="times on the screen are UTC, not local")
    made.add_argument("--press", default="", metavar="KEYS", help="keys to press at the beginning")
    made.add_argument("--keys", type=Path, metavar="FILE", help="keys to press, and when")
    made.add_argument("--json", action="store_true", help="say what was made in JSON")
    cast = made.add_argument_group("casts")
    cast.add_argument("--v2", action="store_true", help="asciicast 2, for older players; otherwise 3")
    cast.add_argument(
        "--from", dest="from_s", type=moment, metavar="TIME", help="begin there, as in 90s, 1m30s"
    )
    cast.add_argument("--to", dest="to_s", type=moment, metavar="TIME", help="end there")
    cast.add_argument("--speed", type=_speed, metavar="N", help="so many times as fast, as 4 or 0.5")
    cast.add_argument(
        "--idle-limit", dest="idle_limit_s", type=moment, metavar="S", help="no pause is longer (seconds)"
    )
    cast.add_argument("--color", choices=COLORS, help="what the terminal can show (truecolor)")
    still = made.add_argument_group("stills")
    still.add_argument("--svg", action="store_true", help="one picture instead of a cast")
    still.add_argument("--at", dest="at_s", type=moment, metavar="TIME", help="of that moment (the end)")


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if _SLOWEST <= speed <= _FASTEST:
        return speed
    raise argparse.ArgumentTypeError(
        f"{text!r}: expected a number from {_SLOWEST:g} to {_FASTEST:g}, as 2 or 0.5"
    )


def run(options: argparse.Namespace) -> int:
    """Make it."""
    _refuse_what_is_ignored(options)
    keys = _keys(options)
    file = recordings.find(Path(options.file))
    from cdnctl.console.cast import stage  # takes half a second

    for _, names in keys:
        for name in names:
            stage.require_key(name)
    try:
        size = stage.Size.parse(options.size)
    except ValueError as error:
        raise UsageError(f"--size {error}") from None
    from cdnctl.recording.reader import Reader

    with Reader(file) as reader:
        status = (_still if options.svg else _cast)(options, reader, size, keys)
        if reader.damage:
            print(f"cdnctl: {file}: {reader.damage}: used up to there", file=sys.stderr)
        return status


def _cast(options: argparse.Namespace, reader: Reader, size: Size, keys: list[Press]) -> int:
    from cdnctl.console.cast import Script, cast
    from cdnctl.recording.chapters import chapters

    script = Script(
        size=size,
        speed=options.speed or 1.0,
        from_s=options.from_s or 0.0,
        to_s=float("inf") if options.to_s is None else options.to_s,
        idle_limit_s=options.idle_limit_s or float("inf"),
        keys=keys,
    )
    recordings.require_part(script.from_s, options.to_s, reader.duration_s)
    version: Literal[2, 3] = 2 if options.v2 else 3
    begun = [(chapter.position_ns / 1e9, chapter.title) for chapter in chapters(reader.stamps)]
    colors: Colors = options.color or "truecolor"
    with _written(options, ".cast") as (out, name):
        made = cast(timed(reader), begun, script, out, version=version, colors=colors, **_looks(options))
    said = f"{name}: {made.duration_s:.1f} s, {made.pictures:,} pictures, {made.markers} markers"
    _say(options, said, {"file": name, "version": version, **made._asdict()})
    return 0


def _still(options: argparse.Namespace, reader: Reader, size: Size, keys: list[Press]) -> int:
    from cdnctl.console.cast import still

    at_s = reader.duration_s if options.at_s is None else options.at_s
    recordings.require_moment(at_s, reader)
    with _written(options, ".svg") as (out, name):
        out.write(still(timed(reader), at_s, size, keys=keys, **_looks(options)))
    _say(options, name, {"file": name, "at_s": at_s})
    return 0


def timed(reader: Reader) -> Iterator[tuple[float, Frame]]:
    """The recording's frames, each with its second."""
    for number in range(reader.length):
        yield reader.position_ns(number) / 1e9, reader.frame(number)


def _looks(options: argparse.Namespace) -> dict[str, Any]:
    """What a cast and a still have in common."""
    return {"theme_name": options.theme, "title": options.title, "utc": options.utc}


def _refuse_what_is_ignored(options: argparse.Namespace) -> None:
    if options.svg:
        given = [name for name in _ONLY_CASTS if getattr(options, name)]
        wrong, right = given and "--" + given[0].removesuffix("_s").replace("_", "-"), "--at, for a still"
    else:
        wrong, right = "--at" if options.at_s is not None else "", "--from and --to, or --svg"
    if wrong:
        raise UsageError(f"{wrong} says nothing {'with' if options.svg else 'without'} --svg", f"use {right}")
    if options.json and options.output == "-":
        raise UsageError("--json and `-o -` both want stdout", "write to a file: -o demo.cast")


def _keys(options: argparse.Namespace) -> list[Press]:
    """Those of --press at the beginning, then those of the file."""
    presses: list[Press] = [(0.0, options.press.split())] if options.press.split() else []
    if options.keys is None:
        return presses
    try:
        lines = options.keys.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CdnctlError(f"--keys: {options.keys}: {error.strerror}") from None
    except ValueError:
        raise CdnctlError(f"--keys: {options.keys} is no text in UTF-8") from None
    if len(lines) > KEYS_LIMIT:
        raise CdnctlError(f"--keys: {options.keys} has more than {KEYS_LIMIT:,} lines")
    for number, line in enumerate(lines, 1):
        when, *names = line.partition("#")[0].split() or [""]
        if not when:
            continue
        try:
            presses.append((moment(when), names))
        except argparse.ArgumentTypeError as error:
            raise CdnctlError(
                f"--keys: {options.keys}, line {number}: {error}", "a line is as `1m3s tab tab b`"
            ) from None
    return presses


@contextmanager
def _written(options: argparse.Namespace, suffix: str) -> Iterator[tuple[TextIO, str]]:
    """Where to write, and what that is called: a file appears when it is whole, or not at all."""
    if options.output == "-":
        yield sys.stdout, "-"
        return
    target = Path(options.output or Path(options.file).stem + suffix).resolve()
    made = ""
    try:
        if target.exists() and not target.is_file():  # a device, a pipe: never to be replaced
            with target.open("w", encoding="utf-8", newline="\n") as out:
                yield out, str(target)
            return
        handle, made = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            yield out, os.path.relpath(target)
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(out.fileno(), 0o666 & ~umask)
        os.replace(made, target)
        made = ""
    except OSError as error:
        raise CdnctlError(
            f"cannot write {options.output or target}: {error.strerror}", "name another place with -o"
        ) from None
    finally:
        if made:
            os.unlink(made)


def _say(options: argparse.Namespace, text: str, answer: dict[str, object]) -> None:
    if options.json:
        show.print_json(answer)
    elif options.output != "-":
        print(text)
