"""Words that keep an operator from being misled: of a block without effect, of a pick that is passed by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cdnctl.datapath.abi.noted import Fitness, NoteKind
from cdnctl.datapath.flows import FlowCount
from cdnctl.datapath.packets import Packet
from cdnctl.datapath.tracer import Note
from cdnctl.defence import protected
from cdnctl.defence.blocklist import Blocklist
from cdnctl.engine.changes import Changes
from cdnctl.engine.consequences import Matched
from cdnctl.engine.notes import Notes
from cdnctl.model import Actor, Allowed, BlockPrefix
from cdnctl.state import State

OPERATOR = Actor(user="root", uid=0, pid=1, client="test", role="operate")


@pytest.mark.parametrize("prefix", ["198.51.100.0/24", "198.51.100.7", "203.0.113.0/24"])
def test_a_block_within_what_is_allowed_has_no_effect(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setattr(protected, "surroundings", protected.Surroundings)
    monkeypatch.setattr(protected, "protected", lambda config, around: [])
    engine: Any = SimpleNamespace(
        attachment=SimpleNamespace(check_loaded=lambda: None),
        config=SimpleNamespace(limits=SimpleNamespace(block_entries=9)),
        state=State(allowed=[Allowed(prefix="198.51.100.0/24")]),
        blocks=SimpleNamespace(wanted=Blocklist()),
        weights=dict,
        planning=SimpleNamespace(mode="off"),
        matched=lambda network: Matched(FlowCount(0), 0.0, 0.0),
    )
    outcome = Changes(engine).execute(BlockPrefix(prefix=prefix, dry_run=True), OPERATOR)
    assert outcome.ok
    assert ("`cdnctl disallow 198.51.100.0/24`" in "".join(outcome.warnings)) == prefix.startswith("198")


@pytest.mark.parametrize(
    ("rescued", "said"),
    [
        (False, "no: the first pick's own CDN"),
        (True, "no: the flow is being rescued from its CDN"),
    ],
)
def test_why_a_pick_is_passed_by(rescued: bool, said: str) -> None:
    entries: Any = SimpleNamespace(endpoint=str, cdn=str, health=lambda endpoint: "")
    notes = Notes(Packet(source="198.51.100.7", target="203.0.113.80"), entries)
    if rescued:
        notes.take(Note(NoteKind.RESCUE, 1, 0))
    notes.take(Note(NoteKind.TRY, 5, Fitness.UNFIT_EXCEPTED))
    assert notes.steps[-1].found == f"5: {said}"
