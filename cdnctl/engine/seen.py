"""What samples say of whoever sent them, for the bans that set themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.perf import Sample
from cdnctl.defence.offences import ANSWERED, FOLLOWS, OPENS, Seen

_SYN, _ACK, _RST = 2, 16, 4
_TCP = 6
_ANSWERS = 0.5
"""A CDN answers if so many of its SYNs, or more, meet a SYN-ACK."""
_FORWARDED, _REPLIED = int(Verdict.FORWARDED), int(Verdict.REPLIED)
_CHALLENGED, _PROVED = int(Verdict.CHALLENGED), int(Verdict.PROVED)
_LEFT_OUT = frozenset(
    int(each)
    for each in (
        Verdict.PASSED, Verdict.BYPASSED, Verdict.UNINVITED, Verdict.UNUSED,  # not for a service
        Verdict.REPLIED, Verdict.RESET_CDN, Verdict.NO_OWNER, Verdict.STALE_REPLY,  # of a CDN
        Verdict.BLOCKED,
    )
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
                if flags & _ACK and sample.verdict == _REPLIED:
                    answered[sample.cdn] += sample.one_in
                elif not flags & _ACK and sample.verdict == _FORWARDED:
                    asked[sample.cdn] += sample.one_in
        before, self._before = self._before, (asked, answered)
        answering = {
            cdn for cdn in asked if answered[cdn] + before[1][cdn] >= _ANSWERS * (asked[cdn] + before[0][cdn])
        }
        for sample in samples:
            verdict, flags, kind = sample.verdict, sample.tcp_flags, 0
            if verdict in _LEFT_OUT or sample.source in endpoints or sample.source == abi.NOBODY:
                continue
            if sample.protocol == _TCP:
                if flags & _SYN:
                    if not flags & _ACK:
                        answers = verdict == _FORWARDED and sample.cdn in answering
                        kind = OPENS | ANSWERED if answers or verdict == _CHALLENGED else OPENS
                elif verdict == _PROVED or (flags & (_ACK | _RST) == _ACK):
                    kind = FOLLOWS
            yield sample.source, sample.length, sample.one_in, kind
