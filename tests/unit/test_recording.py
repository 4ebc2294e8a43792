"""The codec: exact, seekable, playable up to wherever it was cut, and unharmed by whatever a file holds."""

from __future__ import annotations

import io
import itertools
import random
import time
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import Edge, frame_runs, incident

from cdnctl.errors import RecordingError
from cdnctl.model import Frame
from cdnctl.recording import codec, writer
from cdnctl.recording.delta import Names, diff, patched
from cdnctl.recording.reader import Reader
from cdnctl.recording.writer import Writer

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, *HealthCheck])

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "prefix", "a", "b", "c"]), inner, max_size=4)
    ),
    max_leaves=25,
)


def packed(tree: object) -> bytes:
    """Tells 1 from 1.0 and from True, and takes a NaN for itself."""
    return msgspec.msgpack.encode(tree, order="deterministic")


def record(path: Path, frames: list[Frame], *, end: bool = True) -> bytes:
    path.unlink(missing_ok=True)
    made = Writer(path)
    for frame in frames:
        made.add(frame)
    if end:
        made.close()
    else:
        made._file.close()
    return path.read_bytes()


@given(
    st.lists(st.dictionaries(st.sampled_from(["name", "a", "b"]), trees, max_size=3), min_size=2, max_size=5)
)
@settings(max_examples=2 * settings.default.max_examples, deadline=None)
def test_a_patch_makes_any_tree_of_any_other(run: list[dict[str, object]]) -> None:
    ours, theirs = Names(), Names()
    for old, new in itertools.pairwise(run):
        before = packed(old)
        patch = diff(old, new, ours)
        sent = msgspec.msgpack.decode(packed([ours.take_fresh(), patch]))
        theirs.learn(sent[0])
        made = old if sent[1] is None else patched(old, sent[1], theirs)
        assert packed(made) == packed(new)
        assert packed(old) == before


@given(frame_runs())
@QUICK
def test_any_frames_come_back_exactly_and_any_seek_is_playing_up_to_there(
    tmp_path: Path, run: list[Frame]
) -> None:
    path = tmp_path / "any.rec"
    record(path, run)
    with Reader(path) as reader:
        assert list(reader.frames()) == run
        assert not reader.damage
        assert [stamp.event for stamp in reader.stamps] == [event for frame in run for event in frame.events]
        times = [reader.position_ns(number) for number in range(len(run))]
        assert times == sorted(times)
        for number in (len(run) - 1, 0, len(run) // 2):
            assert reader.frame(number) == run[number]
            last = max(at for at, each in enumerate(times) if each <= times[number])
            assert reader.at(times[number] / 1e9) == run[last] or times[number] > 2**52


@given(frame_runs(), st.data())
@QUICK
def test_a_recording_cut_off_at_any_byte_plays_up_to_there(
    tmp_path: Path, run: list[Frame], data: st.DataObject
) -> None:
    path = tmp_path / "cut.rec"
    whole = record(path, run)
    for _ in range(6):
        cut = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:cut])
        try:
            with Reader(path) as reader:
                played = list(reader.frames())
        except RecordingError as error:
            played = []
            assert str(path) in error.message
        assert played == run[: len(played)]
        ends = [len(record(tmp_path / "part.rec", run[:count], end=False)) for count in (1, len(run))]
        assert cut < ends[0] or played, "the first frame is whole"
        assert cut < ends[1] or len(played) == len(run)


