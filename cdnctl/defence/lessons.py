"""What recordings teach of attacks: how sources behaved, and who of them attacked, as marks say.

A mark `attack NAME from PREFIX, PREFIX` says that from then on these attack, until `attack NAME is over`.
Every picture of a source's manner meanwhile is a lesson: of that attack, or, from any other source, of an
honest one. While none is on all are honest.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cdnctl.model import FEATURES, Event, Frame

HONEST = ""
"""The attack of who does not."""
_BEGINS = re.compile(r"attack ([a-z0-9-]{1,40}) from (\S.*)")
_ENDS = re.compile(r"attack ([a-z0-9-]{1,40}) is over")
_TESTED_OF_256 = 77
"""Three in ten sources are held out."""


class Lesson(NamedTuple):
    """A source, when it asked for a flow."""

    source: str
    attack: str
    features: tuple[int, ...]

    @property
    def is_held_out(self) -> bool:
        """Whether it is for judging what was learned, by its address: all of a source, or none."""
        return hashlib.blake2b(self.source.encode(), digest_size=1).digest()[0] < _TESTED_OF_256


Networks = list[ipaddress.IPv4Network | ipaddress.IPv6Network]


def lessons(frames: Iterable[Frame]) -> Iterator[Lesson]:
    """Of one recording."""
    attacks: dict[str, Networks] = {}
    for frame in frames:
        for event in frame.events:
            _follow(attacks, event)
        for manner in frame.manners:
            if len(manner.features) == len(FEATURES):
                yield Lesson(manner.source, _who(attacks, manner.source), tuple(manner.features))


def _follow(attacks: dict[str, Networks], event: Event) -> None:
    if event.kind != "mark":
        return
    if found := _ENDS.search(event.text):
        attacks.pop(found[1], None)
    elif found := _BEGINS.search(event.text):
        attacks[found[1]] = [
            network for word in found[2].split(",") if (network := _network(word.strip())) is not None
        ]


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _who(attacks: dict[str, Networks], source: str) -> str:
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return HONEST
    for name, networks in attacks.items():
        if any(address in network for network in networks):
            return name
    return HONEST
