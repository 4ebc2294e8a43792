"""`:` in the console: exactly the shell's verbs, and what is not for a line."""

from __future__ import annotations

import pytest

from cdnctl.cli.spoken import CommandLine
from cdnctl.console.screens import speaking
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


@pytest.mark.parametrize(
    "line", ["status --watch", "status -w", "journal -f", "trace --live verdict dropped"]
)
def test_what_never_ends_is_a_program_of_its_own(line: str) -> None:
    assert CommandLine().parse(line).verb in ELSEWHERE
    assert CommandLine().parse("trace --live --count 3").verb == "trace"


@pytest.mark.parametrize(
    "line", ["agent", "init", "demo", "block --file", "status --watch", "journal --follow"]
)
def test_what_is_refused_is_not_offered(line: str) -> None:
    assert line.split()[-1] not in CommandLine().complete(line, None)
    assert "--reason" in CommandLine().complete("block --re", None)
    assert CommandLine().complete("sta", None) == ["state", "status"]


async def test_what_was_said_until_the_time_was_up_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "RUN_TIMEOUT_S", 0.5)
    script = ("/bin/sh", "-c", "echo so far; exec sleep 20")
    monkeypatch.setattr(speaking, "python_module", lambda *_words: script)
    ok, text = await speaking.run_line(("trace",))
    assert not ok
    assert text.splitlines()[0] == "so far"
    assert "it was ended" in text


@pytest.mark.parametrize("text", ["what alice did waits", "refused: what alice did waits"])
def test_a_refusal_says_so_once(text: str) -> None:
    rows = outcome_rows(Outcome(ok=False, text=text), 80)
    assert "".join(part for row in rows for part, _ in row).strip() == "✖ refused: what alice did waits"
