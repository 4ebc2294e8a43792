"""The command line inside the console: the same parser, the same verbs, options and mistakes."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
from collections.abc import Iterator, Sequence
from functools import cache

from cdnctl.cli.commands import change_of, is_change
from cdnctl.cli.parser import grammar, require_taken
from cdnctl.console.commands import ELSEWHERE, Spoken
from cdnctl.errors import UsageError
from cdnctl.model import Frame

_SHOWN = ("block", "drain", "undrain", "weight", "unblock", "limit")
"""Verbs whose arguments are names that a frame has."""

_ENDLESS = ("watch", "follow", "live")
"""Options of what goes on until Ctrl-C."""
_REFUSED = {("block", "--file"), ("status", "--watch"), ("journal", "--follow")}
"""Options that tab does not offer."""


class CommandLine:
    """What `cdnctl.console.commands.Grammar` asks for."""

    def parse(self, line: str) -> Spoken:
        """Read one line; a leading `cdnctl` may be left out."""
        words = _words(line)
        if words[:1] == ["demo"]:
            return Spoken("demo", tuple(words))
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                options = grammar().parse_args(words)
        except SystemExit:  # --help, --version: what they print is asked for by the console as it is
            return Spoken(words[0] if words else "help", tuple(words))
        require_taken(options)
        if not options.verb:
            raise UsageError(f"'{line.strip()}' names no verb", "tab lists them")
        if options.verb == "replay" and not (options.info or options.frames or options.json):
            return Spoken("", tuple(words))  # it wants the whole terminal
        if any(getattr(options, each, False) for each in _ENDLESS) and not getattr(options, "count", None):
            return Spoken("", tuple(words))  # it has no end to wait for
        command = change_of(options) if is_change(options) else None
        return Spoken(options.verb, tuple(words), command, names_edge="edge" in options.takes)

    def changes(self, line: str) -> bool:
        """Whether the line changes the edge; no file that it names is read for that."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return is_change(grammar().parse_args(_words(line)))
        except (SystemExit, UsageError):  # `parse` says it
            return False

    def complete(self, line: str, frame: Frame | None) -> Sequence[str]:
        """Verbs first, then the verb's options and the names that fit."""
        begun, _, word = line.lstrip().rpartition(" ")
        words = begun.split()
        verbs = _verbs()
        if not words:
            return [verb for verb in verbs if verb.startswith(word) and verb not in ELSEWHERE]
        parser = verbs.get(words[0])
        if parser is None:
            return []
        offered = (each for each in _options(parser, words) if (words[0], each) not in _REFUSED)
        found = [*offered, *_names(words[0], frame)]
        return [each for each in found if each.startswith(word) and each not in words]

    def help(self, line: str) -> str:
        """The verb's own line of help, and what it takes."""
        words = line.split()
        parser = _verbs().get(words[0]) if words else None
        if parser is None:
            return ""
        usage = " ".join(parser.format_usage().split()[2:])
        return f"{parser.description or ''}  {usage}"


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"'{line}': {error}", "close the quotation mark") from None


def _words(line: str) -> list[str]:
    words = _split(line)
    return words[1:] if words[:1] == ["cdnctl"] else words


@cache
def _verbs() -> dict[str, argparse.ArgumentParser]:
    for action in grammar()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(sorted(action.choices.items()))
    return {}


def _options(parser: argparse.ArgumentParser, words: Sequence[str]) -> Iterator[str]:
    for action in parser._actions:
        if action.option_strings:
            yield action.option_strings[-1]
        elif action.choices:
            yield from map(str, action.choices)


def _names(verb: str, frame: Frame | None) -> Iterator[str]:
    """Of CDNs, customers, talkers, blocks: whatever the verb is about."""
    if frame is None or verb not in _SHOWN:
        return
    if verb in ("drain", "undrain"):
        yield from (cdn.name for cdn in frame.cdns if (cdn.state == "drained") == (verb == "undrain"))
    elif verb == "weight":
        yield from (f"{cdn.name}=" for cdn in frame.cdns)
    elif verb == "limit":
        yield from (customer.name for customer in frame.customers)
    elif verb == "block":
        yield from (talker.prefix for talker in frame.talkers)
    else:
        yield from (block.prefix for block in frame.blocks)
