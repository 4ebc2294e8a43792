"""Operators' blocks and what feeds want blocked, put together: of what both want the later end holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cdnctl.datapath import abi
from cdnctl.datapath.packing import Wanted
from cdnctl.defence import codes
from cdnctl.defence.blocklist import Network, View
from cdnctl.defence.feeds.prefixes import Prefixes, code_of, network_of
from cdnctl.defence.listed import Listed


def later(one_ns: int, other_ns: int) -> int:
    """The later of two ends, of which 0 is never."""
    return max(one_ns, other_ns) if one_ns and other_ns else 0


def combined(view: View, listed: Listed) -> Wanted:
    """All that is to be held."""
    if not len(listed):
        return Wanted(*view)
    others: dict[Network | bytes, int] = {abi.prefix_key(each): end for each, end in view.others.items()}
    groups = list(listed.view())
    if not view.addresses and len(groups) == 1:  # of a million that is twice as quick, and half as large
        ((end, prefixes),) = groups
        addresses = _addresses(prefixes)
        _add_others(others, prefixes, end)
        return Wanted(addresses, [end] * len(addresses), others)
    ends = dict(zip(view.addresses, view.ends, strict=True))
    for end, prefixes in groups:
        for address in _addresses(prefixes):
            ends[address] = later(ends[address], end) if address in ends else end
        _add_others(others, prefixes, end)
    return Wanted(list(ends), list(ends.values()), others)


def of_prefixes(put: Mapping[int, Prefixes], wanted: Mapping[int, int]) -> Wanted:
    """What feeds want, by its end; `wanted` are operators' ends, by code, of those that they want as well."""
    addresses, ends = list[int](), list[int]()
    others: dict[Network | bytes, int] = {}
    for end, prefixes in put.items():
        if not wanted:
            found = _addresses(prefixes)
            addresses += found
            ends += [end] * len(found)
            _add_others(others, prefixes, end)
            continue
        for network in prefixes.networks():
            code = codes.of_network(network)
            until = later(end, wanted[code]) if code in wanted else end
            if (address := codes.address(code)) is None:
                others[network] = until
            else:
                addresses.append(address)
                ends.append(until)
    return Wanted(addresses, ends, others)


def lasting(view: View, listed: Listed) -> Wanted:
    """Operators' blocks, but as long as a feed wants them, where one does."""
    if not len(listed):
        return Wanted(*view)

    def until(code: int, end: int) -> int:
        listed_ns = listed.end_of(4, code)
        return end if listed_ns is None else later(end, listed_ns)

    ends = [
        until(address << codes.LENGTH4 | codes.WIDTH4, end)
        for address, end in zip(view.addresses, view.ends, strict=True)
    ]
    others = {
        network: end
        if (found := listed.end_of(network.version, code_of(network))) is None
        else later(end, found)
        for network, end in view.others.items()
    }
    return Wanted(view.addresses, ends, others)


def _addresses(prefixes: Prefixes) -> list[int]:
    return [code >> codes.LENGTH4 for code in prefixes.v4 if code & codes.MASK4 == codes.WIDTH4]


def _add_others(others: dict[Network | bytes, int], prefixes: Prefixes, end: int) -> None:
    """Keys are made at once: networks would take half a kilobyte each."""
    for key in _keys(prefixes):
        others[key] = later(others[key], end) if key in others else end


def _keys(prefixes: Prefixes) -> Iterable[bytes]:
    for code in prefixes.v4:
        if code & codes.MASK4 != codes.WIDTH4:
            yield abi.prefix_key4(code >> codes.LENGTH4, code & codes.MASK4)
    for code in prefixes.v6:
        yield abi.prefix_key(network_of(6, code))
