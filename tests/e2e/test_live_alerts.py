"""A real Prometheus beside a live edge: in an incident the shipped alerts fire, and clear.

The rules are the shipped ones, but quicker, as their waits are of minutes: each `for` is a second, and the
surge of drops looks back seconds where it looks back an hour. Prometheus scrapes every second.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live import Figure, Kernel, ask, cdnctl, wait_for

from cdnctl import paths
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import end
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Arm, BlockPrefix, Disarm

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        not shutil.which("prometheus"), reason="no prometheus: `.ci/setup.sh test` installs it"
    ),
]
CONFIG = {"service": {"policy": "weighted"}, "reflex": {"out_s": 3.0, "slow_start_s": 1.0}}
CLIENTS = {"share6": 0.5}
"""So that either endpoint of a dark CDN is seen to be."""
HOST, PORT = "127.0.0.1", 9490
FLOOD = "10.79.0.0/16"
FLOOD_PPS = 10_000.0
QUICKER = ((r"for: \d+[smh]", "for: 1s"), (r"\[1h\] offset 1m", "[10s] offset 8s"), (r"\[30s\]", "[3s]"))
SETTINGS = f"""\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: cdnctl
    static_configs: [{{targets: ["{HOST}:9469"]}}]
"""


class Prometheus:
    """Asked over its own interface, in the edge's namespace."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def get(self, path: str) -> dict[str, object]:
        with netns.entered(self._lab.topology.edge):
            connection = http.client.HTTPConnection(HOST, PORT, timeout=5)
            connection.connect()
        with connection.sock:
            connection.request("GET", path)
            answer: dict[str, object] = json.loads(connection.getresponse().read())["data"]
        return answer

    def firing(self) -> set[str]:
        """Alerts, with their CDN where they have one."""
        found = self.get("/api/v1/alerts")["alerts"]
        assert isinstance(found, list)
        return {
            " ".join(filter(None, (each["labels"]["alertname"], each["labels"].get("cdn"))))
            for each in found
            if each["state"] == "firing"
        }

    def is_up(self) -> bool:
        try:
            targets = self.get("/api/v1/targets")["activeTargets"]
        except (OSError, ValueError, KeyError):
            return False
        assert isinstance(targets, list)
        return [each["health"] for each in targets] == ["up"]


@pytest.fixture
def prometheus(lab: Lab, traffic: Traffic, tmp_path: Path) -> Iterator[Prometheus]:
    rules = (paths.share_dir() / "prometheus" / "alerts.yml").read_text()
    for pattern, quicker in QUICKER:
        rules, count = re.subn(pattern, quicker, rules)
        assert count, pattern
    (tmp_path / "alerts.yml").write_text(rules)
    (tmp_path / "prometheus.yml").write_text(SETTINGS)
    command = [
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
    ]
    command += [f"--web.listen-address={HOST}:{PORT}", "--log.level=warn", "--storage.tsdb.retention.time=1h"]
    process = lab.run_beside(command, lab.topology.edge, "prometheus")
    found = Prometheus(lab)
    try:
        wait_for("Prometheus scrapes the edge", 20, found.is_up, every_s=0.3)
        yield found
    finally:
        end(process)


def test_alerts_fire_and_clear_in_an_incident(
    lab: Lab, kernel: Kernel, traffic: Traffic, prometheus: Prometheus, figure: Figure
) -> None:
    def fires_and_clears(alert: str, begin: Callable[[], object], over: Callable[[], object]) -> None:
        assert alert not in prometheus.firing()
        began_s = time.monotonic()
        begin()
        wait_for(f"{alert} fires", 15, lambda: alert in prometheus.firing(), every_s=0.2)
        fired_s = time.monotonic() - began_s
        over()
        over_s = time.monotonic()
        wait_for(f"{alert} clears", 30, lambda: alert not in prometheus.firing(), every_s=0.2)
        figure(f"{alert}: fired, cleared after, s", (round(fired_s, 1), round(time.monotonic() - over_s, 1)))

    time.sleep(20)  # the surge looks back so far
    assert prometheus.firing() == set(), "an edge in order"

    fires_and_clears("CdnctlCdnOut aurora", lambda: lab.darken("aurora"), lambda: lab.heal("aurora"))

    ask(lab, BlockPrefix(prefix=FLOOD, lifetime_s=600))
    loads = []
    senders = {f"10.79.0.{n}": FLOOD_PPS / 10 for n in range(1, 11)}
    fires_and_clears(
        "CdnctlDropsSurge",
        lambda: loads.append(lab.senders(senders, seconds=20)),
        lambda: loads[0].stop(),
    )
    fires_and_clears("CdnctlNotDeciding", lambda: ask(lab, Disarm()), lambda: ask(lab, Arm()))
    fires_and_clears("CdnctlDetached", lambda: cdnctl(lab, "detach", "--yes"), lambda: cdnctl(lab, "attach"))
    fires_and_clears("CdnctlAgentGone", lambda: lab.stop_agent(kill=True), lab.start_agent)
    wait_for("all is in order again", 60, lambda: prometheus.firing() <= {"CdnctlAgentRestarts"}, every_s=0.5)
