"""How many live flows a prefix has: those that were closed are none, though their entries stay."""

from __future__ import annotations

from ipaddress import ip_network

from harness import DataPath
from segments import Flag
from session import Session

from cdnctl.engine import consequences
from cdnctl.model import Talker


def flows_of(path: DataPath, prefix: str, open_flows: int = 0) -> consequences.Matched:
    return consequences.matched(path.tables, list[Talker](), ip_network(prefix), open_flows)


def test_only_flows_that_are_open_are_matched(path: DataPath) -> None:
    inside = [Session(path, client="10.1.0.7", port=40_000 + n).open() for n in range(5)]
    Session(path, client="10.2.0.7").open()
    Session(path, client="10.1.0.7", port=50_000).syn()  # has proved nothing: it is no live flow
    assert int(flows_of(path, "10.1.0.0/16").flows) == 5
    assert int(flows_of(path, "10.1.0.7/32").flows) == 5
    assert int(flows_of(path, "10.0.0.0/14").flows) == 6
    for session in inside[:3]:
        session.up(Flag.RST | Flag.ACK)
    found = flows_of(path, "10.1.0.0/16", open_flows=4)
    assert (int(found.flows), found.share) == (2, 0.5)
    assert str(found.flows) == "2"
