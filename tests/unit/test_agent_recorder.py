"""The agent records, keeps what was, and gives it out part by part."""

from __future__ import annotations

import threading
import time
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest
from engine_double import EDGE, ServedDouble
from recordings import Edge, incident, long_incident

from cdnctl import paths
from cdnctl.agent import recorder
from cdnctl.agent.blocking import Client
from cdnctl.agent.recorder import Recorder
from cdnctl.cli import main
from cdnctl.engine.journal import Journal
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor, Frame, GetFrame, GetHistory, Mark, Note, Outcome, Record, StopRecording
from cdnctl.recording import codec
from cdnctl.recording.past import Past, PastTape
from cdnctl.recording.reader import Reader

ROOT = Actor(user="root", uid=0, pid=1)
ALICE = Actor(user="alice", uid=1000, pid=2)


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the recordings of edge ams1 are."""
    return tmp_path / "state" / EDGE / "recordings"


def until(seen: object, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not seen():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- where it may write -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/etc/cron.d/x", "only root may have the agent write there"),
        ("/var/lib/cdnctl/ams1/state.toml", "only root"),
        ("../../x", "only root"),
        ("a/b", "only root"),
        ("..", "is no name"),
        (".hidden", "is no name"),
        ("x" * 101, "is no name"),
        ("a b", "is no name"),
    ],
)
def test_who_is_not_root_has_no_file_written_anywhere_else(path: str, words: str, directory: Path) -> None:
    with pytest.raises(CdnctlError, match=words):
        Recorder(EDGE).start(Record(path=path), ALICE)
    assert not directory.exists()


def test_nothing_is_overwritten_and_no_link_followed(tmp_path: Path, directory: Path) -> None:
    directory.mkdir(parents=True)
    target = tmp_path / "precious"
    (directory / "link.rec").symlink_to(target)
    (directory / "there.rec").write_text("old")
    for name in ("link.rec", "there.rec"):
        with pytest.raises(CdnctlError, match="there already"):
            Recorder(EDGE).start(Record(path=name), ALICE)
    with pytest.raises(CdnctlError, match="not an absolute path"):
        Recorder(EDGE).start(Record(path="a/b"), ROOT)
    with pytest.raises(CdnctlError, match="No such file"):
        Recorder(EDGE).start(Record(path=str(tmp_path / "no" / "x.rec")), ROOT)
    assert not target.exists()
    assert (directory / "there.rec").read_text() == "old"


def test_root_names_a_path_and_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    made = Recorder(EDGE)
    path = tmp_path / "mine.rec"
    assert "would record" in made.start(Record(path=str(path), dry_run=True), ROOT).text
    assert not path.exists()
    assert made.start(Record(path=str(path)), ROOT).ok
    with pytest.raises(CdnctlError, match="is being recorded"):
        made.start(Record(), ROOT)
    for frame in incident()[:5]:
        made.take(frame)
    assert "5 frames" in made.stop().text
    with pytest.raises(CdnctlError, match="nothing is being recorded"):
        made.stop()
    assert path.stat().st_mode & 0o007 == 0


# --- how it ends -------------------------------------------------------------------------------------------


def feed(made: Recorder, frames: list[Frame]) -> list[str]:
    """Frames as the agent takes them, and what was told."""
    said = []
    for frame in frames:
        if told := made.take(frame):
            said.append(told.text)
        time.sleep(0.001)
    deadline = time.monotonic() + 5
    while made._ending:
        assert time.monotonic() < deadline
        if told := made.told():
            said.append(told.text)
        time.sleep(0.001)
    return said


def test_it_ends_when_its_time_is_over(directory: Path) -> None:
    made, edge = Recorder(EDGE), Edge(began_ns=time.time_ns())
    made.start(Record(path="x.rec", for_s=10.0), ALICE)
    frames = [edge.frame() for _ in range(40)]
    (said,) = feed(made, frames)
    assert "recorded" in said
    with Reader(directory / "x.rec") as reader:
        assert 18 <= reader.length <= 21
        assert not reader.damage


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("LIMIT_BYTES", 30_000, "has reached"), ("LEAST_FREE_BYTES", 1 << 60, "are free")],
)
def test_it_ends_at_its_limit_and_before_the_disk_is_full(
    name: str, value: int, words: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Recorder(EDGE)
    if name == "LIMIT_BYTES":
        monkeypatch.setattr(recorder, name, value)
    made.start(Record(path="x.rec"), ALICE)
    monkeypatch.setattr(recorder, name, value)
    (said,) = feed(made, incident())
    assert words in said
    assert made.picture is None
    with Reader(directory / "x.rec") as reader:
        assert 0 < reader.length < 230
        assert list(reader.frames()) == incident()[: reader.length]


def test_a_full_disk_ends_it_and_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full says so with each write."""
    monkeypatch.setattr(recorder, "_open", lambda *_, **__: recorder.Writer(open("/dev/full", "wb", 0)))  # noqa: SIM115
    made = Recorder(EDGE)
    directory.mkdir(parents=True)
    made.start(Record(path="x.rec"), ALICE)
    (said,) = feed(made, incident()[:50])
    assert "No space left on device" in said
    assert made.picture is None


