"""Blocks that set themselves: whom to ban, for how long, and when that is over. Pure: it says what to do.

A ban lasts while its cause does. The kernel counts what it drops, and that says whether the cause lasts: a
ban is renewed while more than a tenth comes of what it was made for, and lifted when there was less for a
while, which is twice as long each time that the same prefix comes back within the hour. Who stops when nobody
answers him any more (TCP does) is let in again, and banned again.

A ban ends by itself when nobody renews it: an agent that dies leaves none behind.

There is a most of bans, and of whole networks. What must not be banned is spared, and so, for ten minutes, is
a prefix whose ban somebody lifted. Single offenders in it may be banned all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from cdnctl.config import AutobanConfig
from cdnctl.defence.blocklist import Network, covers
from cdnctl.defence.offences import Offence

LONGEST_S = 3600.0
"""Each renewal is for twice as long as the one before, up to this."""
REMEMBERED_S = 3600.0
PARDON_S = 600.0
AGAIN_S = 60.0
LEAST_LOUD_PPS = 1.0
NEW_AT_ONCE = 10
"""New bans in one reading: each is written to the disk before the next frame is made."""
_LOUD = 0.1
_LOOKS = 3
"""So often in the time of quiet a ban's drops are looked at."""
_LONGEST_PAUSE = 16
"""The time of quiet doubles at most up to so many times what is configured."""
_SOURCE_BITS = {4: 32, 6: 64}
"""The length of a single source; shorter prefixes are networks."""

Refuse = Callable[[Network], str | None]
"""Why a prefix must not be banned, or None."""


@dataclass
class Held:
    """A ban in force."""

    network: Network
    why: str
    since_s: float
    until_s: float
    lifetime_s: float
    loud_pps: float
    """More than so much dropped says that its cause lasts."""
    times: int
    loud_s: float
    """When that was last so."""
    looked_s: float
    hits: int = 0
    """When it was last looked at."""
    pps: float = 0.0


class Act(NamedTuple):
    """What is to be done."""

    kind: Literal["ban", "renew", "lift"]
    network: Network
    why: str
    lifetime_s: float = 0.0
    times: int = 1
    held: Held | None = None
    """The ban before, which stays when this fails."""


class Spared(NamedTuple):
    """An offence without a ban; `why` is empty where only the mode keeps it from one."""

    offence: Offence
    why: str


