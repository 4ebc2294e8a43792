"""Which format a list is in, told by what it looks like, and its entries.

lines        an address or prefix a line; `#` and `;` begin comments, as in `192.0.2.0/24 ; SBL1`
ipset        what `ipset save` prints          nft      a set as `nft list set` prints it
documents    JSON and NDJSON of providers, block lists and CrowdSec
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cdnctl.defence.feeds import documents, nft
from cdnctl.defence.feeds.entries import Entries, FeedError, HopelessError, Kind, clipped

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_COMMENTS = ("#", ";", "//")
_IPSET = ("create ", "add ", "flush ", "destroy ")


def parse(data: bytes, name: str = "the list") -> Entries:
    """The entries of a list in any format. Raises FeedError with lines and remedies."""
    text = _text(data, name)
    start = text.lstrip()
    if not start:
        raise FeedError(f"{name} is empty", "an empty list is never taken; if it is meant, remove the feed")
    if start.startswith("<"):
        line = text[: len(text) - len(start)].count("\n") + 1
        what = (
            "an HTML page" if "<html" in start[:2000].lower() or "<!doctype" in start[:100].lower() else "XML"
        )
        raise FeedError(
            f"{name}, line {line}: this is {what}, not a list: {clipped(start.splitlines()[0])}",
            "a login, an error or a moved address answers so: open the URL, and take that of the list itself",
        )
    try:
        entries = _reader(start)(text)
    except HopelessError as error:
        entries = error.entries
    return entries.require_right(name)


def plain_text(data: bytes, name: str) -> str | None:
    """The text of a list that has a prefix a line; None for other formats. Raises FeedError."""
    text = _text(data, name)
    start = text.lstrip()
    is_plain = bool(start) and not start.startswith("<") and _reader(start) is parse_lines
    return text if is_plain else None


def _text(data: bytes, name: str) -> str:
    for magic, packer in _PACKED.items():
        if data.startswith(magic):
            raise FeedError(
                f"{name} is packed with {packer}", "unpack it, or take the address of the plain list"
            )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FeedError(
            f"{name}, line {line}: the byte {data[error.start]:#04x} is not UTF-8",
            "a list is text: prefixes a line, JSON, ipset or nft; see whether this is the right file",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _reader(start: str) -> Callable[[str], Entries]:
    if start[0] in "{[":
        return documents.parse
    for line in _said(start):
        if line.startswith(_IPSET):
            return parse_ipset
        if nft.looks_like(line):
            return nft.parse
        break
    return parse_lines


def _said(text: str) -> Iterator[str]:
    """Its lines that are no comments."""
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].strip()
        if line and not line.startswith(_COMMENTS):
            yield line
        at = end + 1


def parse_lines(text: str) -> Entries:
    """An address or prefix a line, and comments."""
    return some_lines(enumerate(text.split("\n"), 1))


def some_lines(numbered: Iterable[tuple[int, str]]) -> Entries:
    """The same of lines with their numbers."""
    entries = Entries()
    entries.format = "a prefix a line"
    group = entries.group()
    add = entries.add_to
    for number, line in numbered:
        if not line or line.isspace():
            continue
        if "#" in line or ";" in line or line[0] == "/":
            if line.lstrip().startswith(_COMMENTS):
                continue
            # A `;` after a prefix begins the publisher's own number of the entry.
            line = line.partition("#")[0].partition(";")[0]
        add(group, line.strip(), number)
    return entries


def parse_ipset(text: str) -> Entries:
    """What `ipset save` prints: `add NAME PREFIX [timeout SECONDS] [comment "..."]`."""
    entries = Entries("blocks")
    entries.format = "what `ipset save` prints"
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith(_COMMENTS) or words[0] in ("flush", "destroy"):
            continue
        if words[0] == "create" and len(words) >= 3:
            if not words[2].startswith(("hash:ip", "hash:net")) or "," in words[2]:
                entries.wrong(
                    number, words[2], "holds more than addresses; save a set of hash:ip or hash:net"
                )
            continue
        if words[0] != "add" or len(words) < 3:
            entries.wrong(number, line.strip(), "is no line of `ipset save`; write add NAME PREFIX")
            continue
        options = words[3:]
        if "comment" in options:  # free text, which may say anything
            options = options[: options.index("comment")]
        if "nomatch" in options:
            entries.wrong(number, words[2], "has nomatch, an exception, which a block list has none of")
            continue
        _add_ipset(entries, words[2], options, number)
    return entries


def _add_ipset(entries: Entries, value: str, options: list[str], line: int) -> None:
    lifetime_s: float | None = None
    if "timeout" in options:
        after = options[options.index("timeout") + 1 :][:1]
        if not after or not (after[0].isascii() and after[0].isdigit() and len(after[0]) < 12):
            entries.wrong(line, " ".join(["timeout", *after]), "is no timeout; write whole seconds")
            return
        lifetime_s = float(after[0]) or None  # 0: never ends
    first, dash, last = value.partition("-")
    if dash:
        entries.add_range(first, last, line, lifetime_s)
    else:
        entries.add(value, line, lifetime_s)


KINDS: dict[Kind, str] = {
    "blocks": "whom to block",
    "ranges": "a provider's own ranges",
    "either": "prefixes, it does not say whose",
}
