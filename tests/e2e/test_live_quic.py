"""Real QUIC through the edge: connections whose port changes, and what somebody else's packets do to them."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator

import pytest
from live import Kernel

from cdnctl.datapath import abi
from cdnctl.lab.lab import Lab
from cdnctl.lab.quic import Client, Origins, origins
from cdnctl.lab.topology import VIP, VIP6

PORT = 443
CONFIG = {"service": {"port": PORT, "protocol": ["tcp", "udp"], "policy": "weighted"}}
SOURCES = {VIP: ("10.1.7.8", "10.2.9.10"), VIP6: ("3fff:1::8", "3fff:2::10")}
"""An honest client's address, and one from elsewhere."""
LARGE = bytes(range(256)) * 160
MOVES = 6
"""By chance a connection would stay with its CDN so often once in some hundred times."""


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Origins]:
    with origins(lab.sites.values()) as running:
        yield running


def client(lab: Lab, vip: str, source: str = "") -> Client:
    return Client(lab.topology.clients, source or SOURCES[vip][0], (vip, PORT))


def received(spoofer: socket.socket, seconds: float = 0.3) -> list[bytes]:
    """What comes to somebody's own address in some time."""
    datagrams, deadline = [], time.monotonic() + seconds
    while select.select([spoofer], [], [], max(0.0, deadline - time.monotonic()))[0]:
        datagrams.append(spoofer.recv(65536))
    return datagrams


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_a_connection_whose_port_changes_keeps_its_cdn(
    lab: Lab, running: Origins, kernel: Kernel, vip: str
) -> None:
    with client(lab, vip) as honest:
        cdn, echo = honest.ask(b"before")
        assert echo == b"before"
        before, challenges = kernel.totals(cdn), running.challenges(cdn)
        ports = {honest.source}
        for n in range(MOVES):
            honest.move()
            ports.add(honest.source)
            content = b"after move %d " % n + LARGE
            assert honest.ask(content) == (cdn, content)
        assert len(ports) == MOVES + 1
        assert running.challenges(cdn) - challenges >= MOVES, "the server validates each path"
    after = kernel.totals(cdn)
    assert after.rebound - before.rebound == MOVES
    assert after.new_flows == before.new_flows
    assert after.ids_learned > 0


def test_so_does_one_whose_address_changes(lab: Lab, running: Origins) -> None:
    with client(lab, VIP) as honest:
        cdn, _ = honest.ask(b"at home")
        for n in range(1, MOVES + 1):
            honest.move(f"10.{n % 3 + 1}.{n}.7")
            assert honest.ask(b"on the road") == (cdn, b"on the road")


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_a_spoofed_id_diverts_nothing(lab: Lab, running: Origins, kernel: Kernel, vip: str) -> None:
    with client(lab, vip) as honest, honest.socket_of(SOURCES[vip][1]) as spoofer:
        cdn, _ = honest.ask(b"before")
        before = kernel.totals(cdn)
        for _ in range(10):
            spoofer.sendto(b"\x43" + honest.peer_id + os.urandom(60), honest.target)
        assert honest.ask(LARGE) == (cdn, LARGE)
        assert received(spoofer) == [], "what the server cannot decrypt it does not answer"
        assert kernel.totals(cdn).rebound - before.rebound == 1, "it went to the connection's CDN"
        assert honest.ask(LARGE) == (cdn, LARGE)


def test_not_even_with_a_sound_packet(lab: Lab, running: Origins) -> None:
    """Somebody on the way takes a packet of the client's and sends it as his own, before any other."""
    with client(lab, VIP) as honest, honest.socket_of(SOURCES[VIP][1]) as spoofer:
        cdn, _ = honest.ask(b"before")
        challenges, sent = running.challenges(cdn), 0
        for datagram in honest.taken_ping():
            sent += spoofer.sendto(datagram, honest.target)
        got = received(spoofer)
        assert running.challenges(cdn) > challenges, "the server asks whether he is where he says"
        assert honest.ask(LARGE) == (cdn, LARGE)
        got += received(spoofer)
        assert 0 < sum(map(len, got)) <= 3 * sent, "and sends him no more than that (RFC 9000, 8.1)"
        assert honest.ask(LARGE) == (cdn, LARGE)


def test_many_connections_at_once(lab: Lab, running: Origins) -> None:
    opened = [client(lab, VIP, f"10.1.{n}.1") for n in range(12)]
    by_cdn: dict[str, int] = {}
    for one in opened:
        with one:
            cdn, _ = one.ask(b"1")
            one.move()
            assert one.ask(b"2") == (cdn, b"2")
            by_cdn[cdn] = by_cdn.get(cdn, 0) + 1
    assert len(by_cdn) > 1
    assert abi.Verdict.NO_PORT not in {v for v, n, _ in Kernel(lab).tables.counters.verdicts() if n}
