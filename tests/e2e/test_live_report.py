"""`cdnctl report` on a live edge: what is in it, that nobody can be known from it, and without an agent."""

from __future__ import annotations

import json
import os
import re
import socket
import tarfile
from pathlib import Path

import pytest
from live import Figure, Kernel, ask, cdnctl, wait_for

from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import VIP, VIP6
from cdnctl.lab.traffic import Traffic
from cdnctl.model import BlockPrefix
from cdnctl.recording.reader import Reader

CONFIG = {"service": {"policy": "weighted"}}
CLIENTS = {"share6": 0.5}
BLOCKED, BLOCKED6 = "10.71.3.0/24", "3fff:77:1::/48"
_V4 = re.compile(rb"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
ALWAYS = {
    "about.json",
    "doctor.json",
    "journal.jsonl",
    "configuration.toml",
    "tables.json",
    "versions.json",
    *(f"network/{name}.json" for name in ("addresses", "routes", "routes6", "rules", "neighbours")),
}
FROM_AGENT = {
    "frames.cdnrec", "frame.json", "metrics.prom", "blocks.json", "customers.json", "watchers.json"
}  # fmt: skip


@pytest.fixture
def said(lab: Lab, traffic: Traffic) -> None:
    if lab.agent is None:
        lab.start_agent()
    reason = f"from {VIP} said {os.uname().nodename}"
    ask(lab, BlockPrefix(prefix=BLOCKED, reason=reason))
    ask(lab, BlockPrefix(prefix=BLOCKED6, reason="six"))
    wait_for("tables counted", 3, lambda: cdnctl(lab, "status")["maps"])


def report(lab: Lab, path: Path, *words: str) -> dict[str, bytes]:
    """The files of a report, by name."""
    answer = cdnctl(lab, "report", "-o", str(path), *words)
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        top = {member.name.partition("/")[0] for member in archive}
        assert len(top) == 1
        found = {
            member.name.partition("/")[2]: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
        }
    assert sorted(found) == sorted([*answer["files"]])
    return found


def assert_nobody_is_known(files: dict[str, bytes], tmp_path: Path) -> None:
    host = socket.gethostname()
    for name, data in files.items():
        if name == "frames.cdnrec":
            data = "\n".join(map(repr, frames_of(data, tmp_path))).encode()
        for real in (VIP, VIP6, BLOCKED, BLOCKED6, "198.51.100.1", "10.71.3.", "3fff:"):
            assert real.encode() not in data, (name, real)
        others = {found for found in _V4.findall(data) if int(found.split(b".")[0]) < 240}
        assert others <= {b"0.0.0.0"}, name
        if len(host) > 5 and host not in ("localhost", "debian"):
            assert not re.search(rf"(?<![\w-]){re.escape(host)}(?![\w-])".encode(), data), name


def frames_of(data: bytes, tmp_path: Path) -> list[object]:
    file = tmp_path / "frames.cdnrec"
    file.write_bytes(data)
    with Reader(file) as reader:
        return list(reader.frames())


@pytest.mark.usefixtures("said")
def test_it_has_everything_and_names_nobody(lab: Lab, kernel: Kernel, tmp_path: Path, figure: Figure) -> None:
    files = report(lab, tmp_path / "incident.tar.gz")
    assert files.keys() >= ALWAYS | FROM_AGENT
    figure("files, bytes packed", (len(files), (tmp_path / "incident.tar.gz").stat().st_size))
    assert_nobody_is_known(files, tmp_path)
    assert any(name.startswith("state/") for name in files)
    about = json.loads(files["about.json"])
    assert about["redacted"]
    assert about["files"] == {name: len(data) for name, data in files.items() if name != "about.json"}
    tables = json.loads(files["tables.json"])
    assert set(tables["cdns"]) == set(lab.sites)
    assert tables["maps"]["established"]["entries"] > 0
    assert tables["flows"]["established"]
    assert len(tables["blocks"]) == 2
    assert sum(packets for packets, _ in tables["verdicts"].values()) > 100
    assert b"cdnctl_frame_seq" in files["metrics.prom"]
    frames = frames_of(files["frames.cdnrec"], tmp_path)
    assert len(frames) > 2
    # the same stand-in in every part
    (in_frame,) = {each["vip"] for each in json.loads(files["frame.json"])["services"] if each["family"] == 4}
    assert int(in_frame.split(".")[0]) >= 240
    assert f'"{in_frame}"'.encode() in files["configuration.toml"]
    assert any(in_frame in json.loads(line)["reason"] for line in files["journal.jsonl"].splitlines())


@pytest.mark.soak
@pytest.mark.usefixtures("said")
def test_unredacted_it_is_as_it_is(lab: Lab, kernel: Kernel, tmp_path: Path) -> None:
    files = report(lab, tmp_path / "incident.tgz", "--no-redact")
    assert files["configuration.toml"] == lab.config_path.read_bytes()
    assert files["journal.jsonl"] == (lab.directory / "state" / lab.name / "journal.jsonl").read_bytes()
    blocked = {each["prefix"] for each in json.loads(files["tables.json"])["blocks"]}
    assert blocked == {BLOCKED, BLOCKED6}
    assert os.uname().nodename.encode() in files["journal.jsonl"]


@pytest.mark.usefixtures("said")
def test_without_an_agent_it_says_what_is_missing(lab: Lab, kernel: Kernel, tmp_path: Path) -> None:
    lab.stop_agent(kill=True)
    files = report(lab, tmp_path / "incident.tar.gz")
    assert files.keys() >= ALWAYS
    assert not files.keys() & FROM_AGENT
    assert b"frames: no agent serves edge" in files["MISSING.txt"]
    assert_nobody_is_known(files, tmp_path)
    tables = json.loads(files["tables.json"])
    assert set(tables["cdns"]) == set(lab.sites), "names are the configuration's then"
