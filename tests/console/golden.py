"""Kept pictures of the screens, and how what is shown is held against them.

A picture is kept as plain text (`NAME-80x24.txt`), and some as SVG too (`NAME-80x24-THEME.svg`), for the
colours. `make goldens` writes all of them anew: `git diff` then shows what has changed, and an SVG opens in
any browser. Who drew something otherwise on purpose commits that.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent / "goldens"
ACCEPT = "if it is meant: `make goldens`, look at `git diff tests/console/goldens`, commit"
_SVG = "{http://www.w3.org/2000/svg}"
_LONGEST = 110
"""Characters of a path that a difference shows."""
_MOST = 60
"""Lines of one."""


class Goldens:
    """Those of one run: all mismatches are told at its end, each with what differs."""

    def __init__(self, directory: Path = HERE, *, update: bool | None = None) -> None:
        """`update`: write instead of comparing; by default what `UPDATE_GOLDENS` says."""
        self._directory = directory
        self._update = bool(os.environ.get("UPDATE_GOLDENS")) if update is None else update
        self.seen: set[str] = set()
        self._problems: list[str] = []

    def look(self, name: str, shown: str) -> None:
        """Hold what is shown against what is kept under that name, which ends in `.txt` or `.svg`."""
        self.seen.add(name)
        path = self._directory / name
        kept = path.read_text(encoding="utf-8") if path.exists() else None
        listed = listing if path.suffix == ".svg" else str.splitlines
        if kept is not None and list(listed(kept)) == list(listed(shown)):
            return
        if self._update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(shown, encoding="utf-8")
        elif kept is None:
            self._problems.append(f"{name}: there is none yet")
        else:
            self._problems.append(_difference(name, list(listed(kept)), list(listed(shown))))

    def sweep(self, suffixes: tuple[str, ...]) -> None:
        """Nothing is kept that nobody looks at: of the names that end so, all were."""
        for path in sorted(self._directory.iterdir()):
            if path.name.endswith(suffixes) and path.name not in self.seen:
                if self._update:
                    path.unlink()
                else:
                    self._problems.append(f"{path.name}: no stop of the tour has that name")

    def verify(self) -> None:
        """Raise AssertionError that says all that was otherwise, and how to accept it."""
        assert not self._problems, "\n\n".join([*self._problems, ACCEPT])


def _difference(name: str, kept: list[str], shown: list[str]) -> str:
    lines = list(difflib.unified_diff(kept, shown, "kept", "shown", lineterm="", n=1))
    more = [f"... and {len(lines) - _MOST} lines more"] if len(lines) > _MOST else []
    return "\n".join([f"{name}: - is kept, + is shown", *lines[2:_MOST], *more])


def listing(svg: str) -> Iterator[str]:
    """An SVG as one line a thing drawn, in the order of places: what a difference is read in.

    The names of ids and classes, which may change from run to run, are counted through in the order of
    their first use.
    """
    numbers: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return found[1] + numbers.setdefault(found[2], f"n{len(numbers)}")

    svg = re.sub(r"""((?:\bid=|\bclass=)["']|url\(#|\bhref=["']#)([\w-]+)""", numbered, svg)
    yield from sorted(_things(ElementTree.fromstring(svg), {}))


def _things(element: ElementTree.Element, around: dict[str, str]) -> Iterator[str]:
    worn = around | {
        name: value
        for name, value in element.attrib.items()
        if name.startswith(("fill", "stroke", "font", "text-decoration", "transform", "opacity", "class"))
    }
    kind = element.tag.removeprefix(_SVG)
    looks = " ".join(f"{name}={value}" for name, value in sorted(worn.items()) if name != "font-family")
    if kind == "text":
        yield f"y {_at(element, 'y')} x {_at(element, 'x')} {(element.text or '')!r} {looks}"
    elif kind == "rect":
        size = f"{element.get('width')} by {element.get('height')}"
        yield f"y {_at(element, 'y')} x {_at(element, 'x')} rectangle of {size} {looks}"
    elif kind == "path":
        for part in re.findall(r"M[^M]*", element.get("d", "")):
            yield f"path {looks} {part.strip()[:_LONGEST]}"
    for child in element:
        yield from _things(child, worn)


def _at(element: ElementTree.Element, axis: str) -> str:
    return f"{float(element.get(axis, 0)):8.2f}"