class Autoban:
    """Those of one edge, by any steady clock."""

    def __init__(self, config: AutobanConfig) -> None:
        self.config = config
        self.held: dict[Network, Held] = {}
        self.spared: list[Spared] = []
        """Of the last reading."""
        self._past: dict[Network, tuple[int, float]] = {}
        """Of prefixes whose ban was lifted: how often they had one, and when it ended."""
        self._pardoned: dict[Network, float] = {}
        """Until when."""
        self._failed: dict[Network, float] = {}
        """Likewise, of those that could not be banned, or whose ban could not be renewed or lifted."""

    def adopt(self, network: Network, why: str, left_s: float, now_s: float) -> None:
        """One that was found: of an agent before this one, or put back by an operator."""
        self.held[network] = Held(
            network, why, now_s, now_s + left_s, self.config.ban_s, LEAST_LOUD_PPS, 1, now_s, now_s
        )

    def judge(
        self,
        now_s: float,
        offences: Sequence[Offence],
        hits: Mapping[Network, int],
        refuse: Refuse,
        *,
        acting: bool,
    ) -> list[Act]:
        """What is to be done now. `hits` has the packets that each ban in force dropped so far."""
        self._forget(now_s, hits)
        acts = [act for held in list(self.held.values()) for act in self._look(held, now_s, hits)]
        self.spared = []
        for offence in offences:
            if any(covers(held.network, offence.network) for held in self._around(offence.network)):
                continue
            why = self._why_not(offence.network, now_s, refuse)
            if why or not acting or sum(act.kind == "ban" for act in acts) >= NEW_AT_ONCE:
                self.spared.append(Spared(offence, why))
            else:
                acts.append(self._ban(offence, now_s))
        return acts

    def recheck(self, refuse: Refuse) -> list[Act]:
        """Lift what must not be banned any more."""
        gone = [(held, why) for held in self._movable() if (why := refuse(held.network))]
        return [self._lift(held, f"it {why}", held.since_s) for held, why in gone]

    def clear(self, why: str, now_s: float) -> list[Act]:
        """Lift all."""
        return [self._lift(held, why, now_s) for held in self._movable()]

    def _movable(self) -> list[Held]:
        """Those that did not fail to be lifted or renewed a moment ago."""
        return [held for held in self.held.values() if held.network not in self._failed]

    def failed(self, act: Act, now_s: float) -> None:
        """It could not be done; it is tried again after a while, a renewal before the ban is over."""
        again_s, network = AGAIN_S, act.network
        if act.held is None:
            self.held.pop(network, None)
        else:
            self.held[network] = act.held
            self._past.pop(network, None)
            again_s = min(AGAIN_S, act.held.lifetime_s / 8)
        self._failed[network] = now_s + again_s

    # -- one ban ------------------------------------------------------------------------------------

    def _ban(self, offence: Offence, now_s: float) -> Act:
        config, network = self.config, offence.network
        times = self._past.pop(network, (0, 0.0))[0] + 1
        loud_pps = max(LEAST_LOUD_PPS, _LOUD * offence.pps)
        self.held[network] = Held(
            network, offence.why, now_s, now_s + config.ban_s, config.ban_s, loud_pps, times, now_s, now_s
        )
        return Act("ban", network, offence.why, config.ban_s, times)

    def _look(self, held: Held, now_s: float, hits: Mapping[Network, int]) -> Iterator[Act]:
        config = self.config
        pause_s = config.quiet_s * min(2 ** (held.times - 1), _LONGEST_PAUSE)
        if now_s - held.looked_s >= config.quiet_s / _LOOKS:
            held.pps = (hits[held.network] - held.hits) / (now_s - held.looked_s)
            held.looked_s, held.hits = now_s, hits[held.network]
            if held.pps >= held.loud_pps:
                held.loud_s = now_s
        if held.network in self._failed:
            return
        if now_s - held.loud_s >= pause_s:
            yield self._lift(held, f"next to nothing came for {pause_s:,.0f} s", now_s)
        elif held.until_s - now_s < held.lifetime_s / 2:
            before = replace(held)
            held.lifetime_s = max(held.lifetime_s, min(2 * held.lifetime_s, LONGEST_S))
            held.until_s = now_s + held.lifetime_s
            yield Act("renew", held.network, held.why, held.lifetime_s, held.times, before)

    def _lift(self, held: Held, why: str, now_s: float) -> Act:
        del self.held[held.network]
        self._past[held.network] = held.times, now_s
        return Act("lift", held.network, why, times=held.times, held=held)

    def _forget(self, now_s: float, hits: Mapping[Network, int]) -> None:
        """Those that are gone: over, or lifted by somebody, who will have had a reason."""
        for network in [each for each in self.held if each not in hits]:
            held = self.held.pop(network)
            if now_s < held.until_s - 1:
                self._pardoned[network] = now_s + PARDON_S
            else:
                self._past[network] = held.times, now_s
        self._past = {each: past for each, past in self._past.items() if now_s - past[1] < REMEMBERED_S}
        self._pardoned = {each: until_s for each, until_s in self._pardoned.items() if now_s < until_s}
        self._failed = {each: until_s for each, until_s in self._failed.items() if now_s < until_s}

    # -- who is spared ------------------------------------------------------------------------------

    def _around(self, network: Network) -> Iterator[Held]:
        """Bans of it, and of the network that it lies in."""
        for length in (network.prefixlen, 24 if network.version == 4 else 48):
            if length <= network.prefixlen:
                wider = network.supernet(new_prefix=length)
                if wider in self.held:
                    yield self.held[wider]

    def _why_not(self, network: Network, now_s: float, refuse: Refuse) -> str:
        if network in self._pardoned:
            ago_s = PARDON_S - (self._pardoned[network] - now_s)
            return f"an operator lifted its ban {ago_s:.0f} s ago"
        if network in self._failed:
            return "the kernel refused it a moment ago"
        config = self.config
        if len(self.held) >= config.most:
            return f"there are {len(self.held)} bans, and [autoban] most says no more"
        if is_network(network):
            networks = sum(map(is_network, self.held))
            if networks >= config.most_networks:
                return f"{networks} networks are banned, and [autoban] most_networks says no more"
        refused = refuse(network)
        return f"it {refused}" if refused else ""


def is_network(network: Network) -> bool:
    """Whether it is more than one source."""
    return network.prefixlen < _SOURCE_BITS[network.version]
