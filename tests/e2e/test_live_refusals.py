"""What keeps an agent from starting, and what it refuses once it runs: said clearly, nothing left."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from labs import Labs
from live import command_line, frame, left_behind, programs, run, wait_for

from cdnctl import paths
from cdnctl.agent import protocol
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import end, start

FOREIGN = "someone_elses"
MEMBERS, VIEWERS = 54321, 54322
"""Numbers of the groups cdnctl and cdnctl-view, where the box has none."""
NOBODY = 65534
BRIDGE = "plain"
XDP_FLAGS_DRV_MODE = 1 << 2


@pytest.fixture(scope="module")
def lab(labs: Labs) -> Lab:
    """No agent: each test starts what it needs."""
    return labs.fresh(agent=False)


def config_with(lab: Lab, **edge: object) -> dict[str, Any]:
    config = lab.config()
    config["edge"] |= edge
    return config


def agent_command(lab: Lab, config: dict[str, Any] | None = None) -> list[str]:
    path = lab.config_path
    if config is not None:
        path = lab.directory / "other.toml"
        path.write_text(tomli_w.dumps(config))
    return command_line("agent", "-c", str(path), "--netns", lab.topology.edge)


def refused(
    lab: Lab, config: dict[str, Any] | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Try to start an agent; it must end with an error of ours and leave nothing."""
    done = run(lab, agent_command(lab, config), **settings)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert left_behind(lab) == []
    return done


@contextlib.contextmanager
def serving(lab: Lab, command: Sequence[str]) -> Iterator[None]:
    """Run an agent of one's own making until it is told to end."""
    log = lab.directory / "own-agent.log"
    with log.open("wb") as out:
        lab.agent = start(command, stdout=out, stderr=out, extra=lab.environment)
        agent = lab.agent

        def up() -> bool:
            assert agent.poll() is None, log.read_text()
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(paths.socket_path(lab.name))) == 0

        try:
            wait_for("the agent is up", 20, up)
            yield
        finally:
            end(agent, grace_s=5)
            lab.agent = None


# --- it does not start -----------------------------------------------------------------------------


def test_a_missing_interface_is_named_with_those_there_are(lab: Lab) -> None:
    said = refused(lab, config_with(lab, interfaces=["clients", "cdn-aurora", "eth9"])).stderr
    assert "interface eth9 does not exist" in said
    assert all(name in said for name in lab.topology.edge_links)


def load_foreign() -> int:
    """A program that passes everything (`return XDP_PASS`), by somebody else."""
    instructions = (ctypes.c_uint64 * 2)(0x0000_0002_0000_00B7, 0x0000_0000_0000_0095)
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    xdp_type = 6
    fd: int = libbpf.bpf_prog_load(
        xdp_type, FOREIGN.encode(), b"GPL", instructions, ctypes.c_size_t(len(instructions)), None
    )
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return fd


def test_a_foreign_program_is_named_and_stays(lab: Lab) -> None:
    """It sits on the last interface: the agent has attached to the others by then, and takes that back."""
    name = lab.topology.edge_links[-1]
    fd = load_foreign()
    with netns.netlink(lab.topology.edge) as ip:
        index = ip.link_lookup(ifname=name)[0]
        ip.link("set", index=index, xdp_fd=fd, xdp_flags=XDP_FLAGS_DRV_MODE)
        foreign = programs(lab)
        done = run(lab, agent_command(lab))
        after = programs(lab)
        ip.link("set", index=index, xdp_fd=-1, xdp_flags=XDP_FLAGS_DRV_MODE)
    os.close(fd)
    assert done.returncode == 1
    assert f"interface {name} already has the XDP program '{FOREIGN}' (id {foreign[name]}" in done.stderr
    assert f"ip link set dev {name} xdp off" in done.stderr
    assert after == foreign
    assert set(foreign) == {name}
    assert left_behind(lab) == []


def test_every_mistake_of_a_configuration_is_said_at_once(lab: Lab) -> None:
    config = config_with(lab, colour="blue", snat=["203.0.113.80"], attach="magic")
    config["cdn"][0]["weight"] = -3
    config["cdn"][1]["endpoints"] = config["cdn"][2]["endpoints"]
    config["limits"]["flows"] = "many"
    said = refused(lab, config).stderr
    for key in ("edge.colour", "edge.attach", "cdn[1].weight", "limits.flows", "service[1].vip"):
        assert key in said, (key, said)
    assert "198.51.100.30:80" in said
    assert said.count(str(lab.directory / "other.toml")) >= 6


