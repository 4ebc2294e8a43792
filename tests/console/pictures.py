"""What the screens beyond the overview need to look real: customers, endpoints, packets, lists, a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from feeds import default_answer
from frames import NOON_NS

from cdnctl.console.filters import Filter
from cdnctl.model import (
    Allowed,
    AnyCommand,
    Autoban,
    Ban,
    Block,
    Customer,
    FindBlocks,
    Frame,
    JournalEntry,
    ListCustomers,
    ListTalkers,
    Offender,
    Outcome,
    Page,
    ReadJournal,
    Sampled,
    SampledPacket,
    Shield,
    Verdict,
    histogram_limits_ms,
)

if TYPE_CHECKING:
    from driver import Desk


def rich(frames: list[Frame]) -> list[Frame]:
    """The same frames with customers, more endpoints, capacities and histograms."""
    return [_enriched(frame) for frame in frames]


def _enriched(frame: Frame) -> Frame:
    cdns = []
    for index, cdn in enumerate(frame.cdns):
        six = msgspec.structs.replace(
            cdn.endpoints[0], address=f"2001:db8:{index + 1}::10", state="in", reason="", back_in_s=0.0,
            unanswered=0, ejections=0, regions=["eu"],
        )  # fmt: skip
        cdns.append(
            msgspec.structs.replace(
                cdn,
                endpoints=[*cdn.endpoints, six] if index else cdn.endpoints,
                histogram=_histogram(cdn.handshake_p50_ms, cdn.samples),
                first_byte_p50_ms=(cdn.handshake_p50_ms or 0) * 2.2 or None,
                first_byte_p95_ms=(cdn.handshake_p95_ms or 0) * 2.9 or None,
                requests=cdn.samples * 3,
                loss_to_cdn=0.0004,
                loss_from_cdn=0.011 if index == 1 else 0.0002,
                capacity_use=min(1.0, cdn.share * 1.4) if index < 2 else None,
                open_flows=int(cdn.new_flows_per_s * 18),
            )
        )
    frame = msgspec.structs.replace(frame, cdns=cdns, customers=_customers(frame), customers_total=3)
    return _besieged(frame) if frame.totals.received_pps > 20_000 else frame


def _besieged(frame: Frame) -> Frame:
    """The same, while the shield holds siege and two sources are over a threshold."""
    rules = [
        Verdict(
            name="challenged", drop=False, pps=51_900.0, bps=24.9e6, packets_total=1_204_000,
            bytes_total=72_240_000,
            explanation="A SYN in siege: answered with a number that its source has to send back.",
        ),
        Verdict(
            name="proved", drop=False, pps=86.0, bps=41e3, packets_total=1_950, bytes_total=117_000,
            explanation="A reset with that number: its source is where it says.",
        ),
    ]  # fmt: skip
    shield = Shield(
        level="siege",
        why="52,310 new flows/s, 99 % of them unverified",
        since_ns=frame.at_ns - 42_000_000_000,
        cost="a client's first TCP connection takes a round trip more, or a second behind some firewalls",
        offered_flows_per_s=52_310.0,
        unverified_share=0.99,
        half_open_share=0.02,
        opened_per_s=218.0,
        shed_per_s=120.0,
        challenged_per_s=51_900.0,
        proved_per_s=86.0,
    )
    autoban = Autoban(
        mode="on",
        bans=[
            Ban(
                prefix="198.51.100.66", why="5,210 new flows/s, over 1,000",
                since_ns=frame.at_ns - 31_000_000_000, ends_ns=frame.at_ns + 89_000_000_000, times=2,
                dropped_pps=5_190.0,
            )
        ],
        bans_total=1,
        most=200,
        offenders=[
            Offender(
                prefix="203.0.113.0/24", why="6,100 new flows/s, over 5,000",
                spared="it covers 203.0.113.80, the VIP of service www",
            )
        ],
    )  # fmt: skip
    return msgspec.structs.replace(frame, shield=shield, autoban=autoban, verdicts=[*frame.verdicts, *rules])


def _histogram(p50_ms: float | None, samples: int) -> list[int]:
    if p50_ms is None or not samples:
        return []
    parts = []
    for step in range(32):
        low, high = histogram_limits_ms(step)
        distance = abs((low + high) / 2 - p50_ms) / p50_ms
        parts.append(max(0.0, 1 - distance) ** 3)
    whole = sum(parts) or 1
    return [round(samples * part / whole) for part in parts]


def _customers(frame: Frame) -> list[Customer]:
    busy = frame.totals.forwarded_pps
    return [
        Customer(
            name="acme", prefixes=["10.1.0.0/16"], prefix_count=1, pps_limit=2_000.0, mbit_limit=40.0,
            pps=min(2_000.0, busy * 0.5), bps=11.2e6, flows_per_s=51.0, dropped_pps=120.0,
        ),
        Customer(
            name="globex", prefixes=["10.2.0.0/16", "2001:db8:20::/48"], prefix_count=2, flows_limit=200.0,
            pps=880.0, bps=4.9e6, flows_per_s=92.0, limited_by="operator",
        ),
        Customer(name="initech", prefixes=["10.3.0.0/16"], prefix_count=1, pps=310.0, bps=1.7e6),
    ]  # fmt: skip


def packets() -> Sampled:
    """A second's worth of sampled packets."""
    found = [
        SampledPacket("10.66.3.9", "203.0.113.80", 1024 + at, 80, "tcp", "S", 60, "blocked", True, "")
        for at in range(12)
    ]
    found.append(
        SampledPacket("2001:db8:9::7", "2001:db8:1::80", 4433, 443, "udp", "", 1252, "blocked", True, "")
    )
    found.append(
        SampledPacket("10.1.0.1", "203.0.113.80", 40000, 80, "tcp", ".", 54, "not_a_start", True, "aurora")
    )
    return Sampled(at_ns=NOON_NS + 10**9, one_in=16, packets=found, missed=31)