@given(frame_runs(), st.data())
@QUICK
def test_a_damaged_recording_plays_its_beginning_or_says_what_is_wrong(
    tmp_path: Path, run: list[Frame], data: st.DataObject
) -> None:
    path = tmp_path / "bad.rec"
    bad = bytearray(record(path, run))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(bad) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                bad[at] ^= data.draw(st.integers(1, 255))
            case 1:
                del bad[at : at + data.draw(st.integers(1, 40))]
            case _:
                bad[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        if not bad:
            break
    path.write_bytes(bad)
    played = []
    try:
        with Reader(path) as reader:
            for frame in reader.frames():
                played.append(frame)
    except RecordingError as error:
        assert error.message
    assert played == run[: len(played)]


@given(st.lists(trees, min_size=1, max_size=4), st.booleans())
@settings(max_examples=2 * settings.default.max_examples, deadline=None)
def test_blocks_that_somebody_made_up_end_in_an_error(made_up: list[object], start_well: bool) -> None:
    decoder = codec.Decoder()
    packing = zlib.compressobj()
    records = [msgspec.msgpack.encode(each) for each in made_up]
    if start_well:
        records.insert(0, msgspec.msgpack.encode(codec.tree_of(Edge().frame())))
    for number, each in enumerate(records):
        payload = packing.compress(each) + packing.flush(zlib.Z_SYNC_FLUSH)
        kind = codec.DELTA if number else codec.KEY
        try:
            codec.frame_of(decoder.decode(codec.Block(kind, False, 0, payload)))
        except RecordingError:
            break


@pytest.mark.parametrize("size", [codec.RECORD_LIMIT + 1, 64 << 20])
def test_a_bomb_is_not_unpacked(size: int) -> None:
    packing = zlib.compressobj()
    zeros = bytes(1 << 20)
    payload = b"".join(packing.compress(zeros) for _ in range(max(3, size >> 20))) + packing.flush()
    began = time.monotonic()
    with pytest.raises(RecordingError, match="too large"):
        codec.Decoder().decode(codec.Block(codec.KEY, False, 0, payload))
    assert time.monotonic() - began < 0.5


def test_a_patch_cannot_make_much_of_little() -> None:
    """Were an old item good for many places, a few bytes would double a frame with every patch."""
    with pytest.raises(ValueError, match="not there"):
        patched([["x"]], [[0, 0]], Names())


def test_a_later_form_is_refused_and_later_fields_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = incident()[:70]
    path = tmp_path / "later.rec"
    real = codec.tree_of

    def with_more(frame: Frame) -> dict[str, object]:
        tree = real(frame)
        cdns = [cdn | {"mood": frame.seq} for cdn in tree["cdns"]]
        return tree | {"weather": [frame.seq, {"name": "rain"}], "cdns": cdns}

    with monkeypatch.context() as patch:
        patch.setattr(codec, "tree_of", with_more)
        record(path, run)
    with Reader(path) as reader:
        assert list(reader.frames()) == run
    later = msgspec.msgpack.encode({"version": writer.VERSION + 1, "something": "else"})
    path.write_bytes(writer.MAGIC + codec.block(codec.HEADER, later) + b"who knows")
    with pytest.raises(RecordingError, match=f"form {writer.VERSION + 1}.*up to {writer.VERSION}"):
        Reader(path)


def test_fields_that_a_recording_is_too_old_to_have_get_their_defaults() -> None:
    tree = codec.tree_of(Edge().frame())
    for name in ("collector", "step", "customers", "blocks_wanted"):
        del tree[name]
    assert codec.frame_of(tree).step == ""
    del tree["seq"]
    with pytest.raises(RecordingError, match="seq"):
        codec.frame_of(tree)


@pytest.mark.parametrize(
    "content", [b"", b"cdn", b"hello, world" * 10, writer.MAGIC, writer.MAGIC + bytes(99)]
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.rec"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="no.rec"):
        Reader(path)
    with pytest.raises(RecordingError, match="No such file"):
        Reader(tmp_path / "missing")
    with pytest.raises(RecordingError, match="directory"):
        Reader(tmp_path)


def test_it_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    run, path = incident()[:130], tmp_path / "growing.rec"
    made = Writer(path)
    for count, frame in enumerate(run, 1):
        made.add(frame)
        if count in (1, 59, 60, 61, 130):
            with Reader(path) as reader:
                assert list(reader.frames()) == run[:count]
                assert "ended" in reader.damage
    made.close()
    made.close()
    with Reader(path) as reader:
        assert not reader.damage
        assert reader.length == 130


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "old.rec"
    path.write_text("precious")
    with pytest.raises(RecordingError, match="there already"):
        Writer(path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RecordingError):
        Writer(tmp_path / "link")
    assert path.read_text() == "precious"


class Full(io.FileIO):
    """A disk with room for so many bytes."""

    room = 20_000

    def write(self, data: object) -> int:
        taken = bytes(data)[: self.room]  # type: ignore[call-overload]
        if not taken:
            raise OSError(28, "No space left on device")
        self.room -= len(taken)
        return super().write(taken)


def test_a_full_disk_is_told_and_what_was_written_plays(tmp_path: Path) -> None:
    path, run = tmp_path / "full.rec", incident()
    made = Writer(Full(path, "w"))  # type: ignore[arg-type]
    with pytest.raises(RecordingError, match="No space left"):  # noqa: PT012
        for frame in run:
            made.add(frame)
    count = made.frames
    made.close()
    assert count > 5
    with Reader(path) as reader:
        assert list(reader.frames()) == run[:count]


def test_a_frame_that_is_too_large_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    edge, path = Edge(), tmp_path / "large.rec"
    first, huge, last = edge.frame(), edge.frame(), edge.frame()
    with Writer(path) as made:
        made.add(first)
        with pytest.raises(RecordingError, match="bytes"):
            made.add(msgspec.structs.replace(huge, step="x" * (codec.RECORD_LIMIT + 1)))
        made.add(last)
    with Reader(path) as reader:
        assert list(reader.frames()) == [first, last]


def test_random_seeks_equal_the_frames(tmp_path: Path) -> None:
    run, path = incident(), tmp_path / "incident.rec"
    record(path, run)
    rng = random.Random(5)
    with Reader(path) as reader:
        assert reader.duration_s == (len(run) - 1) / 2
        for _ in range(40):
            seconds = rng.uniform(-3, reader.duration_s + 3)
            place = min(len(run) - 1, max(0, int(seconds * 2)))
            assert reader.at(seconds) == run[place]
        assert reader.window(100, 240) == run[:101]
        assert reader.window(229, 100) == run[130:230]
