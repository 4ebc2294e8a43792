"""`:` in the console: exactly the shell's verbs, and what is not for a line."""

from __future__ import annotations

import pytest

from cdnctl.cli.spoken import CommandLine
from cdnctl.console.screens.speaking import ELSEWHERE
from cdnctl.console.widgets.notices import outcome_rows
from cdnctl.model import Outcome


@pytest.mark.parametrize(
    ("line", "verb", "names_edge"),
    [
        ("journal --since 5m", "journal", True),
        ("journal --verb block", "journal", True),
        ("unit", "unit", False),
        ("replay incident --info", "replay", False),
        ("replay incident --json", "replay", False),
        ("status", "status", True),
        ("planner", "planner", True),
        ("planner status", "planner", True),
        ("planner why aurora", "planner", True),
    ],
)
def test_verbs_that_only_ask(line: str, verb: str, names_edge: bool) -> None:
    spoken = CommandLine().parse(line)
    assert (spoken.verb, spoken.names_edge, spoken.words) == (verb, names_edge, tuple(line.split()))


def test_a_replay_is_a_program_of_its_own() -> None:
    spoken = CommandLine().parse("replay incident --at 10")
    assert spoken.verb in ELSEWHERE
    assert spoken.words[0] == "replay"


@pytest.mark.parametrize("text", ["what alice did waits", "refused: what alice did waits"])
def test_a_refusal_says_so_once(text: str) -> None:
    rows = outcome_rows(Outcome(ok=False, text=text), 80)
    assert "".join(part for row in rows for part, _ in row).strip() == "✖ refused: what alice did waits"
