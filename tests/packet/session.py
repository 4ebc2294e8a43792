"""A client, its CDN, and the packets between them: by TCP or UDP, over IPv4 or IPv6.

The service decides which: `solo` and `solo6` are the same but for the family.
"""

from __future__ import annotations

from harness import CDNS, ENDPOINTS, ENDPOINTS6, PROTOCOL, SERVICES, Action, DataPath, Seen, client_port
from netbox import LINKS
from segments import End, Ends, Flag, datagram, is_ipv6, numbers_of, segment

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

CDN_ISN = 0x7000_0000
CLIENT, CLIENT6 = "10.1.0.7", "2001:db8:c1::7"
LINK = dict(zip(CDNS, LINKS, strict=True))
BY_ADDRESS = {end: cdn for ends in (ENDPOINTS, ENDPOINTS6) for cdn, end in ends.items()}


def link_of(cdn: str) -> str:
    """The interface towards a CDN."""
    return LINK[cdn].name


def macs_from(cdn: str) -> tuple[str, str]:
    """Sender and receiver of the frames that come from a CDN."""
    return LINK[cdn].gateway_mac, LINK[cdn].mac


def reply_frame(session: Session, flags: Flag, seq: int, ack: int, payload: bytes = b"") -> bytes:
    """What the CDN would send to where the session's SYN came from."""
    macs = macs_from(session.cdn)
    return segment(session.endpoint, session.snat, flags, seq=seq, ack=ack, payload=payload, macs=macs)


class Flow:
    """One flow through the edge; knows where the edge sent it from what came out."""

    def __init__(self, path: DataPath, service: str, client: str = "", port: int = 0) -> None:
        self.path = path
        self.service = SERVICES[service]
        self.protocol = PROTOCOL.get(service, abi.TCP)
        self.client = client or (CLIENT6 if is_ipv6(self.service[0]) else CLIENT), port or client_port()
        self.cdn = ""
        """Where its first packet went, at the last time it was sent."""
        self.snat: End = "", 0

    def went(self, seen: Seen) -> Seen:
        """`seen`, and where it went is where the flow goes."""
        if seen.verdict is Verdict.FORWARDED and seen.action is not Action.PASS:  # it is only observed
            ends = Ends(seen.frame)
            self.cdn, self.snat = BY_ADDRESS[ends.target], ends.source
        return seen

    @property
    def endpoint(self) -> End:
        """The CDN's end."""
        return (ENDPOINTS6 if is_ipv6(self.service[0]) else ENDPOINTS)[self.cdn]

    @property
    def pool(self) -> abi.Pool:
        """The pool that its endpoint is of."""
        return abi.pool_of(self.service[0], self.protocol)

    # -- what the edge remembers --

    @property
    def key(self) -> bytes:
        """Its key in the forward tables."""
        return bytes(
            abi.FlowKey(
                client=abi.address(self.client[0]),
                client_port=abi.port(self.client[1]),
                vip_port=abi.port(self.service[1]),
                vip=self.path.layout.vips[self.service[0]],
                protocol=self.protocol,
            )
        )

    def _entry(self, table: str) -> abi.Flow | None:
        raw = getattr(self.path.tables, table).get(self.key)
        return None if raw is None else abi.Flow.from_buffer_copy(raw)

    @property
    def half_open(self) -> abi.Flow | None:
        """Its half-open entry."""
        return self._entry("half_open")

    @property
    def established(self) -> abi.Flow | None:
        """Its established entry."""
        return self._entry("established")

    @property
    def datagrams(self) -> abi.Flow | None:
        """Its entry among flows whose client has not proved itself."""
        return self._entry("datagrams")

    @property
    def under_way(self) -> abi.Flow | None:
        """Its entry, wherever that is, when it is no more half-open."""
        return self.established or self.datagrams

    @property
    def slot_index(self) -> int:
        """Its reverse slot's place."""
        return self.path.slot_index(self.cdn, self.snat, self.pool)

    @property
    def slot(self) -> abi.Slot:
        """Its reverse slot."""
        return self.path.slot(self.slot_index)

    def age(self, ms: float) -> None:
        """Make its first packet this much older, in the forward entry and in the slot."""
        flow, slot = self.half_open, self.slot
        assert flow is not None
        flow.syn_ns -= int(ms * 1e6)
        slot.since_ns -= int(ms * 1e6)
        self.path.tables.half_open.put(self.key, bytes(flow))
        self.path.put_slot(self.slot_index, slot)


