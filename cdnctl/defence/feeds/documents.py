"""JSON: what providers publish about their own servers, and block lists in it.

One document, or one a line. Which of the known shapes it is, its keys say; an unknown one is refused with
what is known. Lines of mistakes are found by looking for the value in the text, since no reader of JSON
tells them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from cdnctl.defence.feeds.entries import Entries, clipped

CDN_SERVICES = ("CLOUDFRONT", "CLOUDFRONT_ORIGIN_FACING")
"""Of all that AWS publishes, what is its CDN's."""
_BYTE = re.compile(r"\(byte (\d+)\)")
_DURATION = re.compile(r"-?(?:\d{1,12}(?:\.\d{1,12})?(?:ns|us|µs|ms|[hms]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|[hms])")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_KNOWN = (
    "known are arrays of addresses; objects with addresses, ipv6_addresses, addresses_v6, prefixes,"
    " ipv6_prefixes, or new and deleted; and a line of JSON an entry with cidr"
)


class _Lines:
    """Finds the lines of values, which mostly come in the text's order."""

    _MISSES = 3
    """Values in a row that were not found: the text is written otherwise, and looking on would take ages."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._missed = 0

    def of(self, value: object) -> int:
        """The next line that has the value; that of the one before, where it is nowhere."""
        if not isinstance(value, str) or self._missed >= self._MISSES:
            return self._line
        quoted = msgspec.json.encode(value).decode()
        at = self._text.find(quoted, self._at)
        if at < 0 and "/" in quoted:  # as some writers have it
            at = self._text.find(quoted.replace("/", r"\/"), self._at)
        if at < 0:
            self._missed += 1
            return self._line
        self._missed = 0
        self._line += self._text.count("\n", self._at, at)
        self._at = at + 1
        return self._line


def parse(text: str) -> Entries:
    """The entries of one document, or of one a line."""
    entries = Entries()
    entries.format = "JSON"
    try:
        whole = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if _one_a_line(text):
            return _parse_lines(text)
        entries.wrong(_line_of_error(text, error), "JSON", f"is malformed: {error}; fetch it again")
        return entries
    except RecursionError:
        entries.wrong(1, "JSON", f"is nested too deeply; {_KNOWN}")
        return entries
    if isinstance(whole, dict) and "cidr" in whole:  # one line of NDJSON is JSON, too
        return _parse_lines(text)
    _dispatch(whole, entries, _Lines(text))
    return entries


def _one_a_line(text: str) -> bool:
    """Whether its first line is an object by itself, and more lines follow."""
    first, _, rest = text.strip().partition("\n")
    return bool(rest) and first.startswith("{") and first.rstrip().endswith("}")


def _line_of_error(text: str, error: msgspec.DecodeError) -> int:
    place = _BYTE.search(str(error))
    data = text.encode()
    return data.count(b"\n", 0, int(place[1]) if place else len(data)) + 1


def _dispatch(whole: Any, entries: Entries, lines: _Lines) -> None:
    if isinstance(whole, list):
        entries.kind, entries.format = "ranges", "a JSON array of addresses"
        _texts(whole, "it", entries, lines)
        return
    if not isinstance(whole, dict):
        entries.wrong(1, whole, f"is no list; {_KNOWN}")
        return
    if "new" in whole or "deleted" in whole:
        _decisions(whole, entries, lines)
        return
    known = {key: read for key, read in _SHAPES.items() if key in whole}
    if not known:
        keys = ", ".join(map(clipped, map(str, list(whole)[:5])))
        entries.wrong(1, "JSON", f"has none of the keys that lists have, but {keys or 'none'}; {_KNOWN}")
        return
    entries.kind, entries.format = "ranges", f"JSON with {' and '.join(known)}"
    for key, read in known.items():
        read(whole[key], key, entries, lines)


def _texts(values: Any, key: str, entries: Entries, lines: _Lines) -> None:
    if not isinstance(values, list):
        entries.wrong(lines.of(key), values, f"stands for {key}, where a list of addresses is expected")
        return
    for value in values:
        if isinstance(value, str):
            entries.add(value, lines.of(value))
        else:
            entries.wrong(lines.of(value), value, f"in {key} is no text; write addresses in quotes")


def _objects(values: Any, key: str, entries: Entries, lines: _Lines) -> None:
    if not isinstance(values, list):
        entries.wrong(lines.of(key), values, f"stands for {key}, where a list of objects is expected")
        return
    for each in values:
        if not isinstance(each, dict):
            entries.wrong(lines.of(each), each, f"in {key} is no object; write {{...}} with a prefix")
            continue
        value = next((each[name] for name in _PREFIX_KEYS if name in each), None)
        line = lines.of(value)
        if not isinstance(value, str):
            wanted = ", ".join(_PREFIX_KEYS)
            entries.wrong(line, "an entry", f"of {key} has no prefix; one of {wanted} is expected, as text")
        elif (
            isinstance(service := each.get("service"), str)
            and service.isupper()
            and service not in CDN_SERVICES
        ):
            entries.pass_over(f"of another service than {' and '.join(CDN_SERVICES)}")
        else:
            entries.add(value, line)


_PREFIX_KEYS = ("ip_prefix", "ipv6_prefix", "ipv4Prefix", "ipv6Prefix")
_SHAPES: dict[str, Callable[[Any, str, Entries, _Lines], None]] = {
    "addresses": _texts,
    "ipv6_addresses": _texts,
    "addresses_v6": _texts,
    "prefixes": _objects,
    "ipv6_prefixes": _objects,
}


def _decisions(whole: dict[str, Any], entries: Entries, lines: _Lines) -> None:
    """CrowdSec's stream of decisions, from its beginning: what is new less what was deleted."""
    entries.kind, entries.format = "blocks", "CrowdSec's decisions"
    gone: set[object] = set()
    for each in _listed(whole, "deleted", entries, lines):
        gone.add(each.get("value"))
    for each in _listed(whole, "new", entries, lines):
        value, scope = each.get("value"), str(each.get("scope", "ip")).lower()
        line = lines.of(value)
        if not isinstance(value, str):
            entries.wrong(line, "a decision", 'has no value; write "value": "192.0.2.1"')
        elif scope not in ("ip", "range"):
            entries.pass_over("decisions about other things than addresses")
        elif str(each.get("type", "ban")).lower() != "ban":
            entries.pass_over("decisions other than bans")
        elif value in gone:
            entries.pass_over("deleted again")
        else:
            _decision(each.get("duration"), value, line, entries)


