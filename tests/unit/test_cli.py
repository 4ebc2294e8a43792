"""The command line: what each verb sends, what it prints, how it ends, and what starting it costs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from engine_double import EDGE, ServedDouble
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import model, paths
from cdnctl.agent.peer import Gate
from cdnctl.cli import bans, check, main
from cdnctl.cli.parser import lifetime, weight
from cdnctl.cli.spoken import CommandLine
from cdnctl.datapath import host
from cdnctl.datapath.standing import Standing

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")


def wait_for_frame(served: ServedDouble) -> None:
    with served.client() as client:
        while client.request(model.GetFrame()).frame is None:
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("block 198.51.100.7", model.BlockPrefix(prefix="198.51.100.7")),
        (
            "block 10.66.0.0/16 --for 1d12h --reason flood --dry-run",
            model.BlockPrefix(prefix="10.66.0.0/16", lifetime_s=36 * 3600.0, reason="flood", dry_run=True),
        ),
        ("block 10.66.0.0/16 --for forever", model.BlockPrefix(prefix="10.66.0.0/16", lifetime_s=None)),
        ("weight aurora=60 borealis=0", model.SetWeights(weights={"aurora": 60, "borealis": 0})),
        ("drain aurora --reason maintenance", model.Drain(cdn="aurora", reason="maintenance")),
        ("undrain aurora", model.Undrain(cdn="aurora")),
        ("attach", model.Attach()),
        ("reload", model.Reload()),
        ("reload --program --reason upgrade --edge ams1", model.Reload(program=True, reason="upgrade")),
        ("reload --dry-run --json", model.Reload(dry_run=True)),
        ("detach --yes", model.Detach()),
        ("detach --stop -y", model.Stop(detach=True)),
        ("detach --dry-run", model.Detach(dry_run=True)),
        ("bypass -y --edge ams1", model.Bypass()),
        ("disarm", model.Disarm()),
        ("--edge ams1 arm", model.Arm()),
        ("blocks", model.FindBlocks(limit=model.PAGE_LIMIT)),
        ("customers", model.ListCustomers()),
        (
            "limit acme --pps 5e4 --mbit none --reason peak",
            model.SetLimit(customer="acme", pps=50_000.0, mbit=0.0, reason="peak"),
        ),
        ("limit acme --flows-per-s 2.5", model.SetLimit(customer="acme", flows_per_s=2.5)),
        ("limit acme --clear --dry-run", model.SetLimit(customer="acme", clear=True, dry_run=True)),
        ("allow 2001:db8::/48 --reason ours", model.Allow(prefix="2001:db8::/48", reason="ours")),
        ("disallow 10.0.0.0/8", model.Disallow(prefix="10.0.0.0/8")),
        ("mode observe --yes", model.SetMode(mode="observe")),
        ("mode active", model.SetMode(mode="active")),
        ("shield siege --reason flood", model.SetShield(level="siege", reason="flood")),
        ("shield auto --dry-run", model.SetShield(level="auto", dry_run=True)),
        ("autoban dry-run", model.SetAutoban(mode="dry-run")),
        ("autoban off --dry-run", model.SetAutoban(mode="off", dry_run=True)),
        ("model observe --reason look", model.SetModel(mode="observe", reason="look")),
        ("model on --dry-run", model.SetModel(mode="on", dry_run=True)),
        ("model config", model.SetModel(mode="config")),
    ],
)
def test_each_verb_sends_its_command(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], line: str, command: model.AnyCommand
) -> None:
    assert main(line.split()) == 0
    sent, actor = served.engine.asked[-1]
    assert sent == command
    assert actor.client == "cli"
    assert capsys.readouterr().out


def test_an_outcome_as_text_and_json(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weight", "aurora=60", "--dry-run"]) == 0
    assert "aurora     60.0 % of new flows" in capsys.readouterr().out
    assert main(["weight", "aurora=60", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shares"] == {"aurora": 0.6, "borealis": 0.4}


def test_in_the_console_a_shield_without_a_level_only_looks() -> None:
    assert CommandLine().parse("shield").command is None
    assert CommandLine().parse("shield busy").command == model.SetShield(level="busy")


def test_nor_does_autoban_without_a_mode() -> None:
    assert CommandLine().parse("autoban --dry-run").command is None
    assert CommandLine().parse("autoban on").command == model.SetAutoban(mode="on")


def test_bans_are_shown(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autoban"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[0].startswith("autoban is off (as configured); 0 of at most 0")
    )
    assert main(["autoban", "--dry-run"]) == 0
    assert (
        capsys.readouterr().out == "would ban nobody: no source or network is over a threshold of [autoban]\n"
    )
    assert main(["autoban", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "off"


def test_bans_and_offenders_in_words() -> None:
    now_ns = time.time_ns()
    found = model.Autoban(
        mode="on",
        wish="on",
        bans=[
            model.Ban(
                prefix="192.0.2.7",
                why="5,000 new flows/s, over 1,000",
                since_ns=now_ns,
                ends_ns=now_ns + 60_000_000_000,
                times=2,
                dropped_pps=4_900.0,
            )
        ],
        bans_total=51,
        most=200,
        offenders=[
            model.Offender(prefix="192.0.2.0/24", why="too much"),
            model.Offender(prefix="192.0.2.9", why="too much", spared="it is 192.0.2.9, a default gateway"),
        ],
    )
    assert bans.lines(found, dry_run=False) == [
        "autoban is on (set by an operator: `cdnctl autoban config` ends it); 51 of at most 200 bans",
        (
            "  192.0.2.7  5,000 new flows/s, over 1,000, 2 times within the hour; 4,900 packets/s dropped;"
            " 1m more, or until it is over"
        ),
        "  and 50 more: `cdnctl blocks`",
        "would ban 192.0.2.0/24: too much",
        "would not ban 192.0.2.9, for it is 192.0.2.9, a default gateway: too much",
    ]
    assert len(bans.lines(found, dry_run=True)) == 2


def test_a_model_is_read_before_it_is_sent(
    served: ServedDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.json"
    assert main(["model", "load", str(file)]) == 1
    assert "No such file" in capsys.readouterr().err
    file.write_text('{"name": "m", "weights": {"rate": 2}, "bias": -9}')
    assert main(["model", "load", str(file)]) == 0
    sent, _ = served.engine.asked[-1]
    assert sent == model.LoadModel(fit=model.Fit(name="m", weights={"rate": 2}, bias=-9), file=str(file))


@pytest.mark.parametrize("line", ["model load", "model on file.json", "model sometimes"])
def test_what_does_not_go_together_with_a_model(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) if "sometimes" in line else contextlib.nullcontext():
        assert main(line.split()) == 2


def test_the_model_is_shown(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model"]) == 0
    assert capsys.readouterr().out.startswith("off  no model is loaded")
    assert main(["model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suspicion"]["mode"] == "off"
    assert CommandLine().parse("model").command is None
    assert CommandLine().parse("model off").command == model.SetModel(mode="off")


def test_the_shield_is_shown(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shield"]) == 0
    assert capsys.readouterr().out.startswith("calm (following the load)\n")
    assert main(["shield", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["level"] == "calm"


@pytest.mark.parametrize("line", ["unblock 10.0.0.1", "block 203.0.113.80"])
def test_a_refusal_ends_with_1(served: ServedDouble, capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert main(line.split()) == 1
    assert capsys.readouterr().err.startswith("cdnctl: ")
    assert main([*line.split(), "--json"]) == 1
    assert refused(capsys)["message"]


def refused(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The one object, of the one shape, that a refusal is for programs."""
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"message", "remedy"}
    assert not said.err
    return dict(answer["error"])


