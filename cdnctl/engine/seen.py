"""What samples say of whoever sent them, for the bans that set themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.perf import Sample
from cdnctl.defence.offences import Kind, Seen

_SYN, _ACK, _RST = 2, 16, 4
_TCP = 6
_ANSWERS = 0.5
"""A CDN answers if so many of its SYNs, or more, meet a SYN-ACK."""
_LEFT_OUT = frozenset(
    {
        Verdict.PASSED, Verdict.BYPASSED,  # not for a service
        Verdict.REPLIED, Verdict.RESET_CDN, Verdict.NO_OWNER, Verdict.STALE_REPLY,  # of a CDN
        Verdict.BLOCKED,
    }
)  # fmt: skip


class Answers:
    """Which CDNs answer, and what a sample says of its source by that."""

    def __init__(self) -> None:
        self._before: tuple[Counter[int], Counter[int]] = Counter(), Counter()

    def seen(self, samples: Sequence[Sample], endpoints: Container[bytes]) -> Iterator[Seen]:
        """Of clients' packets; what is not for a service, and what is blocked already, is left out."""
        asked, answered = Counter[int](), Counter[int]()
        for sample in samples:
            flags = sample.tcp_flags & (_SYN | _ACK)
            if flags & _SYN and sample.protocol == _TCP:
                if flags & _ACK and sample.verdict == Verdict.REPLIED:
                    answered[sample.cdn] += sample.one_in
                elif not flags & _ACK and sample.verdict == Verdict.FORWARDED:
                    asked[sample.cdn] += sample.one_in
        before, self._before = self._before, (asked, answered)
        answering = {
            cdn for cdn in asked if answered[cdn] + before[1][cdn] >= _ANSWERS * (asked[cdn] + before[0][cdn])
        }
        for sample in samples:
            if sample.verdict in _LEFT_OUT or sample.source in endpoints or sample.source == abi.NOBODY:
                continue
            yield sample.source, sample.length, sample.one_in, _kind(sample, answering)


def _kind(sample: Sample, answering: set[int]) -> int:
    if sample.protocol != _TCP:
        return Kind.PACKET
    flags = sample.tcp_flags
    if flags & _SYN:
        if flags & _ACK:
            return Kind.PACKET
        answered = sample.verdict == Verdict.CHALLENGED or (
            sample.verdict == Verdict.FORWARDED and sample.cdn in answering
        )
        return Kind.OPENS | Kind.ANSWERED if answered else Kind.OPENS
    if sample.verdict == Verdict.PROVED or (flags & (_ACK | _RST) == _ACK):
        return Kind.FOLLOWS
    return Kind.PACKET