def answer(command: AnyCommand) -> Outcome:
    """What an agent with a long block list, an allow list and a journal would say."""
    match command:
        case FindBlocks():
            found = [
                block for block in BLOCKS if Filter(command.text).keeps(f"{block.prefix} {block.reason}")
            ]
            start = len(found) - (len(found) if command.cursor is None else command.cursor)
            page = found[start : start + command.limit]
            left = len(found) - start - len(page)
            return Outcome(
                ok=True,
                text="",
                blocks=page,
                page=Page(next=left or None, looked_at=len(page), total=len(BLOCKS)),
            )
        case ListCustomers():
            allowed = [Allowed(prefix="10.9.0.0/16", reason="our monitoring"), Allowed(prefix="192.0.2.7")]
            return Outcome(ok=True, text="", allowed=allowed, customers=[])
        case ListTalkers():
            return Outcome(ok=True, text="", talkers=[])
        case ReadJournal():
            return Outcome(ok=True, text="", journal=list(reversed(JOURNAL)), page=Page(total=len(JOURNAL)))
    return default_answer(command)


REASONS = ("scraper", "SYN flood, ticket 4711")
BLOCKS = [
    Block(
        prefix=f"198.51.{number // 250}.{number % 250}", reason=REASONS[number % 2],
        source=("manual", "feed-a")[number % 3 == 0], created_ns=NOON_NS - number * 10**9,
        expires_ns=NOON_NS + (3600 + 77 * number) * 10**9 if number % 5 else 0, hits=17 * number % 4001,
    )
    for number in range(1_000)
]  # fmt: skip


def _entry(seq: int, user: str, verb: str, cli: str, text: str, **more: object) -> JournalEntry:
    fields: dict[str, object] = {"ok": True, "before": {}, "after": {}, "reason": ""} | more
    return JournalEntry(
        seq=seq, at=f"2023-11-14T22:{seq % 60:02}:07.123456Z", user=user, uid=0, pid=900 + seq,
        client="console", cli=cli, command={"verb": verb}, text=text, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


JOURNAL = [
    _entry(1, "root", "attach", "cdnctl attach", "attached to eth0, eth1"),
    _entry(2, "alice as root", "weight", "cdnctl weight aurora=60 borealis=40",
           "set weights aurora=60, borealis=40", before={"weights": {"aurora": 100, "borealis": 100}},
           after={"weights": {"aurora": 60, "borealis": 40}}, reason="contract of May"),
    _entry(3, "bob", "block", "cdnctl block 203.0.113.80 --for 4h",
           "203.0.113.80 is the VIP of service www", ok=False),
    _entry(4, "bob", "block", "cdnctl block 10.66.0.0/16 --for 4h --reason 'SYN flood, ticket 4711'",
           "blocked 10.66.0.0/16 for 4h", before={"blocks": 0}, after={"blocks": 1},
           reason="SYN flood, ticket 4711"),
    _entry(5, "alice as root", "drain", "cdnctl drain corona", "drained corona",
           before={"drained": []}, after={"drained": ["corona"]}),
]  # fmt: skip


async def dress(desk: Desk) -> None:
    """Packets for whoever watches, with the next frame."""
    desk.feed.answer = answer
    desk.feed.sampled = [packets()]
    newest = desk.app.session.history.newest
    assert newest is not None
    frame = msgspec.structs.replace(
        newest, seq=newest.seq + 1, monotonic_ns=newest.monotonic_ns + 1, events=[]
    )
    await desk.send(frame)
