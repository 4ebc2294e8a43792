"""`cdnctl keys`: every key of the console, with the user's own, and what is wrong with those.

The README's tables are made of the same, by `make keys`. Without Textual: whoever writes a keymap may have
no terminal to try it in.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cdnctl import paths
from cdnctl.cli import show
from cdnctl.console import keymap, keys
from cdnctl.console.keytable import GROUPS, HOUSE_SECTION, SCREENS, SECTIONS, Key
from cdnctl.errors import UsageError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the verb."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="a keymap to look at instead of one's own")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument("--markdown", action="store_true", help="as tables for a page")


def run(options: argparse.Namespace) -> int:
    """List them; 1 when the keymap has lines that mean nothing."""
    path = paths.keymap_path() if options.file is None else Path(options.file)
    if options.file is not None and not path.is_file():
        raise UsageError(f"{path}: there is no such file", "`cdnctl keys` alone looks at your own")
    found, problems = keymap.load(path)
    keys.use(found)
    if options.json:
        show.print_json({"file": str(path), "problems": problems, "keys": list(_plain())})
    elif options.markdown:
        print("\n".join((*screens_table(), "", *keys_table())))
    else:
        _print_text()
    if not options.json:
        for problem in problems:
            print(f"cdnctl: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _plain() -> Iterator[dict[str, object]]:
    for section in SECTIONS:
        for key in keys.section(section):
            if key.keys:
                yield {
                    "table": section,
                    "name": key.name,
                    "keys": key.keys.split(","),
                    "help": _help(section, key),
                    "changes": key.changes,
                }


def _help(section: str, key: Key) -> str:
    """Its own line, or what it is called beside the key before it whose line tells of both."""
    head = key
    for each in keys.section(section):
        head = each if each.help else head
        if each == key:
            break
    return key.help or f"{key.label}; see {head.name}"


def _print_text() -> None:
    for section in SECTIONS:
        rows = [key for key in keys.section(section) if key.keys]
        if not rows:
            continue
        print(f"[{section}]" if section else "on every screen")
        for key in rows:
            faces = " ".join(keys.face_of(each) for each in key.keys.split(","))
            print(f"  {faces:<16} {key.name:<16} {_help(section, key)}")


# --- for a page -----------------------------------------------------------------------------------


def screens_table() -> list[str]:
    """The screens by their keys, with what each has of its own."""
    rows = ["| | screen | keys of its own |", "|---|---|---|"]
    for place, way in zip(SCREENS, keys.ways(), strict=True):
        own = "; ".join(f"{_code(key)} {key.help}" for key in keys.section(place.name)) or "–"
        rows.append(f"| `{way.face}` | {place.title}: {_lower(place.more)} | {own} |")
    return rows


def keys_table() -> list[str]:
    """What holds on every screen and in dialogs, by groups, with the names that a keymap has for them."""
    rows = ["| key | name | what it does |", "|---|---|---|"]
    for group in GROUPS:
        for section in (HOUSE_SECTION, "dialog", "weights-dialog", "columns-dialog"):
            for members in _together(keys.section(section)):
                head = members[0]
                if head.group == group and head.keys:
                    names = " ".join(f"`{key.name}`" for key in members if key.keys)
                    table = f"[{section}] " if section else ""
                    rows.append(f"| {_code(head)} | {table}{names} | {head.help} |")
    return rows


def _together(table: Sequence[Key]) -> Iterator[list[Key]]:
    """Keys that one line of help tells of."""
    members: list[Key] = []
    for key in table:
        if members and key.help:
            yield members
            members = []
        members.append(key)
    if members:
        yield members


def _code(key: Key) -> str:
    return " ".join(f"`{face}`" for face in key.face.split())


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
