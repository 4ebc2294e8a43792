"""Frames for the tests of recordings: any there may be, and a small incident."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import msgspec
from hypothesis import strategies as st

from cdnctl.model import Cdn, Endpoint, Event, Frame, Severity, Talker, Totals, Verdict, Watcher

sys.path.append(str(Path(__file__).parents[1] / "console"))
from frames import Edge, incident

__all__ = ["Edge", "frame_runs", "incident", "long_incident"]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COUNT = st.integers(0, 2**63 - 1)
RATE = st.floats(allow_nan=False)
NAMES = st.sampled_from(["aurora", "borealis", "corona", "", "é\u202e"])

talkers = st.builds(
    Talker, prefix=TEXT, pps=RATE, bps=RATE, drop_share=RATE, cdn=NAMES, samples=COUNT, error=RATE
)
endpoints = st.builds(
    Endpoint,
    address=st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
    port=st.integers(0, 65535),
    state=st.sampled_from(["in", "out"]),
    ewma_ms=RATE,
    ports_gone_in_s=st.none() | RATE,
)
cdns = st.builds(
    Cdn,
    name=NAMES,
    state=st.sampled_from(["in", "out", "probing"]),
    wanted_weight=COUNT,
    effective_share=RATE,
    share=RATE,
    handshake_p95_ms=st.none() | RATE,
    open_flows=st.none() | COUNT,
    endpoints=st.lists(endpoints, max_size=3),
)
verdicts = st.builds(
    Verdict, name=NAMES, drop=st.booleans(), explanation=TEXT, packets_total=COUNT, bytes_total=COUNT,
    pps=RATE, bps=RATE,
)  # fmt: skip
events = st.builds(
    Event, seq=COUNT, at_ns=COUNT, kind=st.sampled_from(["eject", "command", "x"]), text=TEXT,
    severity=st.sampled_from(get_args(Severity)),
)  # fmt: skip
watchers = st.builds(
    Watcher, user=TEXT, pid=COUNT, client=TEXT, role=st.sampled_from(["operate", "view"]), since_ns=COUNT
)
frames = st.builds(
    Frame,
    seq=COUNT,
    at_ns=COUNT,
    monotonic_ns=COUNT,
    edge=st.just("ams1"),
    armed=st.booleans(),
    generation=COUNT,
    cdns=st.lists(cdns, max_size=4),
    verdicts=st.lists(verdicts, max_size=3),
    talkers=st.lists(talkers, max_size=4),
    events=st.lists(events, max_size=2),
    watchers=st.lists(watchers, max_size=2),
    totals=st.builds(Totals, received_pps=RATE, half_open=COUNT),
    step=TEXT,
)


@st.composite
def frame_runs(draw: st.DrawFn) -> list[Frame]:
    """A few frames that have something in common, or nothing."""
    pool = draw(st.lists(frames, min_size=1, max_size=4))
    run = []
    for index in draw(st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=12)):
        other = pool[draw(st.integers(0, len(pool) - 1))]
        mixed = {
            name: getattr(other, name)
            for name in draw(st.sets(st.sampled_from(Frame.__struct_fields__), max_size=6))
        }
        run.append(msgspec.structs.replace(pool[index], **mixed))
    return run


def long_incident(times: int) -> list[Frame]:
    """The made-up incident, so often, on one clock."""
    edge = Edge()
    return [frame for _ in range(times) for frame in incident(edge)]
