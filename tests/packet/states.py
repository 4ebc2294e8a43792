"""States of flows that the rows of the table begin with: each is reached by packets alone, but for time."""

from __future__ import annotations

import copy
from collections.abc import Callable

from harness import AURORA, CDNS, MS, RESTED_NS, SNAT, SNAT6, DataPath
from segments import Flag
from session import Datagrams, Flow, Session
from table import NOW, Given

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Breaker, OutReason, Transport

PORT = 20031
"""A port of ours that nobody holds."""
ISN, CDN_ISN = 1000, 0x7000_0000
MINE, THEIRS = ISN + 1, CDN_ISN + 1
"""What a client and a CDN say next, after the handshake."""
Do = Callable[[Session], Session | None]


def _at_nobodys_port(flow: Flow) -> None:
    flow.cdn = AURORA
    flow.snat = (SNAT6 if flow.pool in (abi.Pool.TCP6, abi.Pool.UDP6) else SNAT)[0], PORT


def _service(name: str, family: int) -> str:
    return f"{name}6" if family == 6 else name


def _known(path: DataPath) -> None:
    """The CDNs' usual handshakes are known, and quick."""
    for cdn in CDNS:
        for pool in abi.Pool:
            path.change_health(cdn, pool, samples=20, baseline_us=10_000, ewma_us=10_000)


# -- TCP --


def tcp(name: str, do: Do, service: str = "solo") -> Given:
    """A connection of which so much has happened."""

    def make(path: DataPath, family: int) -> Flow:
        if service != "solo":
            _known(path)
        session = Session(path, _service(service, family), isn=ISN)
        _at_nobodys_port(session)
        return do(session) or session

    return Given(name, make)


def _nothing(flow: Flow) -> None:
    """It has not begun."""


def _begun(session: Session, ms: float = 0) -> None:
    session.syn()
    session.age(ms)


def _begun_with_data(session: Session) -> None:
    session.went(session.up(Flag.SYN, seq=session.isn, payload=bytes(18)))


def _begun_again(session: Session) -> None:
    session.syn()
    session.syn()


def _begun_otherwise(session: Session) -> None:
    session.syn()
    session.isn += 7000
    session.syn()


def _answered(session: Session) -> None:
    session.syn()
    session.syn_ack()


def _refused(session: Session, ms: float = 0) -> None:
    session.syn()
    session.refuse()
    session.age(ms)


def _rescued(session: Session, *, first: bool) -> Session:
    _begun(session, 210)
    before = copy.copy(session)
    session.syn()
    assert before.cdn != session.cdn
    return before if first else session


def _asked(session: Session) -> None:
    session.open().up(Flag.PSH | Flag.ACK, payload=b"GET /")


def _ended(session: Session, side: str, flags: Flag, ms: float = 0) -> None:
    getattr(session.open(), side)(flags)
    slot = session.slot
    slot.since_ns -= int(ms * MS)
    session.path.put_slot(session.slot_index, slot)


def _evicted(session: Session) -> None:
    assert session.path.tables.established.delete(session.open().key)
    slot = session.slot
    slot.seen_s = 0  # the second is over in which replies do not look
    session.path.put_slot(session.slot_index, slot)


def _another(session: Session, *, first: bool) -> Session:
    """Another client's connection is on the port that the first one's was on until a minute ago."""
    path = session.path
    path.change(ports=1, snat_count=1)
    session.open().close()
    slot = session.slot
    slot.since_ns -= RESTED_NS
    path.put_slot(session.slot_index, slot)
    address = session.client[0][:-1] + "9"
    second = Session(path, _service("solo", 6 if ":" in address else 4), client=address, isn=900_000)
    second.cdn_isn += 5_000_000
    assert second.open().slot_index == session.slot_index
    return session if first else second


def _dark(session: Session) -> None:
    _asked(session)
    session.path.change_health(AURORA, session.pool, state=Breaker.OUT, reason=OutReason.DARK)


def _by(transport: Transport, do: Do) -> Do:
    def begin(session: Session) -> Session | None:
        session.path.change_endpoint(AURORA, session.pool, transport=transport, tunnel_port=6080)
        return do(session)

    return begin


