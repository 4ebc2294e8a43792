"""Sampled packets for those who watch them: chosen by a filter, in words.

A watcher's cost is bounded: so many samples are looked at in a frame's time, and fewer put into words.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from cdnctl.datapath import abi
from cdnctl.datapath.perf import Sample
from cdnctl.model import PacketFilter, Sampled, SampledPacket, Term

MOST_LOOKED_AT = 20_000
"""Samples of a frame's time that a filter is asked about."""
MOST_SHOWN = 500
"""Packets of a frame's time that a watcher gets."""
_PROTOCOLS = {
    "tcp": int(socket.IPPROTO_TCP),
    "udp": int(socket.IPPROTO_UDP),
    "icmp": int(socket.IPPROTO_ICMP),
    "icmp6": int(socket.IPPROTO_ICMPV6),
}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_FLAG_MARKS = ((1, "F"), (2, "S"), (4, "R"), (8, "P"), (32, "U"), (64, "E"), (128, "W"), (16, "."))
"""As tcpdump has them."""
_VERDICTS = {verdict.name.lower(): verdict for verdict in abi.Verdict}

Test = Callable[[Sample], bool]


def sampled(
    samples: Sequence[Sample], wanted: PacketFilter, cdns: Mapping[int, str], *, one_in: int, lost: int
) -> Sampled:
    """Those that match, the first of them in words. Raises ValueError when the filter means nothing."""
    test = _any_of([_all_of([_test(term, cdns) for term in terms]) for terms in wanted])
    looked_at = samples[:MOST_LOOKED_AT]
    found = [sample for sample in looked_at if test(sample)]
    return Sampled(
        at_ns=time.time_ns(),
        one_in=one_in,
        packets=[_shown(sample, cdns) for sample in found[:MOST_SHOWN]],
        missed=max(0, len(found) - MOST_SHOWN) + len(samples) - len(looked_at),
        lost_total=lost,
    )


def _shown(sample: Sample, cdns: Mapping[int, str]) -> SampledPacket:
    verdict = abi.Verdict(sample.verdict)
    is_ip = sample.source != abi.NOBODY or sample.target != abi.NOBODY
    return SampledPacket(
        source=abi.show_address(sample.source) if is_ip else "",
        target=abi.show_address(sample.target) if is_ip else "",
        source_port=abi.show_port(sample.source_port),
        target_port=abi.show_port(sample.target_port),
        protocol=_PROTOCOL_NAMES.get(sample.protocol, str(sample.protocol)) if is_ip else "",
        flags=_marks(sample.tcp_flags) if sample.protocol == socket.IPPROTO_TCP else "",
        length=sample.length,
        verdict=verdict.name.lower(),
        drop=verdict >= abi.FIRST_DROP,
        cdn=cdns.get(sample.cdn, ""),
    )


@lru_cache(256)
def _marks(flags: int) -> str:
    return "".join(mark for bit, mark in _FLAG_MARKS if flags & bit)


# --- filters -------------------------------------------------------------------------------------------


def _any_of(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda sample: not tests or any(test(sample) for test in tests)


def _all_of(tests: Sequence[Test]) -> Test:
    return lambda sample: all(test(sample) for test in tests)


def _test(term: Term, cdns: Mapping[int, str]) -> Test:
    test = _plain_test(term, cdns)
    return (lambda sample: not test(sample)) if term.negated else test


def _plain_test(term: Term, cdns: Mapping[int, str]) -> Test:
    value = term.value
    match term.field:
        case "src":
            inside = _inside(value)
            return lambda sample: inside(sample.source)
        case "dst":
            inside = _inside(value)
            return lambda sample: inside(sample.target)
        case "host":
            inside = _inside(value)
            return lambda sample: inside(sample.source) or inside(sample.target)
        case "sport":
            port = _port(value)
            return lambda sample: sample.source_port == port
        case "dport":
            port = _port(value)
            return lambda sample: sample.target_port == port
        case "port":
            port = _port(value)
            return lambda sample: port in (sample.source_port, sample.target_port)
        case "proto":
            number = _PROTOCOLS[value] if value in _PROTOCOLS else int(value)
            return lambda sample: sample.protocol == number
        case "verdict":
            if value == "dropped":
                return lambda sample: sample.verdict >= abi.FIRST_DROP
            if value not in _VERDICTS:
                raise ValueError(f"no verdict is called {value}")
            verdict = _VERDICTS[value]
            return lambda sample: sample.verdict == verdict
        case "cdn":
            numbers = {number for number, name in cdns.items() if name == value}
            return lambda sample: sample.cdn in numbers


def _port(text: str) -> int:
    """As the kernel has it."""
    if not 0 <= (number := int(text)) < 65536:
        raise ValueError(f"no port is {text}")
    return abi.port(number)


def _inside(text: str) -> Callable[[bytes], bool]:
    """Whether an address of the kernel's lies in a prefix."""
    network = ipaddress.ip_network(text, strict=False)
    key, four = abi.prefix_key(network), network.version == 4
    rest = 128 - int.from_bytes(key[:4], "little")
    wanted = int.from_bytes(key[4:], "big") >> rest
    return lambda raw: int.from_bytes(raw, "big") >> rest == wanted and abi.is_ipv4(raw) == four
