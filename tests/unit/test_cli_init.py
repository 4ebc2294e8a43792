"""`cdnctl init`: in a network namespace of its own, on real interfaces and a real listener."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cdnctl.cli import draft, first, main
from cdnctl.errors import UsageError

ROOT = Path(__file__).parents[2]
SET_UP = (
    "set -e; ip link set lo up; ip addr add 198.51.100.10/32 dev lo; "
    "ip link add wan0 type veth peer name wan1; ip addr add 203.0.113.10/24 dev wan0; "
    "ip link set wan1 up; ip link set wan0 up; ip route add default via 203.0.113.1; exec "
)
LISTEN = (
    "import socket, sys; from cdnctl.cli import main;"
    "heard = socket.create_server(('198.51.100.10', 443)); sys.exit(main(sys.argv[1:]))"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
GIVEN = "--name ams1 --service www=203.0.113.80:443/tcp+udp --cdn aurora=198.51.100.10:443@60"


def init(words: str, file: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    python = f'{sys.executable} -c "{LISTEN}" init -c {file} {words}'
    return subprocess.run(
        ["unshare", "-n", "sh", "-c", SET_UP + python],
        input=typed,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


@needs_root
def test_it_finds_interfaces_probes_cdns_and_writes_what_check_takes(tmp_path: Path) -> None:
    file = tmp_path / "new" / "cdnctl.toml"
    done = init(f"-y {GIVEN}", file)
    assert done.returncode == 0, done.stderr
    data = tomllib.loads(file.read_text())
    assert data["edge"]["interfaces"] == ["wan0"]
    assert data["edge"]["snat"] == ["203.0.113.10"]
    assert data["edge"]["snat_ports"] == [1024, 32767]  # of an address of the host's own
    assert data["cdn"][0] == {"name": "aurora", "endpoints": ["198.51.100.10:443"], "weight": 60}
    assert data["service"][0]["protocol"] == ["tcp", "udp"]
    assert "ms to connect, when this file was made" in file.read_text()
    again = init(f"-y {GIVEN}", file)
    assert again.returncode == 1
    assert "is there already" in again.stderr


@needs_root
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-y --name ams1", "services, as www=203.0.113.80:443/tcp+udp: not given"),
        (f"-y {GIVEN} --interface eth7", "there is no interface eth7; there are wan0, wan1"),
        (f"-y {GIVEN} --interface lo", "lo is the loopback: no client comes by it; there are wan0, wan1"),
        (f"-y {GIVEN} --management 10.0.0.1/8", "'10.0.0.1/8' is no prefix; write 10.0.0.0/8"),
        (f"-y {GIVEN} --cdn borealis=198.51.100.10", "is no address and port"),
        (f"-y {GIVEN} --snat 127.0.0.1", "snat"),
        ("-y --name A_B", "is no valid name"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(tmp_path: Path, words: str, said: str) -> None:
    file = tmp_path / "cdnctl.toml"
    done = init(words, file)
    assert done.returncode == 2
    assert said in done.stderr.replace("\n  ", "; ")
    assert not file.exists()


@needs_root
def test_a_cdn_that_does_not_answer_is_taken_with_a_remark(tmp_path: Path) -> None:
    done = init(f"-y {GIVEN} --cdn dark=198.51.100.10:1 --dry-run", tmp_path / "x.toml")
    assert "198.51.100.10:1: Connection refused" in done.stdout
    assert not (tmp_path / "x.toml").exists()


def test_words_of_services_and_cdns() -> None:
    assert draft.end("[2001:db8::80]:443") == ("2001:db8::80", 443)
    assert draft.cdn("a=x.example:1,[2001:db8::1]:2@0") == ("a", [("x.example", 1), ("2001:db8::1", 2)], 0)
    for wrong in ("www", "www=1.2.3.4", "www=1.2.3.4:99999", "www=1.2.3.4:80/sctp", "WWW=1.2.3.4:80"):
        with pytest.raises(UsageError):
            draft.service(wrong)
    for wrong in ("a=x:1@many", "a=x:1@1001", "=x:1"):
        with pytest.raises(UsageError):
            draft.cdn(wrong)


def test_without_a_configuration_something_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CDNCTL_CONFIG", str(tmp_path / "none.toml"))
    asked: list[list[str]] = []

    def run(words: list[str]) -> int:
        asked.append(words)
        return 7

    monkeypatch.setattr("builtins.input", lambda _question: "2")
    assert first.offer(run) == 7
    assert asked == [["demo"]]
    monkeypatch.setattr("builtins.input", lambda _question: "")
    assert first.offer(run) == 0
    assert "set up this box" in capsys.readouterr().out


def test_init_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["init", "--help"])
    assert "--service NAME=VIP:PORT" in capsys.readouterr().out