FIN, RST = Flag.FIN | Flag.ACK, Flag.RST
NOTHING = tcp("no segment was seen", _nothing)
BEGUN = tcp("a SYN was sent on", _begun)
BEGUN_WITH_DATA = tcp("a SYN with 18 bytes was sent on", _begun_with_data)
BEGUN_AGAIN = tcp("a SYN was sent on twice", _begun_again)
BEGUN_OTHERWISE = tcp("a SYN was sent on, then one with another number", _begun_otherwise)
SILENT = tcp("a SYN was sent on 210 ms ago", lambda session: _begun(session, 210), "www")
GIVEN_UP = tcp("a SYN was sent on 8 s ago", lambda session: _begun(session, 8_001))
ANSWERED = tcp("the SYN was answered", _answered)
OPEN = tcp("established", Session.open)
ASKED = tcp("established, a request was sent on", _asked)
DARK = tcp("the same, but the CDN has gone dark", _dark)
CLIENT_CLOSED = tcp("the client has closed", lambda session: _ended(session, "up", FIN))
CDN_CLOSED = tcp("the CDN has closed", lambda session: _ended(session, "down", FIN))
CLOSED = tcp("both have closed", lambda session: session.open().close())
RESET = tcp("reset by the client", lambda session: _ended(session, "up", RST))
RESET_AGO = tcp("reset by the client 4 s ago, as it seemed", lambda session: _ended(session, "up", RST, 4000))
RESET_BY_CDN = tcp("reset by the CDN", lambda session: _ended(session, "down", RST))
REFUSED = tcp("refused", _refused)
REFUSED_BY_ONE = tcp("refused 600 ms ago by one CDN of three", lambda session: _refused(session, 600), "www")
RESCUED_FROM = tcp("rescued; with the first CDN", lambda session: _rescued(session, first=True), "www")
RESCUED_TO = tcp("rescued; with the second CDN", lambda session: _rescued(session, first=False), "www")
EVICTED = tcp("established, but forgotten", _evicted)
FORMER_OWNER = tcp("its port is another client's now", lambda session: _another(session, first=True))
NEW_OWNER = tcp("its port was another client's", lambda session: _another(session, first=False))


# -- UDP --


def udp(name: str, do: Callable[[Datagrams], object], service: str = "dns") -> Given:
    """Datagrams of which so many have gone by."""

    def make(path: DataPath, family: int) -> Flow:
        _known(path)
        flow = Datagrams(path, _service(service, family))
        _at_nobodys_port(flow)
        do(flow)
        return flow

    return Given(name, make)


def _later(flow: Flow, ms: float) -> None:
    flow.path.clock(NOW + round(ms * MS))


def _asked_and_answered(flow: Datagrams) -> None:
    flow.up()
    flow.down()


def _answering(flow: Datagrams) -> None:
    """Somebody else has had an answer from the service."""
    service = "quic6" if flow.pool is abi.Pool.UDP6 else "quic"
    Datagrams(flow.path, service).open()


def _asked_ago(flow: Datagrams, ms: float) -> None:
    _answering(flow)
    flow.up()
    _later(flow, ms)


def _idle(flow: Datagrams) -> None:
    flow.open()
    _later(flow, 200_000)
    flow.path.sweep()


def _open_into_the_dark(flow: Datagrams) -> None:
    flow.open()
    _later(flow, 2000)
    flow.path.change_health(flow.cdn, flow.pool, state=Breaker.OUT, reason=OutReason.DARK, out_until_ns=2**62)


UDP_NOTHING = udp("no datagram was seen", _nothing)
UDP_ASKED = udp("a question was sent on", Datagrams.up)
UDP_ASKED_AGO = udp("a question was sent on 50 ms ago", lambda flow: _asked_ago(flow, 50), "quic")
UDP_SILENT = udp("a question was sent on 210 ms ago", lambda flow: _asked_ago(flow, 210), "quic")
UDP_ANSWERED = udp("it was answered", _asked_and_answered)
UDP_OPEN = udp("both have heard of each other", Datagrams.open)
UDP_IDLE = udp("idle for 200 s", _idle)
UDP_DARK = udp("both have heard of each other, but the CDN has gone dark", _open_into_the_dark, "quic")
