"""The tunnels' far ends: takes packets out of IP-in-IP and GUE, as a CDN that answers directly does.

    python -m cdnctl.lab.decap  <  {"sites": {"aurora": "/run/netns/cdnctl-demo-aurora"}, "port": 6080}
                                <  {"stats": true}

In each site's namespace: raw sockets for protocols 4 and 41, UDP sockets for GUE (variant 1: the packet
itself behind the UDP header), and a TUN device, by which the packet inside comes in as from the wire. The
host's own stack takes it from there: the VIP is on its loopback, and its routes lead to the client.

One JSON object a line, one line of answer each. It ends when standard input closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
UDP_NO_CHECK6_RX = 102
"""Tunnels over IPv6 may do without the outer checksum (RFC 6935)."""
PACKET_BYTES = 2048
BATCH = 64
SOCKET_BYTES = 1 << 20
SO_RCVBUFFORCE = 33
IPV4_HEADER = 20


class Tunnel:
    """One socket that packets in packets come by, and the device they go on to."""

    def __init__(self, sock: socket.socket, outer_bytes: int, device: int) -> None:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BYTES)
        sock.setblocking(False)
        self.sock, self.device = sock, device
        self.outer_bytes = outer_bytes
        """Of headers that the socket shows."""
        self.taken = self.refused = 0

    def receive(self) -> None:
        for _ in range(BATCH):
            try:
                packet = self.sock.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of somebody's: not for us
                continue
            try:
                os.write(self.device, packet[self.outer_bytes :])
                self.taken += 1
            except OSError:  # not a packet
                self.refused += 1


class Decapsulator:
    """All sites, one event loop."""

    def __init__(self) -> None:
        self.sites: dict[str, dict[str, Tunnel]] = {}
        self.by_fd: dict[int, Tunnel] = {}
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.orders = b""

    def run(self) -> None:
        """Take packets out until standard input closes."""
        while True:
            for fd, _ in self.poll.poll():
                if fd:
                    self.by_fd[fd].receive()
                elif not self.take_orders():
                    return

    def take_orders(self) -> bool:
        data = os.read(0, 65536)
        *lines, self.orders = (self.orders + data).split(b"\n")
        for line in lines:
            try:
                answer = self.obey(json.loads(line))
            except (KeyError, TypeError, ValueError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            os.write(1, json.dumps(answer).encode() + b"\n")
        return bool(data)

    def obey(self, order: dict[str, object]) -> dict[str, object]:
        sites = order.get("sites")
        if isinstance(sites, dict):
            for name, namespace in sites.items():
                with _entered(namespace):
                    self.sites[name] = _tunnels(int(str(order["port"])))
                for tunnel in self.sites[name].values():
                    self.by_fd[tunnel.sock.fileno()] = tunnel
                    self.poll.register(tunnel.sock.fileno(), select.EPOLLIN)
        if order.get("stats"):
            return {
                name: {kind: tunnel.taken for kind, tunnel in tunnels.items()}
                for name, tunnels in self.sites.items()
            }
        return {}


def _tunnels(port: int) -> dict[str, Tunnel]:
    """Those of the namespace we are in, by what comes through them."""
    device = _tun("decap")
    ipip = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP)
    ipip6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_IPV6)
    gue = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gue.bind(("0.0.0.0", port))
    gue6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    gue6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    gue6.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
    gue6.bind(("::", port))
    return {
        "ipip": Tunnel(ipip, IPV4_HEADER, device),
        "ipip6": Tunnel(ipip6, 0, device),
        "gue": Tunnel(gue, 0, device),
        "gue6": Tunnel(gue6, 0, device),
    }


def _tun(name: str) -> int:
    """A TUN device, up, in the namespace we are in."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), IFF_UP))
    return device


@contextlib.contextmanager
def _entered(namespace: str) -> Iterator[None]:
    """Move this thread into a network namespace for the time of the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as here, open(namespace) as there:
        _check(libc.setns(there.fileno(), CLONE_NEWNET))
        try:
            yield
        finally:
            _check(libc.setns(here.fileno(), CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


if __name__ == "__main__":
    try:
        Decapsulator().run()
    except KeyboardInterrupt:
        sys.exit(130)
