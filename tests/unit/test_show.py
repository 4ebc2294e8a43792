"""What `status` says of an edge in its first line, and of a CDN."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cdnctl.cli import show
from cdnctl.console.format import clock
from cdnctl.model import Cdn, Frame, Interface, Outcome, Shield

FRAME = Frame(
    seq=7, at_ns=0, monotonic_ns=0, edge="nu", armed=True, interfaces=[Interface(name="eth0", mode="native")]
)
DETACHED = [Interface(name="eth0", mode="detached"), Interface(name="eth1", mode="detached")]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (FRAME, "nu  armed  frame 7"),
        (replace(FRAME, armed=False), "nu  DISARMED: "),
        (replace(FRAME, interfaces=DETACHED), "nu  DETACHED: "),
        (replace(FRAME, interfaces=DETACHED, armed=False), "nu  DETACHED: "),
        (replace(FRAME, interfaces=DETACHED, loaded=False, agent_pid=12), "nu  NOT LOADED: "),
    ],
)
def test_the_headline_says_what_becomes_of_packets(
    frame: Frame, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show.frame(frame, as_json=False)
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(words)
    assert ("kill 12" in line) != frame.loaded


def test_what_is_challenged_is_told_and_since_when(capsys: pytest.CaptureFixture[str]) -> None:
    shield = Shield(level="siege", why="9,000 new flows/s", since_ns=5 * 10**9, challenged_per_s=812.0)
    show.frame(replace(FRAME, shield=shield), as_json=False)
    told = " ".join(capsys.readouterr().out.split())
    assert f"shield siege: 9,000 new flows/s, since {clock(5 * 10**9)}; `cdnctl shield` says more" in told
    assert "dropped 0 pps, challenged 812 pps, passed" in told
    show.frame(FRAME, as_json=False)
    assert "challenged" not in capsys.readouterr().out


def test_a_cdn_that_is_partly_in_says_what_of_it_is_out(capsys: pytest.CaptureFixture[str]) -> None:
    cdn = Cdn(
        name="borealis", state="partly", reason="dark", missing="IPv6 out: dark",
        wanted_weight=40, effective_share=0.4, share=0.4,
    )  # fmt: skip
    show.frame(replace(FRAME, cdns=[cdn]), as_json=False)
    assert "partly (IPv6 out: dark)" in capsys.readouterr().out


def test_shares_are_told_by_service_where_they_differ(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"aurora": 0.0, "borealis": 0.25, "corona": 0.75}
    answer = Outcome(ok=True, text="drained aurora", shares=shares)
    assert show.outcome(answer, as_json=False) == 0
    assert "borealis   25.0 % of new flows" in capsys.readouterr().out
    by_service = {"www": shares, "www6": {"aurora": 0.0, "borealis": 1.0}}
    assert show.outcome(replace(answer, service_shares=by_service), as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  www:   borealis 25.0 %, corona 75.0 % of new flows",
        "  www6:  borealis 100.0 % of new flows",
    ]
