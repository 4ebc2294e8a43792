"""A reload that waits to be confirmed: reverted, confirmed, killed, its file edited meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from changing import OPERATOR
from reloaded import EDGE, File
from starting import started

from cdnctl.engine import held
from cdnctl.engine.engine import Engine
from cdnctl.engine.reload import Reloading
from cdnctl.model import AnyChange, BlockPrefix, Confirm, Drain, Outcome, Reload, Revert, SetWeights, Undo

Start = Callable[[], Engine]


class Box:
    """An edge, its file, and what it says in turn: as at first, planned, and edited once more."""

    def __init__(self, file: File, start: Start) -> None:
        self.file, self.start = file, start
        self.first = file.text
        self.planned, self.third = (f"{file.text}\n# {word}\n" for word in ("planned", "third"))
        self.engine = start()

    def says(self, text: str) -> None:
        self.file.text = text
        self.file.write()

    def again(self) -> Engine:
        """Another agent."""
        self.engine = self.start()
        return self.engine

    def reload(self, confirm_s: float = 60) -> Outcome:
        """The planned text."""
        self.says(self.planned)
        outcome = take(self.engine, Reload(confirm_s=confirm_s))
        assert outcome.ok, outcome.text
        return outcome


def take(engine: Engine, command: AnyChange) -> Outcome:
    """As the agent does it."""
    if isinstance(command, Reload | Revert | Undo):
        return asyncio.run(engine.reload(command, OPERATOR))
    return engine.execute(command, OPERATOR)


@pytest.fixture
def box(inside: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """One that serves."""
    file = File(tmp_path / "cdnctl.toml")
    with started(tmp_path, monkeypatch, file) as start:
        yield Box(file, start)


def told(engine: Engine) -> str:
    return "\n".join(event.text for event in engine._ticker.take())


def test_what_is_confirmed_while_its_revert_is_planned_stays(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.reload()
    engine, whole = box.engine, Reloading.prepare

    async def slowly(self: Reloading, wanted: object) -> object:
        assert engine.execute(Confirm(), OPERATOR).ok
        return await whole(self, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(Reloading, "prepare", slowly)
    outcome = take(engine, Revert())
    assert not outcome.ok
    assert "confirmed or reverted meanwhile" in outcome.text
    assert engine.config_in_force == box.planned
    assert box.again().config_in_force == box.planned


def test_a_file_that_was_edited_since_is_reverted_all_the_same(box: Box) -> None:
    box.reload()
    box.says(box.third)
    engine = box.again()
    assert engine.config_in_force == box.planned, "nobody has planned the third"
    assert "was edited while another change of it waits" in told(engine)
    engine.transactions._due_ns = time.monotonic_ns()
    assert take(engine, Revert()).text.startswith("reverted: cdnctl reload")
    assert engine.config_in_force == box.first


@pytest.mark.soak
def test_what_was_not_reverted_is_said(box: Box) -> None:
    box.reload()
    engine = box.engine
    engine.config_in_force = box.third  # as an agent of before, which started with the file
    outcome = take(engine, Revert(dry_run=True))
    assert "not all of it" in outcome.text
    engine.transactions._due_ns = 0

    async def tick() -> None:
        engine.transactions.tick()
        await engine.transactions._task

    asyncio.run(tick())
    assert engine.transactions.pending is None
    (last,) = [entry for entry in engine.journal.read() if entry.user == "the timer"]
    assert last.text.startswith("not reverted, for nothing is left of it")
    assert "the configuration in force stays as it is" in told(engine)


@pytest.mark.soak
def test_a_held_text_that_cannot_be_read_any_more_is_told(box: Box) -> None:
    box.reload()
    assert take(box.engine, Revert()).ok
    assert box.again().config_in_force == box.first
    held.hold(EDGE, refused=box.planned, text="[edge]\nno_longer_known = 1\n")
    engine = box.again()
    assert engine.config_in_force == box.planned
    assert "and yet is in force, for what it said before cannot be read any more" in told(engine)


KILLED: dict[str, tuple[bool, AnyChange]] = {
    "reloading": (False, Reload()),
    "reloading, to be confirmed": (False, Reload(confirm_s=60)),
    "reverting": (True, Revert()),
    "undoing": (False, Undo()),
}


class Killed(BaseException):
    """The agent dies here."""


MOMENTS = ("intent", "held", "stored", "journaled")


@pytest.mark.parametrize(
    ("what", "moment"),
    [
        pytest.param(
            what, moment, marks=() if (what, moment) == ("reverting", "stored") else pytest.mark.soak
        )
        for what in ("reverting", "undoing", "reloading", "reloading, to be confirmed")
        for moment in MOMENTS
    ],
)
def test_a_configuration_is_whole_or_not_at_all_when_its_agent_dies(
    box: Box, monkeypatch: pytest.MonkeyPatch, what: str, moment: str
) -> None:
    """Die after each of the four writes: the next agent's configuration, state and journal agree."""
    if not what.startswith("reloading"):
        box.reload(60 if what == "reverting" else 0)
    else:
        box.says(box.planned)
    engine = box.engine
    with monkeypatch.context() as patch:
        die_after(engine, moment, patch)
        with pytest.raises(Killed):
            take(engine, KILLED[what][1])
    check(box, what)