@pytest.mark.parametrize(
    ("line", "status", "message", "remedy"),
    [
        ("block 203.0.113.80", 1, "203.0.113.80 is the VIP of service www", "block something else"),
        ("unblock 10.0.0.1", 1, "10.0.0.1 is not blocked by hand", ""),
        ("weight aurora", 2, "argument CDN=WEIGHT: 'aurora'", "cdnctl weight --help"),
        ("frobnicate", 2, "invalid choice: 'frobnicate'", "cdnctl --help"),
        ("weight aurora=1 aurora=2", 2, "named twice", "one weight"),
        ("--read-only drain aurora", 2, "does not take --read-only", "lists what it takes"),
        ("detach", 2, "cuts 12 flows", "--yes"),
        ("limit acme", 2, "no limit given", "--pps"),
        ("trace 192.0.2.1", 2, "takes two addresses", "trace --live"),
        ("trace --live nonsense", 2, "a filter is a field and a value", "as in"),
        ("status --edge fra1", 1, "no agent serves edge fra1", "attach --edge fra1"),
        ("status --frame 999999", 1, "is not kept", ""),
        ("attach -c /nonexistent/x.toml", 1, "`cdnctl check -c", ""),
    ],
)
def test_every_refusal_is_of_one_shape(
    served: ServedDouble,
    capsys: pytest.CaptureFixture[str],
    line: str,
    status: int,
    message: str,
    remedy: str,
) -> None:
    wait_for_frame(served)
    assert main([*line.split(), "--json"]) == status
    said = refused(capsys)
    assert message in said["message"]
    assert remedy in said["remedy"]
    assert said["remedy"] not in said["message"] or not said["remedy"]


