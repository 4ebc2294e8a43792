"""The wire format: everything comes back as it went, and nothing else gets in."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import model
from cdnctl.agent import protocol

COMMANDS: list[model.AnyCommand] = [
    model.BlockPrefix(prefix="198.51.100.0/24", lifetime_s=None, reason="flood"),
    model.Unblock(prefix="198.51.100.7"),
    model.SetWeights(weights={"aurora": 60, "borealis": 0}, dry_run=True),
    model.Drain(cdn="aurora"),
    model.Undrain(cdn="aurora"),
    model.Disarm(),
    model.Arm(),
    model.Bypass(),
    model.Attach(),
    model.Detach(),
    model.Stop(detach=True),
    model.Note(text="one CDN slows", step="slow", severity="notice"),
    model.ListBlocks(),
    model.Who(),
    model.GetFrame(seq=17),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_commands_go_up_as_they_are(command: model.AnyCommand) -> None:
    message = protocol.asked(7, command)
    data = protocol.encode(message)
    assert protocol.body_length(data[:4], protocol.MAX_UP) == len(data) - 4
    assert protocol.decode_up(data[4:]) == message


@pytest.mark.parametrize(
    "message",
    [
        protocol.ServerHello(edge="ams1", role="view"),
        protocol.FrameMessage(
            frame=model.Frame(seq=1, at_ns=2, monotonic_ns=3, edge="ams1", armed=True, step="calm")
        ),
        protocol.Answer(id=3, outcome=model.Outcome(ok=True, text="", shares={"aurora": 1.0})),
        protocol.Refused(text="no"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_come_down_as_they_are(message: protocol.Down) -> None:
    assert protocol.decode_down(protocol.encode(message)[4:]) == message


def test_up_and_down_are_not_mixed() -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_up(protocol.encode(protocol.Refused(text=""))[4:])
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_down(protocol.encode(protocol.asked(1, model.Who()))[4:])


@given(st.binary(max_size=200))
def test_random_bytes_raise_one_error_only(data: bytes) -> None:
    for decode in (protocol.decode_up, protocol.decode_down):
        try:
            decode(data)
        except protocol.ProtocolError:
            continue


@given(
    st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(), lambda c: st.lists(c), max_leaves=20
    )
)
def test_other_messagepack_is_refused(value: object) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_up(msgspec.msgpack.encode(value))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_up(b"\x81\xa4type\xa7request" + b"\x91" * 100_000)


@pytest.mark.parametrize("length", [0, protocol.MAX_UP + 1, 2**32 - 1])
def test_lengths_are_bounded(length: int) -> None:
    with pytest.raises(protocol.ProtocolError, match=str(length)):
        protocol.body_length(length.to_bytes(4, "big"), protocol.MAX_UP)
