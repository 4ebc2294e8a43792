"""An agent that is killed again and again, under traffic: clients, counters, journal, lifetimes."""

from __future__ import annotations

import time

import pytest
from kills import Asked, Counters, Ends, Operator, Shown
from live import Figure, Kernel, after, ask, failures, requests_of, sleep_until

from cdnctl.cli import pages
from cdnctl.datapath import abi
from cdnctl.engine.journal import Journal
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import cpu_s
from cdnctl.lab.traffic import Traffic
from cdnctl.model import BlockPrefix, JournalEntry

RATE = 200.0
CONFIG = {"service": {"policy": "weighted"}}
CLIENTS = {"rate": RATE}
WARM = 20
EVERY_S = 2.0
FEW, OFTEN_S = 3, 1.5
"""Kills that gate a change, and how soon they follow: a minute of them is for the soak."""
LIFETIMES_S = {"10.76.0.1": 3600.0, "10.76.1.0/24": 900.0, "2001:db8:76::/48": 600.0, "10.76.2.2": None}
"""Blocked before the first kill; of the last one there is no end."""
START_CPU_S = 1.0
"""A successor may take so much of a processor until it answers; it takes 0.35 s, and on a machine that is not
busy it answers after about as long. By the clock neighbours count, too, so that is only noted."""
CLOCKS_NS = 5_000_000
"""So far may two looks at both clocks differ; besides, an end of a single address is rounded up by a tick."""
SERVES_S = 0.7
"""Each lives so long at least: for a frame and some changes."""


def test_an_agent_killed_again_and_again_is_not_missed(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    killed(FEW, OFTEN_S, lab, kernel, traffic, figure)


@pytest.mark.soak
def test_an_agent_killed_for_a_minute_is_not_missed(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    killed(30, EVERY_S, lab, kernel, traffic, figure)


def killed(times: int, every_s: float, lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure) -> None:
    """Kill it so often, and judge."""
    seconds = times * every_s
    for prefix, lifetime_s in LIFETIMES_S.items():
        ask(lab, BlockPrefix(prefix=prefix, lifetime_s=lifetime_s, reason="stays"))
    journal = Journal(lab.directory / "state" / lab.name / "journal.jsonl")
    began_seq = list(journal.read())[-1].seq
    from_ns, away_s, taken_s = time.monotonic_ns(), list[float](), list[float]()
    operator, counters, shown = Operator(lab), Counters(kernel), Shown(lab)
    ends = Ends(lab, list(LIFETIMES_S))
    with operator, counters, shown, ends:
        back_ns = from_ns
        for number in range(1, times + 1):
            # not before it has served, which it has but on a machine with other things to do
            sleep_until(max(after(from_ns, every_s * number), after(back_ns, SERVES_S)))
            lab.stop_agent(kill=True)
            killed_ns = time.monotonic_ns()
            lab.start_agent()
            back_ns = time.monotonic_ns()
            away_s.append((back_ns - killed_ns) / 1e9)
            assert lab.agent is not None
            taken_s.append(cpu_s(lab.agent.pid))
        sleep_until(after(time.monotonic_ns(), SERVES_S))
    until_ns = time.monotonic_ns()
    requests = requests_of(traffic, from_ns, until_ns)
    figure(
        "kills; without an agent, s, longest and mean", (len(away_s), max(away_s), sum(away_s) / len(away_s))
    )
    figure("requests, failed", (len(requests), len(failures(requests))))
    figure("changes asked, answered", (len(operator.asked), len(operator.answered)))
    figure("looks at counters, frames, agents", (counters.looks, shown.frames, len(shown.agents)))

    figure("processor time of a start, s, longest", max(taken_s))
    assert max(taken_s) < START_CPU_S
    assert not failures(requests)
    assert len(requests) >= 0.95 * RATE * (until_ns - from_ns) / 1e9
    assert counters.looks > 5 * seconds
    assert counters.fallen == []
    assert len(shown.agents) == len(away_s) + 1, "frames of every one of them"
    assert shown.fallen == []
    assert_no_line_is_lost([entry for entry in journal.read() if entry.seq > began_seq], operator.asked)
    assert len(operator.answered) > seconds
    assert {prefix: len(seen) for prefix, seen in ends.seen.items()} == dict.fromkeys(LIFETIMES_S, 1)
    wanted = {block.prefix: block for block in pages.blocks(lambda query: ask(lab, query)).blocks or []}
    offset_ns = time.time_ns() - time.monotonic_ns()
    for prefix, (end_ns,) in ends.seen.items():
        assert end_ns is not None
        expires_ns = wanted[prefix].expires_ns
        if expires_ns:
            late_ns = end_ns - (expires_ns - offset_ns)
            assert -CLOCKS_NS <= late_ns <= (1 << abi.BLOCK_TICK_LOG) + CLOCKS_NS
        else:
            assert end_ns == 0


def assert_no_line_is_lost(lines: list[JournalEntry], asked: list[Asked]) -> None:
    """Each answer is there once, with its words; one that never came may be; nothing else is."""
    numbers = [line.seq for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    by_reason = {line.reason: line for line in lines}
    assert len(by_reason) == len(lines), "none is there twice"
    assert by_reason.keys() <= {each.reason for each in asked}
    lost = [each for each in asked if each.text is not None and each.reason not in by_reason]
    assert lost == []
    others = [e for e in asked if e.text is not None and by_reason[e.reason].text != e.text]
    assert others == []
