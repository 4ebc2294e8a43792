"""The log of whose each port was: its lines, what is missing, rotation, disks that do not take it."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from cdnctl import config
from cdnctl.datapath import abi
from cdnctl.datapath.perf import Binding
from cdnctl.engine import nat_log
from cdnctl.engine.layout import EndpointPlace, Layout, ServicePlace
from cdnctl.engine.nat_log import NatLog, lines

TEXT = """
[edge]
name = "ams1"
interfaces = ["eth0"]
snat = ["203.0.113.10", "203.0.113.11", "2001:db8::10"]

[log]
nat = true
nat_mb = 1
nat_files = 3

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443", "[2001:db8:1::10]:443"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
"""
CONFIG = config.parse(TEXT, Path("t"))
LAYOUT = Layout(
    cdns={"aurora": 0},
    endpoints=(
        EndpointPlace(3, 0, "aurora", "198.51.100.10", 443, "tcp"),
        EndpointPlace(4, 0, "aurora", "2001:db8:1::10", 443, "tcp"),
    ),
    services=(ServicePlace(7, "www", "203.0.113.80", 0, 443, "tcp"),),
    vips={"203.0.113.80": 0},
    regions={},
    customers={},
)


def binding(client: str = "192.0.2.7", **other: int) -> Binding:
    fields = {"client_port": abi.port(40_000), "snat_port": abi.port(50_123), "snat": 1}
    fields |= {"endpoint": 3, "service": 7, "protocol": 6, **other}
    return Binding(at_ns=time.monotonic_ns(), client=abi.packed(client), **fields)


@pytest.fixture
def log(tmp_path: Path) -> NatLog:
    return NatLog(tmp_path / "nat.log")


def written(log: NatLog) -> list[str]:
    """All lines, once its thread has ended."""
    log.close()
    return log._path.read_text().splitlines()


def test_a_line_says_whose_the_port_was() -> None:
    ip4, ip6 = lines([binding(), binding("2001:db8:2::7", snat=0, endpoint=4)], CONFIG, LAYOUT)
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(
        f"{when} tcp 192.0.2.7:40000 203.0.113.80:443 203.0.113.11:50123 198.51.100.10:443 aurora\n", ip4
    )
    assert ip6.split()[2:] == [
        "[2001:db8:2::7]:40000", "203.0.113.80:443", "[2001:db8::10]:50123", "[2001:db8:1::10]:443", "aurora",
    ]  # fmt: skip
    now = time.strftime("%Y-%m-%dT%H:%M", time.gmtime())
    assert ip4[:16] in (now, time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 60)))


def test_what_has_left_the_configuration_is_a_dash() -> None:
    (line,) = lines([binding(snat=5, endpoint=9, service=9)], CONFIG, LAYOUT)
    assert line.split()[3:] == ["-", "-", "-", "-"]


def test_all_are_written_in_order_and_what_is_missing_is_said(log: NatLog) -> None:
    ports = list(range(40_000, 40_100))
    assert log.write([binding(client_port=abi.port(port)) for port in ports[:60]], 0, CONFIG, LAYOUT) == ""
    assert log.write([binding(client_port=abi.port(port)) for port in ports[60:]], 5, CONFIG, LAYOUT) == ""
    found = written(log)
    assert [line for line in found if line.startswith("#")] == ["# 5 not logged"]
    told = [line for line in found if not line.startswith("#")]
    assert [int(line.split()[2].rpartition(":")[2]) for line in told] == ports
    assert log._path.stat().st_mode & 0o007 == 0


def test_nothing_is_made_while_nothing_comes(log: NatLog) -> None:
    assert log.write([], 0, CONFIG, LAYOUT) == ""
    log.close()
    assert not log._path.exists()


def test_files_are_so_large_and_so_many(log: NatLog) -> None:
    each = len(lines([binding()], CONFIG, LAYOUT)[0])
    batch = [binding()] * ((1 << 20) // each + 1)
    for _ in range(5):
        log.write(batch, 0, CONFIG, LAYOUT)
    log.close()
    assert sorted(path.name for path in log._path.parent.iterdir()) == ["nat.log.1", "nat.log.2"]
    one = replace(CONFIG, log=replace(CONFIG.log, nat_files=1))
    log.write(batch, 0, one, LAYOUT)
    log.close()
    assert not log._path.exists()


def test_a_disk_that_takes_nothing_is_told_once_and_what_was_lost_is_counted(
    log: NatLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nat_log.os, "fsync", full)
    log.write([binding()] * 3, 0, CONFIG, LAYOUT)
    until = time.monotonic() + 5
    while not log._trouble and time.monotonic() < until:
        time.sleep(0.01)
    said = [log.write([], 0, CONFIG, LAYOUT) for _ in range(3)]
    assert "No space left" in said[0]
    assert said[1:] == ["", ""]
    monkeypatch.undo()
    log.write([binding()], 0, CONFIG, LAYOUT)
    found = written(log)
    assert found[0] == "# 3 not logged"
    assert len(found) == 2, "nothing of what failed is there"


def test_a_slow_disk_delays_nobody(log: NatLog, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, fsync = [False], os.fsync

    def slow(descriptor: int) -> None:
        while not goes_on[0]:
            time.sleep(0.01)
        fsync(descriptor)

    monkeypatch.setattr(nat_log.os, "fsync", slow)
    began = time.monotonic()
    said = [log.write([binding()], 0, CONFIG, LAYOUT) for _ in range(nat_log.WAITING + 10)]
    assert time.monotonic() - began < 1
    assert any("too slow" in each for each in said)
    goes_on[0] = True
    until = time.monotonic() + 10
    while not log._waiting.empty() and time.monotonic() < until:
        time.sleep(0.01)
    log.write([binding()], 0, CONFIG, LAYOUT)
    found = written(log)
    told = sum(not line.startswith("#") for line in found)
    missing = sum(int(line.split()[1]) for line in found if line.startswith("#"))
    assert (told + missing, missing > 0) == (nat_log.WAITING + 11, True)


def told(log: NatLog) -> str:
    """What is said next of trouble."""
    until = time.monotonic() + 5
    while not (said := log.write([], 0, CONFIG, LAYOUT)):
        assert time.monotonic() < until
        time.sleep(0.01)
    return said


def test_what_is_written_is_not_missing_when_the_file_cannot_be_renamed(log: NatLog) -> None:
    each = len(lines([binding()], CONFIG, LAYOUT)[0])
    older, in_the_way = (log._path.with_name(f"nat.log.{number}") for number in (1, 2))
    older.write_text("")
    in_the_way.mkdir()
    batch = [binding()] * ((1 << 20) // each + 1)
    log.write(batch, 0, CONFIG, LAYOUT)
    assert told(log).startswith("the log of ports grows")
    log.write([binding()], 0, CONFIG, LAYOUT)
    found = written(log)
    assert (len(found), [line for line in found if line.startswith("#")]) == (len(batch) + 1, [])
    in_the_way.rmdir()
    log.write([binding()], 0, CONFIG, LAYOUT)
    log.close()
    assert len(older.read_text().splitlines()) == len(batch) + 2, "then it goes its way"
    log.write([], 0, CONFIG, LAYOUT)
    assert log._told == ""


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_batch_that_cannot_be_told_ends_nothing(log: NatLog) -> None:
    log.write([binding()._replace(client=b"odd")] * 2, 0, CONFIG, LAYOUT)
    assert "internal error" in told(log)
    ports = range(40_000, 40_003)
    for port in ports:
        log.write([binding(client_port=abi.port(port))], 0, CONFIG, LAYOUT)
    found = written(log)
    assert found[0] == "# 2 not logged"
    assert [int(line.split()[2].rpartition(":")[2]) for line in found[1:]] == list(ports)
    log.write([], 0, CONFIG, LAYOUT)
    assert log._told == ""


def test_a_disk_that_was_slow_is_not_so_for_ever(log: NatLog, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(nat_log.os, "fsync", lambda _descriptor: goes_on.wait(5))
    said = [log.write([binding()], 0, CONFIG, LAYOUT) for _ in range(nat_log.WAITING + 3)]
    (slow,) = [each for each in said if each]
    assert slow == f"bindings of ports are not logged: {log._path}: the disk is too slow"
    goes_on.set()
    log.close()
    log.write([], 0, CONFIG, LAYOUT)
    assert log._told == ""
