"""Frames without the addresses and the people in them.

Addresses go to 240.0.0.0/4 and 2001:db8::/32, the same one always to the same, by a key that is made for
one recording and kept nowhere. What lies within a prefix lies within its replacement. Lengths stay from /8
(IPv4) and /48 (IPv6) on; shorter prefixes get the length that theirs have room for: 240.0.0.0/4, and a /40
for each /32. Two networks never become one as long as a recording has at most 16 IPv4 networks of /8, or
4,096 of /16, and 256 IPv6 networks of /32 with 256 of /48 in each: beyond, some do.

Users become operator-1, operator-2 ... Names of the edge, of CDNs, services and customers stay, and so does
what people write in reasons and notes, but for addresses and known users in it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from typing import Any

from cdnctl.model import Frame
from cdnctl.recording.codec import frame_of, tree_of

_ADDRESS = re.compile(
    r"(?<!\d)(?:\d{1,3}\.){3}\d{1,3}(?!\d)(?:/\d{1,3})?"
    r"|[0-9A-Fa-f]*:[0-9A-Fa-f]*:(?:[0-9A-Fa-f:]|\.(?=\d))*(?:/\d{1,3})?"
)
"""What may be an address or prefix, also in the middle of words; of the latter form parts may be one."""
_ACTOR = re.compile(r"([^\s:]+(?: as [^\s:]+)?): ")
"""How the text of what somebody did begins."""
_BY_SOMEBODY = frozenset({"command", "mark"})
_PEOPLE = frozenset({"user", "by"})
"""Fields that hold a user."""
_CACHED = 50_000
_V4, _V6 = 240 << 24, 0x20010DB8 << 96
_V4_UNITS, _V6_UNITS = 16, 256


class Redactor:
    """Redacts the frames of one recording, in order. `learn` beforehand what can be seen beforehand."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._users: dict[str, str] = {}
        self._names: frozenset[str] = frozenset()
        self._mentioned: re.Pattern[str] | None = None
        self._texts: dict[str, str] = {}
        self._seen: set[str] = set()
        self._slots: dict[tuple[str, int], dict[int, int]] = {}

    @property
    def addresses(self) -> int:
        """How many addresses and prefixes were replaced so far."""
        return len(self._seen)

    def frame(self, frame: Frame) -> Frame:
        """The frame, redacted. Raises RecordingError."""
        self.learn(frame)
        return frame_of(self._tree(tree_of(frame)))

    def learn(self, frame: Frame) -> None:
        """Who is in it."""
        names = {frame.edge, *(cdn.name for cdn in frame.cdns), *(each.name for each in frame.services)}
        self._names |= names | {each.name for each in frame.customers}
        for watcher in frame.watchers:
            self._user(watcher.user)
        if frame.recording is not None:
            self._user(frame.recording.by)
        for event in frame.events:
            if event.kind in _BY_SOMEBODY and (match := _ACTOR.match(event.text)):
                self._user(match[1])

    def text(self, text: str) -> str:
        """A text without addresses and known users."""
        found = self._texts.get(text)
        if found is None:
            if len(self._texts) >= _CACHED:
                self._texts.clear()
            found = _ADDRESS.sub(self._replace, text)
            if self._mentioned is not None:
                found = self._mentioned.sub(lambda match: self._users[match[0]], found)
            self._texts[text] = found
        return found

    def _tree(self, tree: Any, field: str = "") -> Any:
        if isinstance(tree, str):
            return self._users[tree] if field in _PEOPLE and tree in self._users else self.text(tree)
        if isinstance(tree, dict):
            return {self.text(name): self._tree(value, name) for name, value in tree.items()}
        if isinstance(tree, list):
            return [self._tree(item, field) for item in tree]
        return tree

    def _user(self, name: str) -> None:
        """A user; one of whom `as root` is said is the same without it."""
        if not name or name in self._users:
            return
        plain = name.partition(" as ")[0]
        known = self._users.get(plain) or f"operator-{len(set(self._users.values())) + 1}"
        self._users[name] = self._users[plain] = known
        mentioned = sorted(self._users.keys() - self._names, key=len, reverse=True)
        words = "|".join(re.escape(each) for each in mentioned)
        self._mentioned = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])") if words else None
        self._texts.clear()

    # --- addresses ----------------------------------------------------------------------------------

    def _replace(self, match: re.Match[str]) -> str:
        text, slash, length = match[0].partition("/")
        if "." in text and ":" not in text:
            return self._prefix(text, slash, length) or match[0]
        groups = re.split("(:)", text)  # parts of it may be one: `from:2001:db8::1:`
        for start in range(len(groups)):
            for end in range(len(groups), start + 2, -1):
                part = "".join(groups[start:end])
                last = end == len(groups)
                made = self._prefix(part, slash if last else "", length if last else "")
                if made is not None:
                    before, after = "".join(groups[:start]), "".join(groups[end:])
                    rest = "" if last else _ADDRESS.sub(self._replace, after + slash + length)
                    return _ADDRESS.sub(self._replace, before) + made + rest
        return match[0]

    def _prefix(self, text: str, slash: str, length: str) -> str | None:
        """The replacement of an address or prefix; None for what is none."""
        try:
            if ":" not in text:
                address: Any = ipaddress.IPv4Address(bytes(int(part) for part in text.split(".")))
            else:
                address = ipaddress.IPv6Address(text)
        except ValueError:
            return None
        bits = int(length) if slash else address.max_prefixlen
        if bits > address.max_prefixlen:
            return f"{self._prefix(text, '', '')}/{length}"
        if bits == 0 or int(address) == 0:
            return f"{address}{slash}{length}"  # anything, and nothing, are no addresses
        self._seen.add(f"{address}/{bits}")
        new, bits = self._four(int(address), bits) if address.version == 4 else self._six(int(address), bits)
        shown = type(address)(new)
        return f"{shown}/{bits}" if slash else str(shown)

    def _four(self, address: int, bits: int) -> tuple[int, int]:
        if bits < 8:
            return _V4, 4
        top, unit = address >> 24, 0
        unit = self._slot("4", 0, top, _V4_UNITS)
        second = address >> 16 & 0xFF
        if bits >= 16:
            second = self._slot("4/16", unit, top << 8 | second, 256, self._flipped(top, 8, second, 8))
        else:
            second = self._flipped(top, 8, second >> (16 - bits) << (16 - bits), 8)
        low = self._flipped(address >> 16, 16, address & 0xFFFF, 16)
        return _masked(_V4 | unit << 24 | second << 16 | low, bits, 32), bits

    def _six(self, address: int, bits: int) -> tuple[int, int]:
        unit = self._slot("6", 0, address >> 96, _V6_UNITS) if bits >= 32 else 0
        if bits < 32:
            return _V6, 32
        if bits < 48:
            return _V6 | unit << 88, 40
        site = self._slot("6/48", unit, address >> 80, 256)
        low = self._flipped(address >> 80, 48, address & ((1 << 80) - 1), 80)
        return _masked(_V6 | unit << 88 | site << 80 | low, bits, 128), bits

    def _slot(self, kind: str, within: int, real: int, count: int, wish: int | None = None) -> int:
        """A place for `real` among `count`, its own while there are any: `wish`, or one by the key."""
        taken = self._slots.setdefault((kind, within), {})
        if real not in taken:
            first = self._random(f"{kind} {within} {real}") % count if wish is None else wish
            used = set(taken.values())
            free = (place % count for place in range(first, first + count) if place % count not in used)
            taken[real] = next(free, first)
        return taken[real]

    def _flipped(self, above: int, above_bits: int, value: int, bits: int) -> int:
        """`value` with each bit flipped, or not, by the key and what stands before it."""
        flips = 0
        for at in range(bits):
            before = value >> (bits - at)
            flips = flips << 1 | self._random(f"{above_bits} {above} {at} {before}") & 1
        return value ^ flips

    def _random(self, text: str) -> int:
        digest = hashlib.blake2b(text.encode(), key=self._key, digest_size=4).digest()
        return int.from_bytes(digest, "big")


def _masked(address: int, bits: int, of: int) -> int:
    return address >> (of - bits) << (of - bits)