class Session(Flow):
    """One TCP connection."""

    def __init__(
        self, path: DataPath, service: str = "solo", client: str = "", port: int = 0, isn: int = 1000
    ) -> None:
        super().__init__(path, service, client, port)
        self.isn = isn
        self.cdn_isn = CDN_ISN

    # -- the client's side --

    def up(
        self, flags: Flag, *, seq: int | None = None, ack: int | None = None, payload: bytes = b""
    ) -> Seen:
        """A segment of the client."""
        seq = self.isn + 1 if seq is None else seq
        ack = (self.cdn_isn + 1 if flags & Flag.ACK else 0) if ack is None else ack
        return self.path.run(segment(self.client, self.service, flags, seq=seq, ack=ack, payload=payload))

    def syn(self, *, ttl: int = 64) -> Seen:
        """The client's SYN; where it went is taken from what came out."""
        return self.went(self.path.run(segment(self.client, self.service, Flag.SYN, seq=self.isn, ttl=ttl)))

    def ack(self) -> Seen:
        """The last step of the handshake."""
        return self.up(Flag.ACK)

    # -- the CDN's side --

    def down(
        self, flags: Flag, *, seq: int | None = None, ack: int | None = None, payload: bytes = b""
    ) -> Seen:
        """A segment of the CDN, to where the last SYN came from."""
        seq = self.cdn_isn + 1 if seq is None else seq
        ack = (self.isn + 1 if flags & Flag.ACK else 0) if ack is None else ack
        return self.path.run(reply_frame(self, flags, seq, ack, payload), link_of(self.cdn))

    def syn_ack(self) -> Seen:
        """The CDN's answer to the SYN."""
        return self.down(Flag.SYN | Flag.ACK, seq=self.cdn_isn)

    def refuse(self) -> Seen:
        """The CDN answers the SYN with a reset."""
        return self.down(Flag.RST | Flag.ACK, seq=0)

    # -- both --

    def open(self) -> Session:
        """The whole handshake."""
        seen = [self.syn(), self.syn_ack(), self.ack()]
        assert [each.verdict for each in seen] == [Verdict.FORWARDED, Verdict.REPLIED, Verdict.FORWARDED], (
            seen
        )
        return self

    def close(self) -> Session:
        """FINs both ways."""
        seen = [
            self.up(Flag.FIN | Flag.ACK),
            self.down(Flag.FIN | Flag.ACK),
            self.up(Flag.ACK, seq=self.isn + 2),
        ]
        assert [each.verdict for each in seen] == [Verdict.FORWARDED, Verdict.REPLIED, Verdict.FORWARDED], (
            seen
        )
        return self


class Datagrams(Flow):
    """One flow of UDP datagrams."""

    def __init__(self, path: DataPath, service: str = "dns", client: str = "", port: int = 0) -> None:
        super().__init__(path, service, client, port)

    def up(self, payload: bytes = b"?", *, ttl: int = 64) -> Seen:
        """A datagram of the client; where it went is taken from what came out."""
        return self.went(self.path.run(datagram(self.client, self.service, payload, ttl=ttl)))

    def down(self, payload: bytes = b"!") -> Seen:
        """A datagram of the CDN, to where the last one of the client came from."""
        frame = datagram(self.endpoint, self.snat, payload, macs=macs_from(self.cdn))
        return self.path.run(frame, link_of(self.cdn))

    def open(self) -> Datagrams:
        """A question, its answer, and one more: now both ends have proved that they are there."""
        seen = [self.up(), self.down(), self.up()]
        assert [each.verdict for each in seen] == [Verdict.FORWARDED, Verdict.REPLIED, Verdict.FORWARDED], (
            seen
        )
        return self


def sequence_of(seen: Seen) -> tuple[int, int]:
    """Sequence and acknowledgement number of what came out."""
    return numbers_of(seen.frame)
