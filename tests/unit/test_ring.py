"""What a ring holds, read at once or record by record. (That the kernel writes it so, tests/packet shows.)"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from cdnctl.datapath import ring

_SUBMITTED = 48
_SIZE = ring.record_size(_SUBMITTED)
_PAGE = 4096


class _Memory(bytearray):
    """In place of a mapping."""


def _ring(data: bytes, tail: int, room: int) -> ring.Ring:
    """A ring of `room` bytes in which the kernel wrote `data` from position `tail` on."""
    made = ring.Ring.__new__(ring.Ring)
    memory = _Memory(_PAGE + room)
    for number, byte in enumerate(data):
        memory[_PAGE + (tail + number) % room] = byte
    struct.pack_into("=QQ", memory, 1024, tail + len(data), tail)
    made._memory, made._room, made._size = memory, room, _SIZE  # type: ignore[assignment]
    return made


def _sample(fill: int) -> bytes:
    return struct.pack("=IHHI", 9, 0, _SIZE, _SUBMITTED) + bytes([fill]) * (_SIZE - ring.RAW_AT)


def _lost(count: int) -> bytes:
    return struct.pack("=IHHQQ", 2, 0, 24, 7, count)


_things = st.lists(st.one_of(st.integers(0, 255), st.integers(1000, 2000)), max_size=40)


@given(_things, st.integers(0, 1 << 20))
def test_all_samples_come_in_order_and_losses_are_summed(things: list[int], position: int) -> None:
    data = b"".join(_sample(each) if each < 256 else _lost(each) for each in things)
    tail = position * 8
    made = _ring(data, tail, _PAGE)
    taken = made.take()
    assert taken.data == b"".join(_sample(each) for each in things if each < 256)
    assert taken.lost == sum(each for each in things if each >= 256)
    assert struct.unpack_from("=QQ", made._memory, 1024) == (tail + len(data), tail + len(data))
    assert made.take() == ring.Records(b"", 0)


@given(st.binary(max_size=_PAGE - 8), st.integers(0, 512))
def test_whatever_stands_there_reading_ends(data: bytes, position: int) -> None:
    data = data[: len(data) // 8 * 8]
    assert len(_ring(data, position * 8, _PAGE).take().data) % _SIZE == 0


def test_a_record_is_padded_as_the_kernel_does() -> None:
    assert _SIZE == 64
    assert ring.record_size(36) == 48