def _decision(duration: object, value: str, line: int, entries: Entries) -> None:
    if duration is None:
        entries.add(value, line)
    elif not isinstance(duration, str) or not _DURATION.fullmatch(duration):
        entries.wrong(line, duration, "is no duration; write it as 3h59m58.5s")
    elif duration.startswith("-"):
        entries.pass_over("over already")
    else:
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(duration))
        entries.add(value, line, seconds)


def _listed(whole: dict[str, Any], key: str, entries: Entries, lines: _Lines) -> Iterable[dict[str, Any]]:
    values = whole.get(key)
    if values is None:
        return []  # CrowdSec's way to say none
    if not isinstance(values, list) or not all(isinstance(each, dict) for each in values):
        entries.wrong(
            lines.of(key), clipped(str(values)), f"stands for {key}, where a list of objects is expected"
        )
        return []
    return values


def _parse_lines(text: str) -> Entries:
    """NDJSON: an object a line with `cidr`, and one about the list itself."""
    entries = Entries("blocks")
    entries.format = "JSON a line with cidr"
    group = entries.group()
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            each = decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            entries.wrong(number, line, f"is malformed JSON: {error}; fetch it again")
            continue
        if not isinstance(each, dict):
            entries.wrong(number, line, 'is no object; write {"cidr": "192.0.2.0/24"}')
        elif isinstance(value := each.get("cidr"), str):
            entries.add_to(group, value, number)
        elif each.get("type") != "metadata":
            entries.wrong(number, line, 'has no cidr; write {"cidr": "192.0.2.0/24"}')
    return entries