def die_after(engine: Engine, moment: str, patch: pytest.MonkeyPatch) -> None:
    owner, name = {
        "intent": (engine.store.intent, "write"),
        "held": (held, "hold"),
        "stored": (engine.transactions, "store"),
        "journaled": (engine.journal, "append"),
    }[moment]
    if moment == "held":
        forget = held.forget

        def dying(*arguments: object, **named: object) -> None:
            forget(EDGE)
            raise Killed

        patch.setattr(held, "forget", dying)
    whole = getattr(owner, name)

    def die(*arguments: object, **named: object) -> None:
        whole(*arguments, **named)
        raise Killed

    patch.setattr(owner, name, die)
    patch.setattr(engine.transactions, "abandon", lambda: None)  # a killed one does not


def check(box: Box, what: str) -> None:
    """What the next agent has agrees with what it says."""
    before_it = what.startswith("reloading")
    engine = box.again()
    new = box.planned if before_it else box.first
    is_new = engine.config_in_force == new
    assert engine.config_in_force in (box.first, box.planned)
    verb = KILLED[what][1].__struct_config__.tag
    lines = [entry for entry in engine.journal.read() if entry.command["verb"] == verb]
    mine = lines if what != "undoing" else lines[-1:]
    assert [entry.ok for entry in mine[-1:]] in ([is_new], [] if not is_new else [is_new]), mine
    assert not engine.store.intent.path.exists()
    if what == "reverting":
        assert (engine.transactions.pending is None) == is_new
    if KILLED[what][1].confirm_s:
        assert (engine.transactions.pending is not None) == is_new
    assert box.again().config_in_force == engine.config_in_force, "and the one after it has the same"


def weights(text: str) -> str:
    """Another weight of the third CDN's."""
    head, name, rest = text.partition('name = "corona"')
    return f"{head}{name}\nweight = 70{rest}"


def test_what_is_held_back_is_in_every_frame(box: Box) -> None:
    assert box.engine.frame().held_back is None
    box.reload()
    box.says(box.third)
    found = box.engine.frame().held_back
    assert found is not None
    assert (found.why, found.file) == ("edited", str(box.file.path))
    box.says(box.planned)
    assert box.engine.frame().held_back is None
    assert take(box.engine, Revert()).ok
    found = box.engine.frame().held_back
    assert found is not None
    assert found.why == "unconfirmed"
    assert box.again().frame().held_back == found
    assert take(box.engine, Reload()).ok
    assert box.engine.frame().held_back is None


def test_a_reload_that_waits_says_so_with_its_end(box: Box) -> None:
    outcome = box.reload()
    assert "; reverts in 1m unless `cdnctl confirm` comes, that is at " in outcome.text.splitlines()[0]
    assert outcome.reverts_at_ns == pytest.approx(time.time_ns() + 60 * 10**9, abs=10 * 10**9)
    assert take(box.engine, Confirm()).ok
    again = take(box.engine, Reload(confirm_s=60))
    assert again.ok
    assert "reverts" not in again.text, "nothing was different: nothing waits"
    assert again.reverts_at_ns == 0


def test_what_a_reload_bears_on_is_guarded_while_it_waits(box: Box) -> None:
    """Also by another agent; and what it does not bear on is not."""
    box.planned = weights(box.first)
    box.reload()
    for look in (lambda: box.engine, box.again):
        engine = look()
        refused = take(engine, Drain(cdn="corona"))
        assert not refused.ok
        assert "waits to be confirmed" in refused.text
        assert "bears on the drain of corona" in refused.text
        assert "`cdnctl confirm` keeps it" in refused.remedy
        assert take(engine, BlockPrefix(prefix="10.1.2.0/24")).ok
    assert take(box.engine, Revert()).ok
    assert take(box.engine, Drain(cdn="corona")).ok


def test_a_reload_is_refused_where_it_bears_on_what_waits(box: Box) -> None:
    assert take(box.engine, SetWeights(weights={"corona": 90}, confirm_s=60)).ok
    box.says(weights(box.first))
    refused = take(box.engine, Reload())
    assert not refused.ok
    assert "bears on the weight of corona" in refused.text
    assert box.engine.config_in_force == box.first
    box.says(box.planned)
    assert take(box.engine, Reload()).ok, "a remark in the file bears on nothing"


def test_who_planned_before_a_reload_is_told_of_it(box: Box) -> None:
    version = box.engine.state.revision
    box.planned = weights(box.first)
    assert box.reload(confirm_s=0).ok
    refused = take(box.engine, SetWeights(weights={"corona": 90}, expect=version))
    assert not refused.ok
    assert "the weight of corona has changed since this was planned" in refused.text
    assert "cdnctl reload" in refused.text


def test_a_drain_that_a_reload_cannot_keep_comes_back_with_its_revert(box: Box) -> None:
    """Of a service's CDNs one is drained, and the others leave."""
    engine = box.engine
    assert take(engine, Drain(cdn="corona")).ok
    box.planned = box.first.replace("['aurora', 'borealis', 'corona']", "['corona']")
    assert box.planned != box.first
    outcome = box.reload()
    assert engine.state.drained == []
    assert any("corona is not drained" in each for each in outcome.warnings), outcome.warnings
    reverted = take(engine, Revert())
    assert reverted.ok, reverted.text
    assert engine.state.drained == ["corona"]
    assert engine.config_in_force == box.first
    assert weight_in_force(engine, "corona") == 0


def weight_in_force(engine: Engine, cdn: str) -> int:
    """What the kernel has of a CDN's first endpoint."""
    (place, *_) = engine.layout.endpoints_of(cdn)
    return int(engine.tables.choice.endpoint(place.id).weight)
