"""Clients that send anything at all, at any time: it is refused, and harms nobody else.

Real sockets, the real server; only the engine behind it is a double, which notes what reaches it.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest
from engine_double import ServedDouble
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cdnctl import model
from cdnctl.agent import protocol
from cdnctl.agent.blocking import Client

MESSAGES = 50
"""In one example."""
PART, ALL = 40, 1000
"""Examples that gate a change, and those of the soak: 2,000 messages, and 50,000."""
SENTINEL = (1 << 62) - 1
HELLO = protocol.encode(protocol.ClientHello(client="hostile"))


class Sent(NamedTuple):
    """Bytes, and whether they leave the line where a message may begin."""

    data: bytes
    whole: bool = True


class Told(NamedTuple):
    """What came down for it, up to the sentinel's answer or the end."""

    messages: list[protocol.Down]
    ended: bool


# --- what is sent ------------------------------------------------------------------------------------


def framed(body: bytes) -> Sent:
    return Sent(len(body).to_bytes(4, "big") + body, whole=bool(body))


numbers = st.integers(0, 20)
texts = st.text(max_size=8) | st.sampled_from(["10.0.0.1", "::/0", "aurora", "\x1b[2J", "\0", "x" * 400])
commands = st.one_of(
    st.builds(model.BlockPrefix, prefix=texts, reason=texts, dry_run=st.booleans()),
    st.builds(model.BlockPrefix, prefix=texts, lifetime_s=st.floats()),
    st.builds(model.SetWeights, weights=st.dictionaries(texts, st.integers(-5, 2**63 - 1), max_size=3)),
    st.builds(model.Drain, cdn=texts),
    st.just(model.Disarm()),
    st.just(model.Arm()),
    st.just(model.Detach(dry_run=True)),
)
queries = st.sampled_from([model.Who(), model.GetFrame(), model.GetFrame(seq=-7), model.ListBlocks()])
requests = st.builds(protocol.Request, id=numbers, command=commands, again=st.booleans())
filters = st.lists(
    st.lists(
        st.builds(model.Term, st.sampled_from(["src", "port", "verdict"]), texts, st.booleans()), max_size=3
    ),
    max_size=3,
)
good = st.one_of(
    requests,
    requests,
    st.builds(protocol.Query, id=numbers, query=queries),
    st.builds(protocol.Watch, filter=filters),
    st.builds(protocol.ClientHello, client=texts, version=st.integers(0, 9), history=st.integers(-9, 2**40)),
)
bodies = good.map(lambda message: protocol.encode(message)[4:])
loose = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | texts
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
tagged = st.builds(
    lambda tag, number, rest: msgspec.msgpack.encode({**rest, "type": tag, "id": number}),
    st.sampled_from(["request", "query", "watch", "hello", "answer", "frame", ""]),
    numbers | st.integers(-(2**63), 2**64 - 1),
    st.dictionaries(st.sampled_from(["command", "query", "filter", "again", "version"]), loose, max_size=3),
)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A good message with a few bytes replaced, cut out or put in."""
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        body[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(body)


def cut_short(body: bytes, missing: int) -> Sent:
    """The length that it should have, and less."""
    whole = len(body).to_bytes(4, "big") + body
    return Sent(whole[: max(1, len(whole) - missing)], whole=False)


long_texts = st.integers(1, protocol.MAX_UP - 200).map(
    lambda size: protocol.encode(protocol.Request(id=1, command=model.Drain(cdn="x" * size)))
)
oversized = st.builds(
    lambda length, body: Sent(length.to_bytes(4, "big") + body, whole=False),
    st.integers(protocol.MAX_UP + 1, 2**32 - 1) | st.just(0),
    st.binary(max_size=64),
)
anything = st.one_of(
    bodies.map(framed),
    bodies.map(framed),
    tagged.map(framed),
    changed().map(framed),
    loose.map(lambda value: framed(msgspec.msgpack.encode(value))),
    st.binary(max_size=60).map(framed),
    st.integers(1, 2000).map(lambda depth: framed(b"\x81\xa4type\xa7request" + b"\x91" * depth)),
    st.builds(cut_short, bodies, st.integers(1, 40)),
    oversized,
    st.binary(min_size=1, max_size=60).map(lambda data: Sent(data, whole=False)),
    long_texts.map(Sent),
)


# --- sending it --------------------------------------------------------------------------------------


class Line:
    """A connection that is made anew whenever the agent ends it."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._sock: socket.socket | None = None
        self.ended = 0

    def send(self, sent: Sent, *, greeted: bool) -> Told:
        """Send it, and a query after it; what came."""
        if self._sock is None:
            self._sock = self._connect()
            self._sock.sendall(HELLO if greeted else b"")
        data = sent.data
        if sent.whole:
            data += protocol.encode(protocol.Query(id=SENTINEL, query=model.Who()))
        try:
            self._sock.sendall(data)
            if not sent.whole:
                self._sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        told = self._read()
        if told.ended:
            self.close()
            self.ended += 1
        return told

    def _read(self) -> Told:
        assert self._sock is not None
        data, found = b"", list[protocol.Down]()
        while True:
            while len(data) >= 4 and len(data) >= 4 + (size := int.from_bytes(data[:4], "big")):
                message = protocol.decode_down(data[4 : 4 + size])
                data = data[4 + size :]
                if isinstance(message, protocol.Answer) and message.id == SENTINEL:
                    return Told(found, ended=False)
                found.append(message)
            try:
                part = self._sock.recv(65536)
            except ConnectionResetError:
                part = b""
            if not part:
                return Told(found, ended=True)
            data += part

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def judge(sent: Sent, told: Told, *, may_change: bool) -> None:
    """Whatever it was: answered, or refused, or the line has ended, and nothing else came."""
    answers = [each for each in told.messages if isinstance(each, protocol.Answer)]
    last_words = [each for each in told.messages if isinstance(each, protocol.Refused)]
    others = len(told.messages) - len(answers) - len(last_words)
    greetings = sum(
        isinstance(each, protocol.ServerHello | protocol.SampledMessage) for each in told.messages
    )
    assert others == greetings
    assert len(answers) + len(last_words) <= 1 or not sent.whole
    assert bool(last_words) <= told.ended
    if not may_change:
        assert not any(each.outcome and each.outcome.text.startswith(("did ", "blocked")) for each in answers)


