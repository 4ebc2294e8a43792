"""What recordings teach of attacks, and the model that comes of it."""

from __future__ import annotations

import builtins
import json
import random
from pathlib import Path
from typing import Any

import pytest

from cdnctl.cli import main
from cdnctl.cli.suspicion import read_fit
from cdnctl.defence.lessons import HONEST, Lesson, lessons
from cdnctl.defence.training import FALSE_ALARMS, over_budget, suspects, train
from cdnctl.errors import CdnctlError
from cdnctl.model import FEATURES, Event, Fit, Frame, Manner, attack_mark, over_mark
from cdnctl.recording.writer import Writer

OF_EACH = 400


def looks(attack: str, prefix: str, centre: dict[str, int], seed: int, spread: int = 12) -> list[Lesson]:
    """Sources that behave about so."""
    draw = random.Random(seed)
    values = [centre.get(name, 0) for name in FEATURES]
    return [
        Lesson(
            f"{prefix}.{n // 250}.{n % 250}",
            attack,
            tuple(max(0, min(255, round(draw.gauss(value, spread)))) for value in values),
        )
        for n in range(OF_EACH)
    ]


HONESTLY = looks(HONEST, "10.1", {"rate": 50, "gap": 60, "bytes": 7, "known": 90}, 1)
UNFINISHED = looks("syns", "10.2", {"rate": 60, "unfinished": 240, "bytes": 5, "gap": 40}, 2)
HOLDING = looks("holding", "10.3", {"rate": 40, "open": 60, "held": 240, "bytes": 7, "gap": 90}, 3)


def frame(seq: int, manners: list[Manner] | None = None, marks: list[str] | None = None) -> Frame:
    events = [Event(seq=seq * 10 + n, at_ns=0, kind="mark", text=text) for n, text in enumerate(marks or [])]
    at_ns = seq * 500_000_000
    return Frame(
        seq=seq, at_ns=at_ns, monotonic_ns=at_ns, edge="e", armed=True, events=events, manners=manners or []
    )


def manner(source: str) -> Manner:
    return Manner(source=source, features=[1] * len(FEATURES), score=7)


def recorded(path: Path, *kinds: list[Lesson]) -> Path:
    """A recording of an attack after the other, each with its mark."""
    with Writer(path) as writer:
        for number, kind in enumerate(kinds):
            attack = kind[0].attack
            prefix = kind[0].source.rsplit(".", 2)[0] + ".0.0/16"
            marks = [f"root: {attack_mark(attack, [prefix])}"] if attack else []
            ends = [f"root: {over_mark(attack)}"] if attack else []
            manners = [Manner(source=each.source, features=list(each.features)) for each in kind]
            for n in range(0, len(manners), 50):
                writer.add(frame(number * 1000 + n, manners[n : n + 50], marks if n == 0 else None))
            writer.add(frame(number * 1000 + 999, marks=ends))
    return path


class TestLessons:
    """Whose look it was."""

    def test_marks_say_who_attacks_from_when_to_when(self) -> None:
        both = [manner("10.2.0.1"), manner("10.1.0.1")]
        found = list(
            lessons(
                [
                    frame(1, both),
                    frame(2, both, ["ana: attack flood from 10.2.0.0/16, 2001:db8::/32"]),
                    frame(3, [*both, manner("2001:db8::")]),
                    frame(4, both, ["ana: attack flood is over"]),
                ]
            )
        )
        assert [each.attack for each in found] == ["", "", "flood", "", "flood", "", "flood", "", ""]

    def test_other_marks_and_other_events_say_nothing(self) -> None:
        chapter = Event(seq=1, at_ns=0, kind="command", text="attack flood from 10.2.0.0/16")
        told = frame(1, [manner("10.2.0.1")], ["attack of the clones", "attack x from nowhere"])
        events = [*told.events, chapter]
        found = list(
            lessons([Frame(**{**{n: getattr(told, n) for n in Frame.__struct_fields__}, "events": events})])
        )
        assert [each.attack for each in found] == [HONEST]

    def test_frames_without_manners_teach_nothing(self) -> None:
        assert not list(lessons([frame(1), frame(2, [Manner(source="10.1.1.1", features=[1, 2])])]))

    def test_a_source_is_held_out_or_not_by_its_address(self) -> None:
        held_out = [each.is_held_out for each in HONESTLY]
        assert held_out == [each._replace(attack="x").is_held_out for each in HONESTLY]
        assert 0.2 < sum(held_out) / len(held_out) < 0.4