def test_a_disk_that_hangs_does_not_hold_the_agent_up(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "QUEUED", 3)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_writer: object, _frame: Frame) -> None:
        hangs.set()
        goes_on.wait(10)

    monkeypatch.setattr(recorder.Writer, "add", hang)
    made = Recorder(EDGE)
    frames = incident()[:9]
    made.start(Record(path="x.rec"), ALICE)
    made.take(frames[0])
    assert hangs.wait(5)
    began = time.monotonic()
    assert [told.text for frame in frames if (told := made.take(frame))] == []
    assert time.monotonic() - began < 0.1
    assert made.picture is None
    assert made.start(Record(path="y.rec"), ALICE).ok, "and another one may begin"
    made.take(frames[0])
    began = time.monotonic()
    assert "its disk is slow" in made.stop().text
    assert time.monotonic() - began < 3 * recorder.SOON_S
    goes_on.set()
    said = feed(made, [])
    assert [("x.rec" in each, "too slow" in each) for each in sorted(said, key=len)] == [
        (False, False),
        (True, True),
    ]


def test_what_a_disk_never_takes_is_told_in_time(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "CLOSE_S", 0.2)
    goes_on, edge = threading.Event(), Edge(began_ns=time.time_ns())
    monkeypatch.setattr(recorder.Writer, "add", lambda self, frame: goes_on.wait(10))
    made = Recorder(EDGE)
    made.start(Record(path="x.rec", for_s=1.0), ALICE)
    began = time.monotonic()
    said = feed(made, [edge.frame() for _ in range(10)])
    goes_on.set()
    assert ["does not take the rest" in each for each in said] == [True]
    assert 0.2 <= time.monotonic() - began < 2


# --- over the socket ---------------------------------------------------------------------------------------