def harass(served: ServedDouble, messages: list[Sent], *, view: bool, greeted: bool) -> None:
    path = served.view_path if view else served.path
    asked = len(served.engine.asked)

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(path))
        return sock

    line = Line(connect)
    for sent in messages:
        judge(sent, line.send(sent, greeted=greeted), may_change=not view)
    line.close()
    if view:
        changes = [each for each, _ in served.engine.asked[asked:] if isinstance(each, model.Change)]
        assert changes == [], "from the view socket"
    with Client(served.path) as well_behaved:
        assert well_behaved.request(model.Arm()).ok
        assert well_behaved.request(model.Who()).ok


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        phases=[
            Phase.explicit,
            Phase.reuse,
            Phase.generate,
        ],  # shrinking would take minutes: each has its time-outs
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )


def unharmed(served: ServedDouble, caplog: pytest.LogCaptureFixture) -> None:
    """It lives, its clients are gone, nothing of it was a surprise to it, and it said what it refused."""
    assert served.thread.is_alive()
    deadline = time.monotonic() + 5
    while served.server._sessions and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not served.server._sessions
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []
    refused = [each for each in caplog.records if getattr(each, "few", "")]
    assert {each.few.partition(" ")[0] for each in refused} == {"operate", "view"}
    assert len(refused) < 400, "a flood of refusals floods no log"


many = given(
    messages=st.lists(anything, min_size=MESSAGES, max_size=MESSAGES),
    view=st.booleans(),
    greeted=st.sampled_from([True, True, True, False]),
)


def test_anything_at_all_harms_nobody(served: ServedDouble, caplog: pytest.LogCaptureFixture) -> None:
    @examples(PART)
    @many
    def run(messages: list[Sent], view: bool, greeted: bool) -> None:
        harass(served, messages, view=view, greeted=greeted)

    with caplog.at_level(logging.INFO, "cdnctl"):
        run()
    unharmed(served, caplog)


@pytest.mark.soak
def test_fifty_thousand_messages_harm_nobody(served: ServedDouble, caplog: pytest.LogCaptureFixture) -> None:
    @examples(ALL)
    @many
    def run(messages: list[Sent], view: bool, greeted: bool) -> None:
        harass(served, messages, view=view, greeted=greeted)

    with caplog.at_level(logging.INFO, "cdnctl"):
        run()
    unharmed(served, caplog)
