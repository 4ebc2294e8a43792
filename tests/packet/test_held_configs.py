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
from cdnctl.model import AnyChange, Confirm, Outcome, Reload, Revert, Undo

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