def test_status_as_json_is_the_frame(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    wait_for_frame(served)
    assert main(["status", "--json"]) == 0
    frame = msgspec.json.decode(capsys.readouterr().out, type=model.Frame)
    assert main(["status", "--json", "--frame", str(frame.seq)]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=model.Frame) == frame
    assert main(["status", "--frame", "1000000"]) == 1
    assert "is not kept" in capsys.readouterr().err


def test_tables_show_what_is_known(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    wait_for_frame(served)
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "ams1",
        "armed",
        "aurora",
        "out (dark)",
        "blocked",
        "10.66.0.0/16",
        "50.0k",
        "eth0 (native)",
    ):
        assert part in shown
    assert main(["blocks"]) == 0
    shown = capsys.readouterr().out
    assert "a [/b] reason" in shown, "text from outside is no markup"
    assert "\x1b[31m" not in shown
    assert main(["customers"]) == 0
    shown = capsys.readouterr().out
    for part in ("acme", "50000 pps (operator)", "192.0.2.0/26", "and 4 more", "10.0.0.0/8", "ours [/b]"):
        assert part in shown
    assert main(["who"]) == 0
    assert str(os.getpid()) in capsys.readouterr().out


def test_customers_as_json(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["customers", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in answer["customers"]] == ["acme"]
    assert [each["prefix"] for each in answer["allowed"]] == ["10.0.0.0/8"]


@pytest.mark.parametrize("line", ["limit acme", "limit acme --clear --pps 5"])
def test_a_limit_that_says_nothing_is_never_sent(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    asked = len(served.engine.asked)
    assert main(line.split()) == 2
    assert "cdnctl: " in capsys.readouterr().err
    assert len(served.engine.asked) == asked


@pytest.mark.parametrize("verb", ["blocks", "who"])
def test_lists_as_json(served: ServedDouble, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main([verb, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "block",
        "block 10.0.0.1 --for 4parsecs",
        "block 10.0.0.1 --for 0s",
        "weight aurora",
        "weight aurora=1001",
        "weight aurora=-1",
        "limit",
        "limit acme --pps 0",
        "limit acme --pps nan",
        "limit acme --mbit much",
        "mode",
        "mode passive",
        "shield worse",
        "autoban maybe",
        "status --frame x",
        "status --frame -1",
        "status --frame 99999999999999999999999",
    ],
)
def test_wrong_usage_ends_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(line.split())
    assert raised.value.code == 2
    assert "usage: cdnctl" in capsys.readouterr().err


def test_a_cdn_named_twice_is_wrong_usage(served: ServedDouble) -> None:
    assert main(["weight", "aurora=1", "aurora=2"]) == 2
    assert served.engine.asked == []


@pytest.mark.parametrize(
    "line",
    [
        "--edge ams1 demo",
        "--read-only demo",
        "--read-only drain aurora",
        "--theme ice status",
        "-c /nonexistent drain aurora",
        "--netns x disarm",
        "--edge ams1 agent",
        "drain aurora --reason caf\udce9",
        "block 198.51.100.\udce9",
        "block 198.51.100.\udce9 --json",
    ],
)
def test_what_cannot_be_meant_is_not_done(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert main(line.split()) == 2
    said = capsys.readouterr()
    assert ("does not take" in said.err) or ("is not UTF-8" in said.err + said.out)
    assert served.engine.asked == []


@pytest.fixture
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is the one interface that there is wherever tests run."""
    monkeypatch.setattr(host, "is_ethernet", lambda _: True)


@pytest.mark.usefixtures("any_device")
def test_options_before_a_verb_that_takes_them(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run_dir / "x.toml"
    file.write_text(_GOOD)
    assert main(["-c", str(file), "check"]) == 0
    assert "x.toml: edge ams1 is in order" in capsys.readouterr().out


@given(st.text(max_size=20))
def test_arguments_never_break_their_parsers(text: str) -> None:
    import argparse

    for parse in (lifetime, weight):
        try:
            parse(text)
        except argparse.ArgumentTypeError:
            continue


# --- cutting flows asks first ------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["detach", "bypass", "mode observe"])
def test_cutting_needs_a_yes_without_a_terminal(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert main(verb.split()) == 2
    said = capsys.readouterr().err
    assert "cuts 12 flows" in said
    assert "--yes" in said
    assert [command.dry_run for command, _ in served.engine.asked] == [True]  # type: ignore[union-attr]


@pytest.mark.parametrize(("answer", "status"), [(b"\n", 1), (b"y\n", 1), (b"yes\n", 0)])
def test_cutting_asks_at_a_terminal(served: ServedDouble, answer: bytes, status: int) -> None:
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "cdnctl", "detach"], stdin=theirs, stdout=theirs, stderr=theirs
        )
        shown = b""
        while b"cancels: " not in shown:
            shown += os.read(ours, 4096)
        assert b"cuts 12 flows" in shown
        os.write(ours, answer)
        assert process.wait(10) == status
    finally:
        os.close(theirs)
        os.close(ours)
    assert len(served.engine.asked) == (2 if status == 0 else 1)


@pytest.mark.parametrize("verb", ["detach", "bypass", "mode observe"])
def test_with_a_yes_only_what_was_done_is_said(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert main([*verb.split(), "--yes"]) == 0
    assert "cuts 12 flows" not in capsys.readouterr().out


@pytest.mark.parametrize(("words", "verb"), [("mark one two", "mark"), ("block A B", "block")])
def test_too_much_is_said_with_the_verbs_own_usage(
    capsys: pytest.CaptureFixture[str], words: str, verb: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"usage: cdnctl {verb} ")
    assert f"cdnctl {verb}: error: unrecognized arguments: {words.split()[-1]}" in said


@needs_root
def test_who_is_of_no_group_hears_what_would_do(served: ServedDouble) -> None:
    command = [sys.executable, "-m", "cdnctl"]
    example = (paths.share_dir() / "cdnctl.toml.example").read_text()
    paths.config_path().write_text(re.sub('(?m)^name = ".*"', f'name = "{EDGE}"', example, count=1))
    for words, said in (("status", "group cdnctl-view may watch"), ("doctor", "neither operate nor watch")):
        done = subprocess.run(
            [*command, *words.split(), "--edge", EDGE],
            capture_output=True, text=True, user=NOBODY, group=NOBODY, extra_groups=[],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, timeout=30,
        )  # fmt: skip
        assert said in " ".join((done.stdout + done.stderr).split())
        assert "it answers" not in done.stdout


# --- without an agent --------------------------------------------------------------------------------


@pytest.fixture
def panicked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was written to the kernel without an agent: (function, edge)."""
    from cdnctl.agent import edge, process
    from cdnctl.datapath import panic

    done: list[tuple[str, str]] = []
    for name in ("disarm", "arm", "bypass", "detach", "observe", "act"):
        monkeypatch.setattr(panic, name, lambda edge, name=name: done.append((name, edge)) or f"{name} done")
    monkeypatch.setattr(panic, "live_flows", lambda edge: 34)
    monkeypatch.setattr(process, "require_privileges", lambda: None)
    monkeypatch.setattr(edge, "pinned_edges", lambda: [EDGE])
    return done


@pytest.mark.parametrize(
    ("line", "done"),
    [
        ("disarm", "disarm"),
        ("arm", "arm"),
        ("bypass --yes", "bypass"),
        ("detach --yes", "detach"),
        ("mode observe --yes", "observe"),
        ("mode active", "act"),
    ],
)
def test_panic_works_with_no_agent(
    run_dir: Path,
    panicked: list[tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    line: str,
    done: str,
) -> None:
    words = line.split()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / f"{EDGE}.lock"
    with elsewhere.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(words) == 2, "which edge is never guessed from the pins of others"
    assert main([*words, "--dry-run"]) == 0, "it is the only one that is there"
    assert main([*words, "--edge", EDGE, "--dry-run"]) == 0
    assert panicked == []
    assert main(words) == 0
    assert panicked == [(done, EDGE)]
    said = capsys.readouterr()
    assert f"{done} done" in said.out
    assert "no agent serves" in said.err


def test_panic_works_with_a_hung_agent(
    run_dir: Path, panicked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_agent_client import listener

    monkeypatch.setattr("cdnctl.cli.panic.AGENT_TIMEOUT_S", 0.1)
    with listener(paths.socket_path("fra1")):
        assert main(["detach"]) == 2
        assert panicked == []
        assert main(["disarm"]) == 0
    assert panicked == [("disarm", "fra1")]


@pytest.mark.parametrize("verb", ["status", "blocks", "who", "block 10.0.0.1", "weight a=1", "drain a"])
def test_no_agent_is_an_error_with_a_remedy(
    run_dir: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert main(verb.split()) == 1
    said = capsys.readouterr().err
    assert "no agent serves" in said
    assert "attach" in said
    assert main([*verb.split(), "--json"]) == 1
    assert "no agent serves" in refused(capsys)["message"]


def test_no_agent_is_started_for_another_edge(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths.config_path().write_text(_GOOD)
    assert main(["attach", "--edge", "fra1"]) == 1
    assert "no agent serves edge fra1" in capsys.readouterr().err
    assert main(["attach", "--dry-run"]) == 0
    assert "would start an agent" in capsys.readouterr().out
    assert list(run_dir.glob("*.sock")) == []


def test_the_console_needs_a_terminal(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "needs a terminal" in capsys.readouterr().err


# --- check -------------------------------------------------------------------------------------------

_GOOD = """
[edge]
name = "ams1"
interfaces = ["lo"]
snat = ["203.0.113.10", "203.0.113.11"]
[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443", "198.51.100.11:443"]
[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
"""


@pytest.mark.usefixtures("any_device")
def test_check_adds_it_up(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run_dir / "x.toml"
    file.write_text(_GOOD)
    assert main(["check", "-c", str(file)]) == 0
    said = capsys.readouterr().out
    assert "edge ams1 is in order" in said
    assert "2 addresses x 64,512 ports = 129,024 flows to one endpoint" in said
    assert "x 2 endpoints = 258,048 in all" in said
    assert main(["check", "--json", "-c", str(file)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert sum(report["memory_bytes"].values()) > 10_000_000


@pytest.mark.usefixtures("any_device")
def test_check_says_what_a_reload_would_do(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run_dir / "x.toml"
    file.write_text(_GOOD)
    found = Standing("tables", ("limits.flows is 2048, was 4096", "edge.snat is in another order"))
    monkeypatch.setattr(check, "standing", lambda _: found)
    assert main(["check", "-c", str(file)]) == 0
    assert "differ: limits.flows is 2048, was 4096; edge.snat is in another order" in capsys.readouterr().out
    assert main(["check", "--json", "-c", str(file)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["standing"]["remade"], report["standing"]["keys"]) == ("tables", list(found.keys))


@pytest.mark.usefixtures("any_device")
@pytest.mark.parametrize(("carrier", "loud"), [("eth0", True), ("", False)])
def test_check_warns_of_a_vip_that_is_the_boxs_own(
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    carrier: str,
    loud: bool,
) -> None:
    file = run_dir / "x.toml"
    file.write_text(_GOOD)
    vip = "203.0.113.80"
    monkeypatch.setattr("cdnctl.datapath.inspect.own_addresses", lambda _: {vip: carrier})
    monkeypatch.setattr(host, "is_own", lambda address, **_: address == vip)
    assert main(["check", "-c", str(file)]) == 0
    said = capsys.readouterr().out
    assert f"{'warning' if loud else 'note'}: VIP {vip} is an address of this box" in said
    assert ("SSH to it from elsewhere is cut" in said) is loud


def test_check_names_every_mistake(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run_dir / "cdnctl.toml"
    file.write_text(_GOOD.replace('"lo"', '"cdnctl-none"'))
    assert main(["check"]) == 1
    assert "cdnctl-none: no such interface here; there are" in capsys.readouterr().out
    file.write_text(_GOOD.replace("port = 443", "port = 0\ncolour = 1").replace("snat", "snot"))
    assert main(["check", "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert {"service[1].port", "service[1].colour", "edge.snat", "edge.snot"} <= {p["key"] for p in problems}
    assert main(["check", "-c", str(run_dir / "none.toml")]) == 1


# --- as a process ------------------------------------------------------------------------------------


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cdnctl", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "status --json",
        "block 198.51.100.7 --for 4h",
        "weight aurora=60",
        "blocks",
        "customers --json",
        "limit acme --pps 5",
        "allow 10.0.0.0/8",
        "mode observe -y",
        "who",
        "disarm",
        "attach",
        "reload",
        "detach -y",
        "check -c " + str(paths.share_dir() / "cdnctl.toml.example"),
        "--help",
    ],
)
def test_a_verb_is_cheap(served: ServedDouble, line: str) -> None:
    """Under 0.3 s of CPU (tried twice: the box may be busy), and no heavy import."""
    wait_for_frame(served)
    code = (
        "import sys, time\n"
        "from cdnctl.cli import main\n"
        f"try: main({line.split()!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'textual', 'bcc', 'pyroute2', 'asyncio', 'scapy'} & sys.modules.keys()\n"
        "print(sorted(heavy), 'rich.table' in sys.modules, time.process_time(), file=sys.stderr)\n"
    )
    costs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
        heavy, tables, cost = done.stderr.strip().splitlines()[-1].rsplit(" ", 2)
        assert heavy == "[]"
        assert (tables == "True") == (line in ("status", "blocks", "who") or line.startswith("check"))
        costs.append(float(cost))
        if costs[-1] < 0.3:
            break
    assert min(costs) < 0.3


@needs_root
def test_who_is_not_in_the_group_gets_the_line_to_type(served: ServedDouble) -> None:
    for words in (["status"], ["block", "198.51.100.7", "--reason", "SYN flood"], ["disarm"]):
        done = run(*words, user=NOBODY, group=NOBODY, extra_groups=[])
        assert done.returncode == 1
        assert "sudo CDNCTL_" in done.stderr
        assert done.stderr.rstrip().endswith(" ".join(words).replace("SYN flood", "'SYN flood'"))
        assert "Traceback" not in done.stderr


@needs_root
def test_a_member_of_the_group_operates_a_viewer_watches(served: ServedDouble) -> None:
    operators, viewers = 64_000, 64_001
    served.server._gate = Gate({"operate": operators, "view": viewers})
    for path, group in ((served.path, operators), (served.view_path, viewers)):
        os.chown(path, -1, group)
        path.chmod(0o660)
    assert run("disarm", user=NOBODY, group=NOBODY, extra_groups=[operators]).returncode == 0
    assert served.engine.asked[-1][1].uid == NOBODY
    asked = len(served.engine.asked)
    wait_for_frame(served)
    assert run("status", user=NOBODY, group=NOBODY, extra_groups=[viewers]).returncode == 0
    done = run("disarm", user=NOBODY, group=NOBODY, extra_groups=[viewers])
    assert done.returncode == 1
    assert "may only watch" in done.stderr
    assert len(served.engine.asked) == asked


@needs_root
@pytest.mark.parametrize("options", [[], ["--edge", "ams1"]])
def test_a_viewer_is_told_that_the_agent_is_dead(run_dir: Path, options: list[str]) -> None:
    operators, viewers = 64_000, 64_001
    for path, group in ((paths.socket_path("ams1"), operators), (paths.view_socket_path("ams1"), viewers)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(path))  # and whoever listened was killed
        os.chown(path, -1, group)
        path.chmod(0o660)
    done = run("status", *options, user=NOBODY, group=NOBODY, extra_groups=[viewers])
    assert done.returncode == 1
    assert "no agent serves" in done.stderr
    assert done.stderr.rstrip().endswith(" ".join(["attach", *options]))


def test_watch_goes_on_until_interrupted(served: ServedDouble) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cdnctl", "status", "--watch", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seqs = [json.loads(process.stdout.readline())["seq"] for _ in range(3)]
    assert seqs == [seqs[0], seqs[0] + 1, seqs[0] + 2]
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    assert process.wait(10) in (130, 141)


@pytest.mark.parametrize("line", ["status", "status --json", "status --watch", "customers"])
def test_an_answer_that_nobody_takes_is_an_error_of_a_line(served: ServedDouble, line: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cdnctl", *line.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=20,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "cdnctl: cannot write the answer: No space left on device",
        "  send stdout to where there is room",
    ]


def test_ctrl_c_is_heeded_from_the_start() -> None:
    """Before the verb is known, too, while modules load."""
    code = (
        "import sys, builtins\n"
        "import cdnctl.cli\n"
        "loaded = builtins.__import__\n"
        "def interrupted(name, *more):\n"
        "    if name.startswith(('argparse', 'msgspec')): raise KeyboardInterrupt\n"
        "    return loaded(name, *more)\n"
        "assert 'argparse' not in sys.modules and 'msgspec' not in sys.modules\n"
        "builtins.__import__ = interrupted\n"
        "sys.exit(cdnctl.cli.main(['status']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


# --- around a change ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("drain aurora --confirm 5m", model.Drain(cdn="aurora", confirm_s=300.0)),
        ("drain aurora --confirm 90", model.Drain(cdn="aurora", confirm_s=90.0)),
        ("bypass --yes --confirm 1m", model.Bypass(confirm_s=60.0)),
        ("shield siege --confirm 1m", model.SetShield(level="siege", confirm_s=60.0)),
        ("reload --confirm 2m", model.Reload(confirm_s=120.0)),
        ("confirm --reason fine", model.Confirm(reason="fine")),
        ("revert", model.Revert()),
        ("undo", model.Undo()),
        ("undo 12 --dry-run", model.Undo(seq=12, dry_run=True)),
        ("undo --to 7", model.Undo(to=7)),
        ("repair --dry-run", model.Repair(dry_run=True)),
        ("state", model.GetState()),
        ("state show 7", model.GetState(revision=7)),
        ("diff", model.Diff()),
    ],
)
def test_what_is_around_a_change(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], line: str, command: model.AnyCommand
) -> None:
    assert main(line.split()) == 0
    assert served.engine.asked[-1][0] == command
    assert capsys.readouterr().out


@pytest.mark.parametrize("line", ["drain aurora --confirm soon", "drain a --confirm 2d", "undo 3 --to 2"])
def test_a_time_or_number_that_means_nothing_is_usage(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with pytest.raises(SystemExit) if "--to" not in line else contextlib.nullcontext():
        assert main(line.split()) == 2
    assert capsys.readouterr().err


def test_differences_end_with_1(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [model.Difference(what="block", name="10.0.0.1", wanted="blocked [/b]", found="not enforced")]
    outcome = model.Outcome(ok=True, text="1 difference", differences=found)
    monkeypatch.setattr(served.engine, "execute", lambda command, actor: outcome)
    assert main(["diff"]) == 1
    assert "blocked [/b]" in capsys.readouterr().out
    assert main(["diff", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["found"] == "not enforced"


def test_a_risky_change_at_a_terminal_waits_to_be_confirmed(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[model.AnyCommand] = []

    def execute(command: model.AnyCommand, actor: model.Actor) -> model.Outcome:
        asked.append(command)
        return model.Outcome(
            ok=True, text="would drain aurora", risk="it moves 60 % of new flows", state_version=4
        )

    monkeypatch.setattr(served.engine, "execute", execute)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    assert main(["drain", "aurora"]) == 0
    assert asked == [
        model.Drain(cdn="aurora", dry_run=True), model.Drain(cdn="aurora", confirm_s=120.0, expect=4),
    ]  # fmt: skip
    assert "it moves 60 % of new flows" in capsys.readouterr().err
    for said in ("--yes", "--confirm=0"):
        asked.clear()
        assert main(["drain", "aurora", said]) == 0
        assert asked == [model.Drain(cdn="aurora")]
