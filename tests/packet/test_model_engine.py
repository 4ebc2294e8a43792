"""The model as an agent keeps it: switched, loaded, taken back, through restarts and reloads."""

from __future__ import annotations

from collections.abc import Callable

from moved import LARGER
from reloaded import OPERATOR, Edge
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import ModelMode
from cdnctl.model import AnyChange, Diff, Fit, LoadModel, Repair, SetModel, Undo

Begin = Callable[[], Edge]
HOLDERS = Fit(name="holders", weights={"held": 9, "known": -2}, bias=-77)
OTHERS = Fit(name="others", weights={"unfinished": 5}, bias=-1)


def do(edge: Edge, command: AnyChange) -> str:
    """An operator's word, carried out; what was said."""
    outcome = edge.engine.execute(command, OPERATOR)
    assert outcome.ok, outcome
    return outcome.text


def held(edge: Edge) -> tuple[ModelMode, list[int], int, int]:
    """What the kernel goes by: mode, weights, bias, times."""
    word = edge.tables.settings.model
    model = edge.tables.manners.model(word)
    return ModelMode(word & ~abi.MODEL_SECOND), list(model.weight), model.bias, model.times


AS_LOADED = ([0, 0, 0, 9, 0, 0, 0, -2], -77, 200)


def test_without_a_model_none_is_on(begin: Begin) -> None:
    edge = begin()
    refused = edge.engine.execute(SetModel(mode="on"), OPERATOR)
    assert not refused.ok
    assert "cdnctl train" in refused.remedy
    edge.file.replace("[limits]", '[model]\nmode = "on"\ntimes = 7\n\n[limits]')
    edge.reloaded()
    assert held(edge)[0] is ModelMode.OBSERVE, "as far as it goes"
    do(edge, LoadModel(fit=HOLDERS))
    assert held(edge) == (ModelMode.ON, *AS_LOADED[:2], 7)


def test_what_is_no_model_or_only_tried_changes_nothing(begin: Begin) -> None:
    edge = begin()
    for fit in (Fit(), Fit(name="x"), Fit(name="x", weights={"colour": 1})):
        assert not edge.engine.execute(LoadModel(fit=fit), OPERATOR).ok
    assert "would" in do(edge, LoadModel(fit=HOLDERS, dry_run=True))
    assert "would" in do(edge, SetModel(mode="observe", dry_run=True))
    assert edge.tables.settings.model == 0
    assert edge.engine.state.fit == Fit()


def test_what_was_said_can_be_taken_back_one_by_one(begin: Begin) -> None:
    edge = begin()
    do(edge, SetModel(mode="observe"))
    do(edge, LoadModel(fit=HOLDERS, file="holders.json"))
    do(edge, SetModel(mode="on"))
    do(edge, LoadModel(fit=OTHERS))
    assert held(edge)[1][abi.Feature.UNFINISHED] == 5
    assert "holders" in do(edge, Undo())
    assert held(edge) == (ModelMode.ON, *AS_LOADED)
    do(edge, Undo())
    assert held(edge)[0] is ModelMode.OBSERVE
    lines = [entry.cli for entry in edge.engine.journal.recent()]
    assert "cdnctl model load holders.json" in lines
    assert "cdnctl model on" in lines


def test_it_outlives_its_agent_and_its_tables_and_so_do_manners(begin: Begin) -> None:
    edge = begin()
    do(edge, LoadModel(fit=HOLDERS))
    do(edge, SetModel(mode="on"))
    Session(edge, client="10.1.9.8").open()
    assert "10.1.9.8" in {each.source for each in edge.engine.frame().manners}
    edge = begin()
    assert held(edge) == (ModelMode.ON, *AS_LOADED)
    edge.file.replace(*LARGER)
    edge.reloaded()
    assert held(edge) == (ModelMode.ON, *AS_LOADED)
    Session(edge, client="10.1.9.8").syn()
    seen = {each.source: each for each in edge.engine.frame().manners}["10.1.9.8"]
    assert seen.features[abi.Feature.HELD] == 255, "its first flow is known in the new tables, too"
    assert seen.score == HOLDERS.score(seen.features)
    assert edge.engine.frame().suspicion.suspicious == 1


def test_what_somebody_else_wrote_is_found_and_repaired(begin: Begin) -> None:
    edge = begin()
    do(edge, LoadModel(fit=HOLDERS))
    do(edge, SetModel(mode="on"))
    settings = edge.tables.settings
    settings.model = 0
    edge.tables.settings = settings
    differences = edge.engine.execute(Diff(), OPERATOR).differences or []
    assert [(each.what, each.name, each.wanted, each.found) for each in differences] == [
        ("model", "mode", "on", "off")
    ]
    do(edge, Repair())
    assert held(edge) == (ModelMode.ON, *AS_LOADED)
    assert edge.engine.execute(Diff(), OPERATOR).differences == []
