"""A client, its CDN, and the packets between them."""

from __future__ import annotations

from harness import CDNS, ENDPOINTS, SERVICES, DataPath, Seen, client_port
from netbox import LINKS
from segments import Ends, Flag, numbers_of, segment

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

CDN_ISN = 0x7000_0000
_LINK = dict(zip(CDNS, LINKS, strict=True))
_BY_ADDRESS = {address: cdn for cdn, address in ENDPOINTS.items()}


def link_of(cdn: str) -> str:
    """The interface towards a CDN."""
    return _LINK[cdn].name


def reply_frame(session: Session, flags: Flag, seq: int, ack: int, payload: bytes = b"") -> bytes:
    """What the CDN would send to where the session's SYN came from."""
    link = _LINK[session.cdn]
    macs = link.gateway_mac, link.mac
    return segment(ENDPOINTS[session.cdn], session.snat, flags, seq=seq, ack=ack, payload=payload, macs=macs)


class Session:
    """One TCP connection through the edge; knows where the edge sent it from what came out."""

    def __init__(
        self, path: DataPath, service: str = "solo", client: str = "10.1.0.7", port: int = 0, isn: int = 1000
    ) -> None:
        self.path = path
        self.service = SERVICES[service]
        self.client = client, port or client_port()
        self.isn = isn
        self.cdn_isn = CDN_ISN
        self.cdn = ""
        """Where the last SYN went."""
        self.snat = "", 0

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
        seen = self.path.run(segment(self.client, self.service, Flag.SYN, seq=self.isn, ttl=ttl))
        if seen.verdict is Verdict.FORWARDED:
            ends = Ends(seen.frame)
            self.cdn, self.snat = _BY_ADDRESS[ends.target], ends.source
        return seen

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

    # -- what the edge remembers --

    @property
    def key(self) -> bytes:
        """Its key in the forward tables."""
        return bytes(
            abi.FlowKey(
                client=abi.address(self.client[0]),
                vip=abi.address(self.service[0]),
                client_port=abi.port(self.client[1]),
                vip_port=abi.port(self.service[1]),
                protocol=abi.PROTOCOL_TCP,
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
    def slot_index(self) -> int:
        """Its reverse slot's place."""
        return self.path.slot_index(self.cdn, self.snat)

    @property
    def slot(self) -> abi.Slot:
        """Its reverse slot."""
        return self.path.slot(self.slot_index)

    def age(self, ms: float) -> None:
        """Make its SYN this much older, in the forward entry and in the slot."""
        flow, slot = self.half_open, self.slot
        assert flow is not None
        flow.syn_ns -= int(ms * 1e6)
        slot.since_ns -= int(ms * 1e6)
        self.path.tables.half_open.put(self.key, bytes(flow))
        self.path.put_slot(self.slot_index, slot)


def sequence_of(seen: Seen) -> tuple[int, int]:
    """Sequence and acknowledgement number of what came out."""
    return numbers_of(seen.frame)
