"""Endpoints by name: what answers lead to, and a real resolver against a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.steering.discovery import USUAL, Answer, Name, Refresh, ranked, refresh, resolve

A, B, C, D = (f"198.51.100.{last}" for last in (1, 2, 3, 4))


class Follower:
    """Applies answers one after another, each at its time."""

    def __init__(self) -> None:
        self.name = Name()
        self.now_s = 0.0
        self.last: Refresh | None = None

    def hear(self, *addresses: str, ttl_s: float = 60, failure: str = "") -> Refresh:
        before = self.name.addresses
        self.last = refresh(self.name, Answer(addresses, ttl_s, failure), self.now_s)
        assert not self.last.added or not self.last.removed, "added before removed"
        self.name = self.last.name
        assert set(self.name.addresses) == (set(before) | set(self.last.added)) - set(self.last.removed)
        self.now_s += self.last.next_in_s
        return self.last


def test_a_change_is_adopted_at_once_and_the_old_go_after() -> None:
    dns_ = Follower()
    assert dns_.hear(A, B).added == [A, B]
    changed = dns_.hear(C, D, ttl_s=30)
    assert (changed.added, changed.removed) == ([C], []), "half of what is there at a time"
    assert changed.next_in_s == USUAL.least_ttl_s, "and the rest soon"
    assert dns_.hear(C, D, ttl_s=30).added == [D]
    removed = []
    while dns_.name.addresses != [C, D]:
        removed.append(dns_.hear(C, D, ttl_s=30).removed)
        assert len(removed) < 10
    assert sorted(each for some in removed for each in some) == [A, B]
    assert dns_.last is not None
    assert dns_.now_s - dns_.last.next_in_s <= 60 + 30, "all of it within its TTL"


def test_the_ttl_is_honoured_within_bounds() -> None:
    dns_ = Follower()
    assert dns_.hear(A, ttl_s=300).next_in_s == 300
    assert dns_.hear(A, ttl_s=0).next_in_s == USUAL.least_ttl_s
    assert dns_.hear(A, ttl_s=10**9).next_in_s == USUAL.most_ttl_s


@pytest.mark.parametrize("failure", ["no such name", ""])
def test_no_answer_changes_nothing(failure: str) -> None:
    dns_ = Follower()
    dns_.hear(A, B)
    waits = []
    for _ in range(20):
        done = dns_.hear(failure=failure)
        assert not done.added
        assert not done.removed
        assert "2 last good addresses stay" in done.notes[-1]
        waits.append(done.next_in_s)
    assert waits[0] == 10
    assert waits[1] == 20
    assert max(waits) <= USUAL.most_retry_s
    assert dns_.name.addresses == [A, B]
    assert "answers again" in dns_.hear(A, B).notes[0]


def test_an_address_missing_once_stays() -> None:
    dns_ = Follower()
    dns_.hear(A, B, C)
    for _ in range(20):
        assert not dns_.hear(A, B).removed
        assert not dns_.hear(A, B, C).removed


def test_names_that_rotate_are_followed_calmly() -> None:
    """A hundred servers, four in each answer: no more than some are used, and they hardly change."""
    chance = random.Random(1)
    pool = [f"203.0.113.{n}" for n in range(100)]
    dns_, changes = Follower(), 0
    for _ in range(200):
        done = dns_.hear(*chance.sample(pool, 4), ttl_s=5)
        changes += len(done.added) + len(done.removed)
        assert 1 <= len(dns_.name.addresses) <= 1.5 * USUAL.most
    assert changes > 20


def test_what_no_host_has_is_left_out() -> None:
    done = refresh(Name(), Answer(("127.0.0.1", "0.0.0.0", A, "::1", "224.0.0.1", "nonsense")), 0)
    assert done.added == [A]
    assert len(done.notes) == 5
    poisoned = refresh(done.name, Answer(("127.0.0.1",)), 60)
    assert poisoned.name.addresses == [A]


def test_of_too_many_the_quickest() -> None:
    addresses = tuple(f"198.51.100.{n}" for n in range(1, 21))
    measured = {f"198.51.100.{n}": 100.0 - n for n in range(11, 21)}
    done = refresh(Name(), Answer(addresses), 0, measured=measured)
    assert done.added == [f"198.51.100.{n}" for n in range(20, 12, -1)]
    assert ranked(addresses[8:12], measured)[0] == "198.51.100.12"


ANSWER = st.builds(
    Answer,
    st.lists(st.sampled_from([A, B, C, D, "127.0.0.1"]), max_size=4).map(tuple),
    st.floats(0, 10**6),
    st.sampled_from(["", "", "", "timeout"]),
)


@given(st.lists(ANSWER, max_size=40))
def test_whatever_dns_says(answers: list[Answer]) -> None:
    name, now_s, had = Name(), 0.0, False
    for answer in answers:
        before = len(name.addresses)
        done = refresh(name, answer, now_s)
        name = msgspec.json.decode(msgspec.json.encode(done.name), type=Name)
        assert name == done.name
        had = had or bool(name.addresses)
        assert bool(name.addresses) == had, "never without an address again"
        assert len(done.removed) <= max(1, before // 2)
        assert not before or len(done.added) <= max(1, before // 2)
        assert USUAL.least_ttl_s <= done.next_in_s <= USUAL.most_ttl_s
        now_s += done.next_in_s


Reply = Callable[[dns.message.Message], dns.message.Message | None]


@contextlib.asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[int]:
    """A DNS server on loopback; its port."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            answer = reply(dns.message.from_wire(data))
            if answer is not None:
                self.transport.sendto(answer.to_wire(), address)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def answering(*records: tuple[str, int, str, str]) -> Reply:
    def reply(question: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        for name, ttl, kind, text in records:
            if kind in ("CNAME", dns.rdatatype.to_text(question.question[0].rdtype)):
                answer.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, text))
        return answer

    return reply


async def test_a_real_answer_with_the_least_ttl_of_its_chain() -> None:
    records = (
        ("edge.example.", 20, "CNAME", "a.cdn.example."),
        ("a.cdn.example.", 300, "A", A),
        ("a.cdn.example.", 300, "AAAA", "2001:db8::1"),
    )
    async with serving(answering(*records)) as port:
        assert await resolve("edge.example", 4, ["127.0.0.1"], port) == Answer((A,), 20)
        assert await resolve("edge.example", 6, ["127.0.0.1"], port) == Answer(("2001:db8::1",), 20)


def nowhere(question: dns.message.Message) -> dns.message.Message:
    answer = dns.message.make_response(question)
    answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer


def broken(question: dns.message.Message) -> dns.message.Message:
    answer = dns.message.make_response(question)
    answer.set_rcode(dns.rcode.SERVFAIL)
    return answer


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (nowhere, "no such name"),
        (answering(), "has no IPv4 address"),
        (lambda question: None, "no answer within 0.5 s"),
        (broken, "edge.example:"),
    ],
)
async def test_what_is_no_answer(reply: Reply, words: str) -> None:
    async with serving(reply) as port:
        found = await resolve("edge.example", 4, ["127.0.0.1"], port, 0.5)
    assert words in found.failure
    assert not found.addresses
    assert "\n" not in found.failure


async def test_names_that_are_none() -> None:
    for name in ("", "a" * 300, "a..b", "\x00", "é" * 70):
        assert (await resolve(name, 4, ["127.0.0.1"], 1, 0.3)).failure