def test_without_bcc_the_package_is_named(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text('raise ModuleNotFoundError("No module named bcc", name="bcc")\n')
    found_first = os.pathsep.join([str(tmp_path), str(paths.PACKAGE.parent)])
    assert "python3-bpfcc" in refused(lab, PYTHONPATH=found_first).stderr


def test_a_missing_bpffs_is_mounted(lab: Lab) -> None:
    """In a mount namespace of the agent's own, where it and its pins end with it."""
    alone = ["unshare", "-m", "sh", "-c", f'umount {paths.BPFFS} && exec "$@"', "sh"]
    with serving(lab, [*alone, *agent_command(lab), "--detach-on-exit"]):
        assert set(programs(lab)) == set(lab.topology.edge_links)
        assert not paths.pin_dir(lab.name).exists()
    assert left_behind(lab) == []


# --- who may ---------------------------------------------------------------------------------------


def as_nobody(*groups: int) -> list[str]:
    """Run what follows as a user without privileges, who can read the checkout wherever it is."""
    caps = "-all,+dac_read_search"
    return [
        *("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY)),
        *(("--groups", ",".join(map(str, groups))) if groups else ("--clear-groups",)),
        *("--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps, "--"),
    ]


def sudo_line_in(said: str) -> list[str]:
    """The words of the line to type, which an error ends with."""
    line = said.strip().splitlines()[-1].strip()
    words = shlex.split(line)
    assert words[0] == "sudo", said
    return words


def test_an_agent_without_root_says_what_to_type(lab: Lab) -> None:
    command = agent_command(lab)
    done = run(lab, [*as_nobody(), *command])
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert sudo_line_in(done.stderr) == [
        "sudo", f"CDNCTL_STATE_DIR={lab.environment['CDNCTL_STATE_DIR']}", *command,
    ]  # fmt: skip
    assert left_behind(lab) == []


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[None]:
    """An agent that knows both groups, from a private copy of /etc/group; it attaches to a bridge, too."""
    groups = lab.directory / "group"
    text = Path("/etc/group").read_text()
    for name, number in ((paths.OPERATORS_GROUP, MEMBERS), (paths.VIEWERS_GROUP, VIEWERS)):
        kept = [line for line in text.splitlines() if not line.startswith(f"{name}:")]
        text = "\n".join([*kept, f"{name}:x:{number}:", ""])
    groups.write_text(text)
    config = config_with(lab, interfaces=[*lab.topology.edge_links, BRIDGE])
    bound = ["unshare", "-m", "sh", "-c", f'mount --bind {groups} /etc/group && exec "$@"', "sh"]
    with netns.netlink(lab.topology.edge) as ip:
        ip.link("add", ifname=BRIDGE, kind="bridge")
        try:
            with serving(lab, [*bound, *agent_command(lab, config), "--detach-on-exit"]):
                yield
        finally:
            ip.link("del", ifname=BRIDGE)
    assert left_behind(lab) == []


def block_command(lab: Lab, prefix: str) -> list[str]:
    return command_line("block", prefix, "--edge", lab.name, "--for", "1m")


def test_a_member_of_the_group_operates(lab: Lab, served: None) -> None:
    done = run(lab, [*as_nobody(MEMBERS), *block_command(lab, "10.99.0.1"), "--json"])
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True), done.stderr
    entry = json.loads((lab.directory / "state" / lab.name / "journal.jsonl").read_text().splitlines()[-1])
    assert "nobody" in json.dumps(entry)
    assert "cdnctl block 10.99.0.1" in json.dumps(entry)


def test_a_viewer_watches_and_changes_nothing(lab: Lab, served: None) -> None:
    seen = run(lab, [*as_nobody(VIEWERS), *command_line("status", "--edge", lab.name, "--json")])
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout)["edge"] == lab.name
    done = run(lab, [*as_nobody(VIEWERS), *block_command(lab, "10.99.0.2")])
    assert done.returncode == 1
    assert "may only watch" in done.stderr
    assert sudo_line_in(done.stderr)
    assert "10.99.0.2" not in {block.prefix for block in frame(lab).blocks}


def test_anybody_else_gets_the_very_line_that_works(lab: Lab, served: None) -> None:
    done = run(lab, [*as_nobody(), *block_command(lab, "10.99.0.3")])
    assert done.returncode == 1
    assert "10.99.0.3" not in {block.prefix for block in frame(lab).blocks}
    line = sudo_line_in(done.stderr)
    again = subprocess.run(["env", *line[1:]], capture_output=True, text=True, timeout=20, check=False)
    assert again.returncode == 0, again.stderr
    wait_for("the block", 2, lambda: "10.99.0.3" in {block.prefix for block in frame(lab).blocks})


# --- what it withstands ----------------------------------------------------------------------------


def last_words(path: Path, data: bytes) -> str:
    """What the agent says to this before it hangs up."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(8)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                said += part
    *_, (_, body) = _messages(said)
    message = protocol.decode_down(body)
    assert isinstance(message, protocol.Refused)
    return message.text


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length = int.from_bytes(data[: protocol.HEADER], "big")
        yield length, data[protocol.HEADER : protocol.HEADER + length]
        data = data[protocol.HEADER + length :]


def test_garbage_on_the_socket_ends_only_its_own_connection(lab: Lab, served: None) -> None:
    path, before = paths.socket_path(lab.name), frame(lab)
    for garbage, words in {
        b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n": "bytes; from 1 to",
        b"\xff\xff\xff\xff" + bytes(64): "bytes; from 1 to",
        bytes(64): "0 bytes",
        b"\0\0\0\x10" + os.urandom(8) + b"\xc1" * 8: "cannot be read",
        protocol.encode(protocol.ClientHello(version=99)): "speaks protocol",
        protocol.encode(protocol.Refused(text="you")): "must be a hello",
    }.items():
        assert words in last_words(path, garbage), garbage
    now = wait_for("frames go on", 3, lambda: (f := frame(lab)).seq > before.seq + 1 and f)
    assert now.agent_pid == before.agent_pid
    wait_for("nobody is taken for a watcher", 3, lambda: not frame(lab).watchers)


def test_an_interface_without_native_xdp_makes_all_generic_with_a_warning(lab: Lab, served: None) -> None:
    modes = {interface.name: interface.mode for interface in frame(lab).interfaces}
    assert modes == dict.fromkeys((*lab.topology.edge_links, BRIDGE), "generic")
    said = (lab.directory / "own-agent.log").read_text()
    assert f"{BRIDGE} cannot do native XDP" in said
    assert f"cannot leave by {BRIDGE}" in said
