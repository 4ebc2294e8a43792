"""Alert rules and dashboard that are shipped: they are sound, and speak of metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from metrics_frame import frame, times

from cdnctl import paths
from cdnctl.metrics.text import families

HERE = Path(__file__).parent
RULES = paths.share_dir() / "prometheus" / "alerts.yml"
DASHBOARD = paths.share_dir() / "grafana" / "cdnctl.json"
SUFFIXES = {
    "counter": ("_total",),
    "info": ("_info",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}
_NAME = re.compile(r"\bcdnctl_[a-z_]+")
_ALERT = re.compile(r"- alert: (\w+)\n((?: {8}.*\n|\n)+)")

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is missing: `.ci/setup.sh test` installs it"
)


def promtool(*words: str, cwd: Path = HERE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Names of all samples that the exporter may give."""
    return {f"{each.name}{end}" for each in families(frame(), times()) for end in SUFFIXES[each.type]}


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def queries() -> Iterator[tuple[str, str]]:
    """Panel and PromQL of the dashboard."""
    board = dashboard()
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for note in board["annotations"]["list"]:
        yield note["name"], note["expr"]


def alerts() -> dict[str, str]:
    """The text of each rule, by its name."""
    return {found[1]: found[2] for found in _ALERT.finditer(RULES.read_text())}


def test_rules_speak_of_metrics_that_there_are(known: set[str]) -> None:
    found = alerts()
    assert len(found) == RULES.read_text().count("- alert:") >= 15
    for name, text in found.items():
        named = set(_NAME.findall(text.partition("annotations:")[0]))
        assert named <= known, name
        assert named or 'up{job="cdnctl"}' in text, name
        assert re.search(r"severity: (page|ticket)", text), name
        assert "summary:" in text, name
        assert "description:" in text, name


def test_rules_name_verbs_that_there_are() -> None:
    from cdnctl.cli.parser import parse

    for verb in re.findall(r"`cdnctl (\w+)", RULES.read_text()):
        if verb == "confirm":  # comes with confirmations, as does the metric that this rule is about
            continue
        with pytest.raises(SystemExit) as ended:
            parse([verb, "--help"])
        assert ended.value.code == 0, verb


@needs_promtool
def test_promtool_finds_no_fault_in_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_every_rule_fires_and_clears_when_it_should() -> None:
    done = promtool("test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.soak
def test_no_rule_could_be_dead_or_gone_unnoticed(tmp_path: Path) -> None:
    """A rule that never fires, or always does, fails the tests above: each in turn."""
    plays = (HERE / "alerts_test.yml").read_text()
    (tmp_path / "alerts_test.yml").write_text(re.sub(r"\S+/alerts\.yml", "alerts.yml", plays))
    for name in alerts():
        for expr in ("vector(0) > 1", "vector(1)"):
            text = RULES.read_text()
            begin = text.index("expr:", text.index(f"- alert: {name}\n"))
            end = re.compile(r"\n        (?:for|labels):").search(text, begin)
            assert end is not None
            (tmp_path / "alerts.yml").write_text(f"{text[:begin]}expr: {expr}{text[end.start() :]}")
            done = promtool("test", "rules", "alerts_test.yml", cwd=tmp_path)
            assert done.returncode == 1, (name, expr)
            assert name in done.stdout + done.stderr, (name, expr)


def test_the_dashboard_speaks_of_metrics_that_there_are(known: set[str]) -> None:
    found = dict(queries())
    assert len(found) > 20
    for panel, query in found.items():
        named = set(_NAME.findall(query))
        assert named, panel
        assert named <= known, panel
        assert 'instance=~"$instance"' in query, panel


@needs_promtool
def test_the_dashboards_queries_can_be_run(tmp_path: Path) -> None:
    """As rules they are parsed by the very parser that will run them."""
    rules = [
        {"record": f"query:{n}", "expr": query.replace("$__rate_interval", "1m").replace("$instance", ".+")}
        for n, (_, query) in enumerate(queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {each["name"] for each in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w+)", json.dumps(board)))
    assert variables == used == {"datasource", "instance"}