def test_an_agent_records_for_whoever_asked_also_when_he_has_gone(
    served: ServedDouble, tmp_path: Path, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.rec"
    assert main(["record", str(path), "--edge", EDGE, "--reason", "an audit"]) == 0  # and hangs up
    assert f"records to {path}" in capsys.readouterr().out
    with served.client() as client:
        until(
            lambda: (
                (frame := client.request(GetFrame()).frame) and frame.recording and frame.recording.frames > 5
            )
        )
        frame = client.request(GetFrame()).frame
        assert frame is not None
        assert frame.recording is not None
        assert frame.recording.path == str(path)
        assert frame.recording.bytes > 100
        assert not client.request(Record()).ok
    assert main(["record", "--stop", "--edge", EDGE]) == 0
    assert main(["record", "--stop", "--edge", EDGE]) == 1
    assert "nothing is being recorded" in capsys.readouterr().err
    with Reader(path) as reader:
        seqs = [frame.seq for frame in reader.frames()]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert len(seqs) > 5
    notes = [command for command, _actor in served.engine.asked if isinstance(command, Note)]
    assert [note.text.split()[1] for note in notes] == ["records", "recorded"]
    begun, ended = Journal(paths.journal_path(EDGE)).read()
    assert (begun.user, begun.reason) == (notes[0].text.split()[0], "an audit")
    assert begun.cli == f"cdnctl record {path} --reason 'an audit'"
    assert str(path) in begun.text
    assert (ended.cli, ended.ok) == ("cdnctl record --stop", True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["record", "x.rec", "--confirm", "10"], "--confirm"),
        (["mark", "now", "--confirm", "10"], "--confirm"),
        (["mark", "now", "--reason", "why"], "--reason"),
        (["mark", ""], "a mark without a text"),
        (["mark", "  "], "a mark without a text"),
    ],
)
def test_what_would_do_nothing_is_refused(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main([*words, "--json"]) == 2
    assert said in capsys.readouterr().out
    assert served.engine.asked == []


def test_an_empty_mark_is_no_mark(served: ServedDouble) -> None:
    """The engine, which refuses one, gets it as it was said."""
    with served.client() as client:
        client.request(Mark(text=" "))
        client.request(Mark(text="x"))
    marks = [command.text for command, _ in served.engine.asked if isinstance(command, Mark)]
    assert marks[0] == " "
    assert marks[1].endswith(": x")


def test_what_is_recorded_plays_after_the_agent_was_killed(served: ServedDouble, directory: Path) -> None:
    with served.client() as client:
        assert client.request(Record(path="killed.rec", redact=True)).ok
        until(
            lambda: (
                (frame := client.request(GetFrame()).frame) and frame.recording and frame.recording.frames > 3
            )
        )
    with Reader(directory / "killed.rec") as reader:  # as it stands there now, nobody has closed it
        assert reader.length > 3
        assert reader.header.redacted
        shown = ip_network(reader.frame(0).talkers[0].prefix)
        assert shown.subnet_of(ip_network("240.0.0.0/4"))


def test_a_mark_tells_who_set_it(served: ServedDouble) -> None:
    with served.client() as client:
        assert client.request(Mark(text="before the change")).ok
    command, actor = served.engine.asked[-1]
    assert command == Mark(text=f"{actor.user}: before the change")


def test_watchers_may_look_back_and_not_record(served: ServedDouble) -> None:
    with Client(served.view_path) as viewer:
        until(lambda: viewer.request(GetHistory()).history)
        part = viewer.request(GetHistory()).history
        assert part is not None
        frames = [frame for _at, frame in codec.group_frames(part.data)]
        assert [frame.seq for frame in frames] == list(range(part.first_seq, part.last_seq + 1))
        assert not viewer.request(Record()).ok
        assert not viewer.request(Mark(text="x")).ok
        assert not viewer.request(StopRecording()).ok


def test_the_history_reaches_further_back_than_what_a_client_is_sent_at_first(
    served: ServedDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdnctl.agent.server.FRAME_INTERVAL_S", 0.003)
    with served.client() as client:
        until(lambda: (frame := client.request(GetFrame()).frame) and frame.seq > 250, 20)
        found = client.request(GetFrame(seq=3)).frame
        assert found is not None
        assert found.seq == 3
        missing = client.request(GetFrame(seq=10**9))
        assert "is not kept; 1 to " in missing.text


# --- what is kept ------------------------------------------------------------------------------------------


def test_the_past_is_bounded_by_time_and_by_size() -> None:
    frames = long_incident(4)
    past = Past(kept_s=120.0)
    for frame in frames:
        past.add(frame)
    first, last = past.seqs
    assert last == frames[-1].seq
    assert 240 <= last - first + 1 <= 240 + 2 * codec.GROUP
    small = Past(kept_bytes=60_000)
    for frame in frames:
        small.add(frame)
    assert small.bytes <= 60_000 + 40_000
    assert small.seqs[1] == frames[-1].seq
    for seq in (first, last, (first + last) // 2):
        assert past.find(seq) == frames[seq - 1]
    assert past.find(first - 1) is None
    assert past.find(last + 1) is None
    assert list(past.last(70)) == frames[-70:]


def test_a_quarter_of_an_hour_takes_a_few_megabytes() -> None:
    edge, past = Edge(), Past()
    for _ in range(10):
        for frame in incident(edge):
            past.add(frame)
    first, last = past.seqs
    assert last - first >= 1800
    assert past.bytes < 5 << 20


def test_parts_make_the_tape_whatever_comes_between() -> None:
    frames = long_incident(2)
    past, tape = Past(), PastTape("ams1")

    def fetch() -> None:
        while (part := past.part(tape.last_seq)) is not None:
            tape.take(part)
            if part.is_last:
                break

    for count, frame in enumerate(frames, 1):
        past.add(frame)
        if count in (1, 59, 60, 61, 200, 333, len(frames)):
            fetch()
            assert [tape.frame(number) for number in range(tape.length)] == frames[:count]
            events = [event for each in frames[:count] for event in each.events]
            assert [stamp.event for stamp in tape.stamps] == events
            assert tape.position_ns(0) == 0
            assert tape.duration_ns == (count - 1) * 500_000_000
    for frame in (frames[0], frames[100], frames[-1]):
        assert frames[tape.number_of(frame.seq)] == frame


def test_a_frame_too_large_to_keep_is_the_newest_all_the_same() -> None:
    past, edge = Past(), Edge()
    past.add(edge.frame())
    huge = msgspec.structs.replace(edge.frame(), step="x" * (codec.RECORD_LIMIT + 1))
    with pytest.raises(CdnctlError):
        past.add(huge)
    assert past.newest == huge
    assert isinstance(Outcome(ok=True, text="", frame=past.newest), Outcome)
