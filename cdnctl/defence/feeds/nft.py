"""A set as nftables prints it: `elements = { 192.0.2.1 timeout 1h expires 59m, 198.51.100.0/24 }`.

Also the statement that adds to one: `add element inet filter blocked { 192.0.2.1 timeout 1h }`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cdnctl.defence.feeds.entries import Entries

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TIME = re.compile(r"(?:\d{1,9}(?:ms|[dhms]))+")
_PART = re.compile(r"(\d{1,9})(ms|[dhms])")
_START = re.compile(r"(?:#!|table\b|set\b|add element\b|elements\s*=|define\b|flush\b)")
_ELEMENTS = re.compile(r"(?:\belements\s*=\s*|\badd element\b[^{\n]*)\{")
_QUOTED = re.compile(r'"[^"\n]*"')
_COMMENT = re.compile(r"#[^\n]*")


def looks_like(line: str) -> bool:
    """Whether a list of nftables begins so."""
    return bool(_START.match(line))


def parse(text: str) -> Entries:
    """The elements of all sets in it."""
    entries = Entries("blocks")
    entries.format = "a set of nftables"
    # Blanked, not cut, so that lines and places stay; a comment may hold a brace or a comma.
    text = _COMMENT.sub(_blank, _QUOTED.sub(_blank, text))
    found = False
    counted, line = 0, 1
    for opening in _ELEMENTS.finditer(text):
        found = True
        end = text.find("}", opening.end())
        line += text.count("\n", counted, opening.end())
        counted = opening.end()
        if end < 0:
            entries.wrong(line, "elements", "have no closing brace: the list was cut short; fetch it again")
            break
        for number, words in _elements(text[opening.end() : end], line):
            _add(entries, words, number)
    if not found:
        entries.wrong(1, text.split("\n", 1)[0].strip(), "has no elements; print them with `nft list set`")
    return entries


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _elements(text: str, line: int) -> Iterator[tuple[int, list[str]]]:
    """The words of each element, with its line."""
    for part in text.split(","):
        words = part.split()
        if words:
            yield line + part[: part.index(words[0])].count("\n"), words
        line += part.count("\n")


def _add(entries: Entries, words: list[str], line: int) -> None:
    value, options = words[0], words[1:]
    lifetime_s: float | None = None
    while options:
        name, options = options[0], options[1:]
        if name == "comment":
            continue  # its text was blanked
        if name == "counter":  # counter packets N bytes N
            options = options[4:]
            continue
        if name not in ("timeout", "expires") or not options:
            entries.wrong(line, " ".join([name, *options]), "is nothing that an element of addresses has")
            return
        seconds = _seconds(options[0])
        if seconds is None:
            entries.wrong(line, f"{name} {options[0]}", "is no time; write it as 1d2h, 30m or 90s")
            return
        if name == "expires" or lifetime_s is None:
            lifetime_s = seconds  # what is left of it, where the list says that
        options = options[1:]
    first, dash, last = value.partition("-")
    if dash:
        entries.add_range(first, last, line, lifetime_s)
    else:
        entries.add(value, line, lifetime_s)


def _seconds(text: str) -> float | None:
    if not _TIME.fullmatch(text):
        return None
    return sum(int(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
