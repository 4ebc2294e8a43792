"""What a change would do to the traffic there is now, in numbers, and whether that makes it risky.

Asked while frames go on, so each look is bounded: a few milliseconds, also with a million flows. What was
not looked at is taken to be like what was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.flows import FlowCount, Life, scaled
from cdnctl.datapath.tables import Tables
from cdnctl.defence import codes
from cdnctl.defence.blocklist import Network, covers, parse_prefix
from cdnctl.model import Talker

BOUND_S = 0.008
"""How long a look at the flow tables may take."""
MANY_FLOWS = 1_000
MOST = 0.5
"""Of new flows: what moves more of them is risky."""
_WHOLE = abi.key(128)
"""How the trie's key of a single address begins."""
_LOOKS = 64
"""Flows looked at between two looks at the clock."""
_IsOne = Callable[[bytes, int], bool]
"""Keys of flows, and where in them a client's address begins: is it one of those that are looked for?"""


class Matched(NamedTuple):
    """What a prefix is now."""

    flows: FlowCount
    pps: float
    share: float
    """Of all live flows."""


def matched(tables: Tables, talkers: list[Talker], network: Network, open_flows: int) -> Matched:
    """Live flows of a prefix, and what its busiest sources send, as far as they are known by themselves.

    `open_flows` is how many there are in all, by the last census.
    """
    flows = _flows(tables, _of_network(network))
    inside = (each.pps for each in talkers if covers(network, parse_talker(each.prefix)))
    return Matched(flows, sum(inside), int(flows) / max(open_flows, int(flows), 1))


def matched_list(tables: Tables, talkers: list[Talker], listed: Collection[int], open_flows: int) -> Matched:
    """The same of all prefixes of a list, by their codes."""
    within = set(listed)

    def is_in(network: Network) -> bool:
        code = codes.of_network(network)
        return code in within or any(wider in within for wider in codes.around(code))

    size = abi.FlowKey.client.size
    flows = _flows(tables, lambda keys, at: is_in(abi.network(_WHOLE + keys[at : at + size])))
    pps = sum(each.pps for each in talkers if is_in(parse_talker(each.prefix)))
    return Matched(flows, pps, int(flows) / max(open_flows, int(flows), 1))


def parse_talker(prefix: str) -> Network:
    """A talker's prefix; those of the whole internet cannot be blocked, and are in none."""
    try:
        return parse_prefix(prefix)
    except ValueError:
        return parse_prefix("0.0.0.0/8" if ":" not in prefix else "::/16")


def _of_network(network: Network) -> _IsOne:
    """Whether a flow's client lies in it."""
    key, bits = abi.prefix_key(network)[4:], network.prefixlen + (96 if network.version == 4 else 0)
    whole, rest = divmod(bits, 8)
    first, mask = key[:whole], (0xFF00 >> rest) & 0xFF
    odd = key[whole] & mask if rest else 0

    def is_one(keys: bytes, at: int) -> bool:
        return keys.startswith(first, at) and (not rest or keys[at + whole] & mask == odd)

    return is_one


def _flows(tables: Tables, is_one: _IsOne) -> FlowCount:
    """Flows under way whose client it is and that were not closed: a table keeps entries of those that were.

    The kernel's tables give them in the order of a hash: those that come first are a fair sample.
    """
    settings = tables.settings
    under_way = (tables.established, settings.established_s), (tables.datagrams, settings.udp_s)
    client, began = abi.FlowKey.client.offset, time.monotonic()
    live = looked = seen = 0
    for table, idle_s in under_way:
        life, size, width = Life(tables.reverse, idle_s), table.info.key_size, table.info.value_size
        for count, keys, values in table.batches():
            seen += count
            for number in range(count):
                if looked % _LOOKS == 0 and time.monotonic() - began > BOUND_S:
                    break
                looked += 1
                if is_one(keys, number * size + client):
                    live += life.of(values[number * width : (number + 1) * width])
            if time.monotonic() - began > BOUND_S:
                break
    return FlowCount(scaled(live, looked, seen), about=looked < seen)


def block_words(what: Matched) -> str:
    """`matches 12 live flows, 3.1 kpps, no CDN, not you`."""
    flows = f"{what.flows} live flow{'' if what.flows == 1 else 's'}"
    return f"matches {flows}, {_pps(what.pps)}, no CDN, not you"


def block_risk(what: Matched) -> str:
    """Why such a block should be confirmed."""
    if what.share > MOST and what.flows >= 10:
        return f"it cuts {100 * what.share:.0f} % of the live flows"
    return f"it cuts {what.flows} live flows" if what.flows >= MANY_FLOWS else ""


def moved(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """The share of new flows that go elsewhere than before."""
    return sum(max(0.0, share - before.get(cdn, 0.0)) for cdn, share in after.items())


def steering_words(share: float) -> str:
    """`moves 31 % of new flows; live ones stay`."""
    return (
        f"moves {100 * share:.0f} % of new flows; live ones stay" if share >= 0.005 else "moves no new flows"
    )


def steering_risk(share: float, left: list[str], before: list[str]) -> str:
    """Why new weights or drains should be confirmed."""
    if share > MOST:
        return f"it moves {100 * share:.0f} % of new flows"
    if len(left) == 1 < len(before):
        return f"only {left[0]} is left"
    return ""


def cuts(flows: int | str) -> str:
    """Why to confirm what cuts translated flows."""
    if isinstance(flows, str):
        return "it cuts all translated flows"
    return f"it cuts {flows} translated flows" if flows else ""


def _pps(pps: float) -> str:
    for unit, size in (("Mpps", 1e6), ("kpps", 1e3)):
        if pps >= size:
            return f"{pps / size:.1f} {unit}"
    return f"{pps:.0f} pps"