class TestTraining:
    """How well it judges."""

    @pytest.mark.soak
    def test_what_can_be_told_apart_is(self) -> None:
        report = train([*HONESTLY, *UNFINISHED, *HOLDING], "made")
        assert {each.attack for each in report.attacks} == {"syns", "holding"}
        for each in report.attacks:
            assert min(each.precision, each.recall) > 0.95, each
            assert each.threshold_recall < 0.2, "neither asks for many flows"
        assert report.false_alarms < 5 * FALSE_ALARMS
        assert report.learned_from + report.judged_on == 3 * OF_EACH

    def test_what_looks_like_honest_sources_is_left_alone(self) -> None:
        twins = [
            each._replace(attack="twins", source=each.source.replace("10.1", "10.9")) for each in HONESTLY
        ]
        report = train([*HONESTLY, *twins], "made")
        assert report.attacks[0].recall < 0.1
        assert report.false_alarms < 5 * FALSE_ALARMS

    def test_an_attack_that_was_left_out_is_judged_all_the_same(self) -> None:
        report = train([*HONESTLY, *UNFINISHED, *HOLDING], "made", leave_out=["holding"])
        holding = next(each for each in report.attacks if each.attack == "holding")
        assert holding.lessons == OF_EACH
        assert holding.unseen_recall == holding.recall
        alone = train([*HONESTLY, *UNFINISHED], "made")
        assert report.fit == alone.fit, "nothing of it was learned"

    def test_figures_on_an_attack_never_seen_are_of_a_model_without_it(self) -> None:
        report = train([*HONESTLY, *UNFINISHED, *HOLDING], "made")
        for each in report.attacks:
            others = [look for look in (*UNFINISHED, *HOLDING) if look.attack != each.attack]
            judge = suspects(train([*HONESTLY, *others], "made").fit)
            seen = UNFINISHED if each.attack == "syns" else HOLDING
            assert each.unseen_recall == pytest.approx(sum(map(judge, seen)) / OF_EACH)

    def test_weights_are_whole_and_scores_fit(self) -> None:
        fit = train([*HONESTLY, *UNFINISHED], "made").fit
        assert all(isinstance(weight, int) and abs(weight) <= 1 << 20 for weight in fit.row)
        assert abs(fit.score([255] * len(FEATURES))) < 1 << 40

    def test_a_plain_threshold_counts_flows(self) -> None:
        judge = over_budget(20.0)
        rate = FEATURES.index("rate")

        def look(octaves: int) -> Lesson:
            return Lesson("10.1.1.1", "", tuple(octaves if n == rate else 0 for n in range(len(FEATURES))))

        assert not judge(look(0))
        assert not judge(look(100))
        assert judge(look(110)), "13,000 sixteenths"

    @pytest.mark.parametrize(("honest", "attacking"), [(0, 100), (100, 0), (10, 100)])
    def test_of_too_little_nothing_is_learned(self, honest: int, attacking: int) -> None:
        with pytest.raises(CdnctlError, match="too little to learn from"):
            train([*HONESTLY[:honest], *UNFINISHED[:attacking]], "made")

    def test_an_attack_that_is_not_there_cannot_be_left_out(self) -> None:
        with pytest.raises(CdnctlError, match="no attack flood"):
            train([*HONESTLY, *UNFINISHED], "made", leave_out=["flood"])


class TestTheVerb:
    """`cdnctl train`."""

    def test_it_writes_what_model_load_reads(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = recorded(tmp_path / "a.cdnrec", HONESTLY, UNFINISHED)
        made = tmp_path / "made.json"
        assert main(["train", str(file), "-o", str(made)]) == 0
        shown = capsys.readouterr().out
        assert "syns" in shown
        assert "cdnctl model load" in shown
        fit = read_fit(str(made))
        assert (fit.name, fit) == ("made", train([*HONESTLY, *UNFINISHED], "made").fit)
        assert main(["train", str(file), "--json", "--name", "other"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["fit"]["name"] == "other"
        assert told["attacks"][0]["recall"] > 0.9

    def test_of_several_recordings(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = [
            recorded(tmp_path / f"{n}.cdnrec", kind) for n, kind in enumerate((HONESTLY, UNFINISHED, HOLDING))
        ]
        assert main(["train", *map(str, files), "--json", "--leave-out", "syns"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [each["attack"] for each in told["attacks"]] == ["holding", "syns"]

    def test_without_scikit_learn_it_says_how_to_get_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = builtins.__import__

        def without(name: str, *rest: Any) -> Any:
            if name.startswith("sklearn"):
                raise ImportError("No module named 'sklearn'")
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
        file = recorded(tmp_path / "a.cdnrec", HONESTLY, UNFINISHED)
        assert main(["train", str(file)]) == 1
        said = capsys.readouterr().err
        assert "scikit-learn" in said
        assert "pip install 'cdnctl[train]'" in said

    def test_a_recording_without_manners_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Writer(tmp_path / "a.cdnrec") as writer:
            writer.add(frame(1))
        assert main(["train", str(tmp_path / "a.cdnrec")]) == 1
        assert "cdnctl model observe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no model"),
        ("[]", "is no model"),
        ('{"form": 2}', "is no model"),
        ('{"name": "x", "weights": {"rate": 4294967296}}', "is no model"),
        ('{"name": "x", "weights": {"colour": 1}}', "colour"),
        ('{"name": "x", "weights": {}}', "weighs nothing"),
        ('{"weights": {"rate": 1}}', "without a name"),
        ("[" * 100_000, "too large"),
        ("[" * 50_000, "is no model"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(CdnctlError, match=says) as caught:
        read_fit(str(file))
    assert str(file) in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CdnctlError, match="No such file"):
        read_fit(str(tmp_path / "none.json"))


def test_a_score_is_reckoned_in_whole_numbers() -> None:
    fit = Fit(name="x", weights={"rate": 3, "known": -(2**31)}, bias=2**40 + 1)
    assert fit.score([7, 1, 1, 1, 1, 1, 1, 255]) == 2**40 + 1 + 21 - 255 * 2**31
