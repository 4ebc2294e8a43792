"""Redaction: nothing of an address is left, what lay in a prefix still does, people have numbers."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import Edge, incident

from cdnctl.cli import main
from cdnctl.model import Block, Customer, Event, Frame, Recording, Service, Watcher
from cdnctl.recording.reader import Reader
from cdnctl.recording.redaction import Redactor
from cdnctl.recording.writer import Writer

V4 = ipaddress.ip_network("240.0.0.0/4")
V6 = ipaddress.ip_network("2001:db8::/32")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

fours = st.ip_addresses(v=4).filter(lambda each: int(each) >= 1 << 24 and each not in V4)
sixes = st.ip_addresses(v=6).filter(lambda each: int(each) > 0xFFFF and each not in V6)
addresses = fours | sixes
words = st.text(st.sampled_from(" ghxyz,;()[]=@!\n-_é"), max_size=6)


def forms(address: Address) -> list[str]:
    """The ways in which people write it."""
    found = [str(address), address.exploded]
    if address.version == 6:
        found += [str(address).upper(), f"[{address}]:443", f"{address}%eth0"]
    else:
        found += [f"{address}:443", f"{address}."]
    return [*found, f"{address}/{address.max_prefixlen}"]


def found_in(text: str) -> list[Address]:
    """Whatever in a text can be read as an address, looked for by brute force: every run of its letters."""
    found: list[Address] = []
    for run in re.findall(r"[0-9A-Fa-f.:]+", text):
        for start in range(len(run)):
            if start and run[start - 1] not in ".:" and run[start] not in ":":
                continue  # the middle of a number is no beginning
            for end in range(len(run), start + 2, -1):
                if end < len(run) and run[end] not in ".:" and run[end - 1] not in ".:":
                    continue
                try:
                    found.append(ipaddress.ip_address(run[start:end]))
                    break
                except ValueError:
                    pass
    return found


@given(st.lists(st.tuples(words, addresses, st.integers(0, 5), words), min_size=1, max_size=4))
def test_no_address_is_left_in_any_text(parts: list[tuple[str, Address, int, str]]) -> None:
    texts = [f"{before} {(forms(address) * 2)[form]} {after}" for before, address, form, after in parts]
    edge = Edge()
    for text in texts:
        edge.say("note", text)
    plain = edge.frame()
    text = " | ".join(texts)
    frame = msgspec.structs.replace(
        plain,
        step=text,
        blocks=[Block(prefix=str(address), reason=text, source=text) for _, address, _, _ in parts],
        services=[Service(name="www", vip=str(parts[0][1]), port=80, protocol="tcp", policy="latency")],
        customers=[Customer(name="acme", prefixes=[f"{parts[0][1]}/{parts[0][1].max_prefixlen}"])],
    )
    redacted = Redactor().frame(frame)
    said = msgspec.json.encode(redacted).decode()
    originals = {address for _, address, _, _ in parts}
    left = originals & set(found_in(said))
    assert not left
    for talker in redacted.talkers:
        assert ipaddress.ip_network(talker.prefix).subnet_of(V4)
    for cdn in redacted.cdns:
        assert ipaddress.ip_address(cdn.endpoints[0].address) in V4
    assert redacted.services[0].vip == redacted.blocks[0].prefix


@given(st.lists(st.tuples(addresses, st.integers(1, 128)), min_size=2, max_size=12))
def test_prefixes_keep_their_lengths_and_nesting_and_stay_apart(found: list[tuple[Address, int]]) -> None:
    redactor = Redactor()
    plain = [
        ipaddress.ip_network((address, min(bits, address.max_prefixlen)), strict=False)
        for address, bits in found
    ]
    plain += [net.supernet(prefixlen_diff=min(8, net.prefixlen - 1)) for net in plain]
    plain = [net for net in plain if int(net.network_address)]
    new = {net: ipaddress.ip_network(redactor.text(str(net))) for net in plain}
    for net, made in new.items():
        assert made.subnet_of(V4 if net.version == 4 else V6)
        if net.prefixlen >= (8 if net.version == 4 else 48):
            assert made.prefixlen == net.prefixlen
        assert ipaddress.ip_network(redactor.text(str(net))) == made
        for other, other_made in new.items():
            if net.version != other.version:
                continue
            if net.subnet_of(other):
                assert made.subnet_of(other_made)
            elif not other.subnet_of(net) and min(net.prefixlen, other.prefixlen) >= 48 - 40 * (
                net.version == 4
            ):
                tops = {each >> 24 for each in (int(net.network_address) for net in plain) if each < 1 << 32}
                assert len(tops) > 16 or not made.overlaps(other_made)


def test_another_key_gives_other_addresses() -> None:
    made = {Redactor().text("198.51.100.7 and 2a00:1:2:3::4") for _ in range(8)}
    assert len(made) == 8


@pytest.mark.parametrize(
    "text",
    ["12:30:45", "no address", "v1.2.3", "50 %", "aa:bb:cc:dd:ee:ff", "::", "0.0.0.0/0", "::/0", "1.2.3"],
)
def test_what_is_no_address_stays(text: str) -> None:
    assert Redactor().text(text) == text


def test_people_have_numbers_and_cdns_keep_their_names() -> None:
    edge = Edge()
    edge.say("command", "alice as root: blocked 198.51.100.0/24 for 4h")
    edge.say("note", "ask alice or bob, not malice; aurora is bob's")
    plain = edge.frame()
    people = [
        Watcher(user=user, pid=7, client="console", role="operate", since_ns=1)
        for user in ("bob", "alice as root", "aurora")
    ]
    frame = msgspec.structs.replace(
        plain,
        watchers=people,
        recording=Recording(path="x", by="alice"),
        events=[*plain.events, Event(seq=9, at_ns=1, kind="mark", text="carol: here")],
    )
    redacted = Redactor().frame(frame)
    users = [watcher.user for watcher in redacted.watchers]
    assert sorted(users) == ["operator-1", "operator-2", "operator-3"]
    bob, alice, _ = users
    assert redacted.recording is not None
    assert redacted.recording.by == alice
    texts = [event.text for event in redacted.events]
    assert re.fullmatch(rf"{alice}: blocked 2\d\d\.\d+\.\d+\.0/24 for 4h", texts[0])
    assert texts[1] == f"ask {alice} or {bob}, not malice; aurora is {bob}'s"
    assert texts[2] == "operator-4: here"
    assert [cdn.name for cdn in redacted.cdns] == [cdn.name for cdn in frame.cdns]
    assert (redacted.edge, redacted.seq, redacted.totals) == (frame.edge, frame.seq, frame.totals)


@pytest.mark.soak
def test_a_recording_is_redacted_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, redacted = tmp_path / "plain.rec", tmp_path / "redacted.rec"
    frames: list[Frame] = incident()
    with Writer(plain) as writer:
        for frame in frames:
            writer.add(frame)
    assert main(["redact", str(plain), str(redacted)]) == 0
    assert "230 frames" in capsys.readouterr().out
    with Reader(redacted) as reader:
        assert reader.header.redacted
        made = list(reader.frames())
    assert [frame.totals for frame in made] == [frame.totals for frame in frames]
    for frame in made:
        for talker in frame.talkers:
            assert ipaddress.ip_network(talker.prefix).subnet_of(V4)
        assert not {str(each) for each in found_in(msgspec.json.encode(frame).decode())} & {"203.0.113.80"}
    assert main(["redact", str(plain), str(redacted)]) == 1
    assert "there already" in capsys.readouterr().err
