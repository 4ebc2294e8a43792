"""The attacks there are, who counts as served, and what the demo takes."""

from __future__ import annotations

import ipaddress

import pytest

from cdnctl.cli import main
from cdnctl.lab import topology
from cdnctl.lab.attacks.claims import Honest, became, honest
from cdnctl.lab.attacks.kinds import ATTACKS, Crowd
from cdnctl.lab.demo import MAX_RATE
from cdnctl.lab.scenarios import SCENARIOS
from cdnctl.lab.traffic import Request
from cdnctl.model import Frame, Verdict

S = 1_000_000_000
BEGIN, END = 10 * S, 20 * S


def new(start_s: float, *, ok: bool = True, total_ms: float = 20.0) -> Request:
    start = int(start_s * S)
    return Request(
        start, "new", start, start, 10.0, total_ms, "ok" if ok else "timeout", "aurora", "10.1.1.1"
    )


def kept(connection: int, start_s: float, *, ok: bool = True) -> Request:
    start = int(start_s * S)
    return Request(
        start, "keepalive", S, connection, 10.0, 20.0, "ok" if ok else "reset", "aurora", "10.1.1.1"
    )


def test_nobody_honest_is_where_an_attack_comes_from() -> None:
    honest_people = [
        ipaddress.ip_network(region) for region in (*topology.REGIONS, topology.FAR_REGION[0], "192.0.2.0/24")
    ]
    for attack in ATTACKS.values():
        network = ipaddress.ip_network(attack.prefix)
        assert not any(network.overlaps(region) for region in honest_people), attack.name
        bots = ipaddress.ip_network(topology.BOTS_PREFIX)
        assert not isinstance(attack.load, Crowd) or network.subnet_of(bots), "they have stacks"


def test_only_new_requests_of_the_time_itself_are_judged() -> None:
    requests = [new(9.99, ok=False), new(10.0), new(15.0, ok=False), new(19.99), new(20.0, ok=False)]
    seen = honest(requests, BEGIN, END)
    assert (seen.new, seen.served) == (3, 2)
    assert seen.served_percent == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    ("later", "is_kept"),
    [
        ([kept(7, 15), kept(7, 21)], True),
        ([kept(7, 15, ok=False), kept(7, 21)], False),
        ([kept(7, 15)], False),
        ([], False),
    ],
    ids=["served all the while", "a request failed", "gone without a word", "never asked again"],
)
def test_a_connection_is_kept_that_serves_before_during_and_afterwards(
    later: list[Request], is_kept: bool
) -> None:
    seen = honest([kept(7, 9), *later, kept(8, 15), kept(8, 21)], BEGIN, END)
    assert (seen.open_before, seen.kept) == (1, int(is_kept))


def test_a_request_under_way_when_it_begins_counts_for_its_connection() -> None:
    seen = honest([kept(7, 8), kept(7, 9.99, ok=False), kept(7, 21)], BEGIN, END)
    assert (seen.open_before, seen.kept) == (1, 0)


def test_of_nothing_nothing_is_said() -> None:
    seen = honest([], BEGIN, END)
    assert (seen.served_percent, seen.kept_percent) == (None, None)
    assert isinstance(seen, Honest)


def test_what_became_of_the_packets_is_told_by_reason() -> None:
    def frame(**counts: int) -> Frame:
        made = [
            Verdict(
                name=name,
                drop=name == "shed_source",
                explanation="",
                packets_total=n,
                bytes_total=0,
                pps=0,
                bps=0,
            )
            for name, n in counts.items()
        ]
        return Frame(seq=1, at_ns=0, monotonic_ns=0, edge="demo", armed=True, verdicts=made)

    before = frame(shed_source=5, challenged=10, forwarded=100, blocked=3)
    after = frame(shed_source=8, challenged=30, forwarded=900, blocked=3)
    assert became(before, after) == [("challenged", False, 20), ("shed_source", True, 3)]
    assert became(None, after) == []


def test_the_list_has_a_name_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--scenario", "list"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert names == list(SCENARIOS)
    assert names[0] == "incident"
    assert {"syn-flood", "slow-sources", "carpet-bombing"} < set(names)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenario", "sin-flood"], "no scenario is called 'sin-flood'"),
        (["--rate", "1000"], "an attack's"),
        (["--scenario", "incident", "--seconds", "5"], "an attack's"),
    ],
)
def test_what_cannot_be_played_is_said(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--headless", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-1", str(MAX_RATE + 1), "nan", "many"])
def test_a_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--scenario", "syn-flood", "--rate", rate])
    assert ended.value.code == 2
    assert "--rate" in capsys.readouterr().err
