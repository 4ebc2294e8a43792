"""Whether a CDN is in, and what is told of it, by its endpoints."""

from __future__ import annotations

import time

import pytest

from cdnctl.datapath.abi import EventKind, OutReason
from cdnctl.datapath.perf import Reflex
from cdnctl.engine.cdns import Standing, stand
from cdnctl.engine.layout import EndpointPlace
from cdnctl.engine.ticker import Ticker
from cdnctl.model import Endpoint

FOUR = Endpoint(address="198.51.100.20", port=443, state="in")
FOUR_OUT = Endpoint(address="198.51.100.21", port=443, state="out", reason="slow")
SIX = Endpoint(address="fd77:2::2", port=443, state="in")
SIX_OUT = Endpoint(address="fd77:2::2", port=443, state="out", reason="dark")
UDP_PROBING = Endpoint(address="198.51.100.20", port=443, protocol="udp", state="probing", reason="dark")
DRAINED = Endpoint(address="198.51.100.20", port=443, state="drained", reason="operator")


@pytest.mark.parametrize(
    ("endpoints", "standing"),
    [
        ([FOUR, SIX], Standing("in")),
        ([FOUR, SIX_OUT], Standing("partly", "dark", "IPv6 out: dark")),
        ([SIX, FOUR_OUT], Standing("partly", "slow", "IPv4 out: slow")),
        ([FOUR, FOUR_OUT], Standing("partly", "slow", "198.51.100.21:443 out: slow")),
        ([FOUR, UDP_PROBING], Standing("partly", "dark", "UDP probing: dark")),
        ([FOUR, UDP_PROBING, SIX_OUT], Standing("partly", "dark", "[fd77:2::2]:443 and 1 more out: dark")),
        ([FOUR_OUT, SIX_OUT], Standing("out", "slow")),
        ([UDP_PROBING, SIX_OUT], Standing("probing", "dark")),
        ([DRAINED, DRAINED], Standing("drained", "operator")),
    ],
)
def test_a_cdn_is_in_when_all_of_its_endpoints_are(endpoints: list[Endpoint], standing: Standing) -> None:
    assert stand(endpoints) == standing


def told(*places: EndpointPlace) -> str:
    """What the ticker says when the first of them goes dark."""
    ticker = Ticker()
    event = Reflex(time.monotonic_ns(), EventKind.EJECT, OutReason.DARK, places[0].id, 0, 5, 1)
    ticker.reflexes([event], {place.id: place for place in places})
    (found,) = ticker.take()
    assert found.cdn == "borealis"
    return found.text


def test_an_event_names_the_endpoint_when_its_cdn_has_more_than_one() -> None:
    six = EndpointPlace(3, 1, "borealis", "fd77:2::2", 443, "tcp")
    four = EndpointPlace(4, 1, "borealis", "198.51.100.20", 443, "tcp")
    other = EndpointPlace(5, 2, "corona", "198.51.100.30", 443, "tcp")
    udp = EndpointPlace(6, 1, "borealis", "fd77:2::2", 443, "udp")
    dark = "is out, dark: 5 connects unanswered"
    assert told(six, other) == f"borealis {dark}"
    assert told(six, four, other) == f"borealis over IPv6 ([fd77:2::2]:443) {dark}"
    assert told(udp, six) == f"borealis over UDP ([fd77:2::2]:443) {dark}"
