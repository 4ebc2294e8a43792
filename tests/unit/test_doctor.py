"""`cdnctl doctor`: every fault that a box can have is found, with a remedy, and nothing else is."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_double import ServedDouble
from msgspec.structs import replace
from test_agent_client import listener

from cdnctl import paths
from cdnctl.agent import process
from cdnctl.cli import main, place
from cdnctl.cli.place import Place
from cdnctl.config import Config, parse
from cdnctl.datapath import ethtool, inspect
from cdnctl.datapath.box import Box, Interface, Ownership, Peer, Socket, Way
from cdnctl.datapath.standing import Standing
from cdnctl.engine.doctor import Finding, Level, judge

TEXT = """
[edge]
name = "ams1"
interfaces = ["eth0", "eth1"]
snat = ["203.0.113.10", "2001:db8:80::10"]
snat_ports = [10000, 30000]

[limits]
flows = 10_000
endpoints = 4

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443", "[2001:db8:c::10]:443"]
mode = "MODE"

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443

[[service]]
name = "www6"
vip = "2001:db8:80::80"
port = 443
"""
NOBODY = 65534


def config(mode: str = "nat") -> Config:
    return parse(TEXT.replace("MODE", mode), Path("test.toml"))


def interface(name: str, **fields: object) -> Interface:
    sound: dict[str, object] = {
        "ifindex": 2,
        "kind": "",
        "driver": "virtio_net",
        "xdp": "native",
        "program": "edge",
        "ours": True,
        "lro": False,
        "strips_tags": False,
        "forwarding4": True,
        "forwarding6": True,
        "networks": ("192.0.2.1/24",),
    }
    return Interface(name=name, **{**sound, **fields})  # type: ignore[arg-type]


def way(address: str, **fields: object) -> Way:
    sound: dict[str, object] = {
        "route": "unicast",
        "interface": "eth1",
        "gateway": "192.0.2.254",
        "neighbour": "resolved",
        "managed": True,
    }
    return Way(address=address, **{**sound, **fields})  # type: ignore[arg-type]


SOUND = Box(
    kernel=(6, 1),
    release="6.1.0",
    available_bytes=4 << 30,
    groups=("cdnctl", "cdnctl-view"),
    sockets=(
        Socket(path="/run/cdnctl/ams1.sock", group="cdnctl", mode=0o660),
        Socket(path="/run/cdnctl/ams1.view.sock", group="cdnctl-view", mode=0o660),
    ),
    loaded=True,
    interfaces={name: interface(name) for name in ("eth0", "eth1")},
    ways={address: way(address) for address in ("198.51.100.10", "2001:db8:c::10")},
    owners={
        address: Ownership(address=address, local=True)
        for address in ("203.0.113.80", "2001:db8:80::80", "203.0.113.10", "2001:db8:80::10")
    },
)


def with_interface(**fields: object) -> Callable[[Box], Box]:
    """eth0 is otherwise."""
    return lambda box: replace(box, interfaces={**box.interfaces, "eth0": interface("eth0", **fields)})


def with_way(**fields: object) -> Callable[[Box], Box]:
    return lambda box: replace(box, ways={**box.ways, "198.51.100.10": way("198.51.100.10", **fields)})


def with_owner(address: str = "203.0.113.80", **fields: object) -> Callable[[Box], Box]:
    owner = Ownership(address=address, **fields)  # type: ignore[arg-type]
    return lambda box: replace(box, owners={**box.owners, address: owner})


def with_peer(**fields: object) -> Callable[[Box], Box]:
    sound: dict[str, object] = {"name": "far", "where": "wire", "native_xdp": True, "gro": True}
    return with_interface(kind="veth", peer=Peer(**{**sound, **fields}))  # type: ignore[arg-type]


def box(**fields: object) -> Callable[[Box], Box]:
    return lambda sound: replace(sound, **fields)


FAULTS: list[tuple[str, Callable[[Box], Box], Level, str, str, str]] = [
    ("an old kernel", box(kernel=(5, 15), release="5.15"), "fail", "kernel", "5.16", "upgrade"),
    ("a fairly old kernel", box(kernel=(5, 17), release="5.17"), "warn", "kernel", "large MTU", "upgrade"),
    ("no BTF", box(btf=False), "warn", "BTF", "none", "CONFIG_DEBUG_INFO_BTF"),
    ("no bpffs", box(bpffs=False), "warn", "bpffs", "not mounted", "mount -t bpf bpf /sys/fs/bpf"),
    ("no BCC", box(bcc=False), "fail", "BCC", "missing", "apt-get install python3-bpfcc"),
    ("no libbpf", box(libbpf=False), "fail", "libbpf", "missing", "apt-get install libbpf1"),
    ("no headers", box(headers=False), "fail", "headers", "none", "apt-get install linux-libc-dev"),
    (
        "no memory", box(loaded=False, available_bytes=1 << 20), "fail", "memory", "1 MB are free",
        "smaller [limits]",
    ),
    (
        "little memory", box(loaded=False, available_bytes=200 << 20), "warn", "memory", "of the 210 MB",
        "[limits]",
    ),
    (
        "no group", box(groups=("cdnctl-view",)), "warn", "group cdnctl", "only root",
        "groupadd --system cdnctl",
    ),
    (
        "a socket of an earlier time",
        box(sockets=(Socket(path="/run/cdnctl/ams1.view.sock", group="root", mode=0o600),)),
        "warn", "socket", "group root, mode 0600", "chgrp cdnctl-view /run/cdnctl/ams1.view.sock",
    ),
    ("no agent", box(agent=False), "warn", "agent", "goes on", "cdnctl attach --edge ams1"),
    (
        "an agent that hangs", box(agent=False, silence="end it: kill 7"), "fail", "agent", "does not answer",
        "end it: kill 7",
    ),
    (
        "nothing there yet", box(agent=False, loaded=False), "warn", "agent", "none answers",
        "cdnctl attach -c ",
    ),
    ("another version", box(current=False), "warn", "data path", "another version", "no flow is cut"),
    (
        "other tables wanted", box(standing=Standing("tables", ("limits.flows is 2048, was 4096",))),
        "warn", "data path", "moves the flows into them, for these differ: limits.flows is 2048, was 4096",
        "cdnctl reload --edge ams1",
    ),
    (
        "tables of another version", box(standing=Standing("all", (), "cdnctl detach --edge ams1 --yes")),
        "fail", "data path", "cuts all flows", "cdnctl detach --edge ams1 --yes, then cdnctl attach",
    ),
    ("disarmed", box(switches=("disarmed",)), "warn", "data path", "nothing is blocked", "cdnctl arm"),
    ("bypassed", box(switches=("bypass",)), "warn", "data path", "untouched", "cdnctl arm"),
    ("observing", box(switches=("observe",)), "warn", "data path", "only observes", "cdnctl mode active"),
    (
        "a door that nobody wants", box(invited_only=True), "warn", "data path",
        'though edge.snat_from is "anyone"', "cdnctl reload --edge ams1",
    ),
    ("no interface", with_interface(ifindex=0), "fail", "eth0", "does not exist", "[edge] interfaces"),
    ("down", with_interface(up=False), "fail", "eth0", "is down", "ip link set dev eth0 up"),
    ("no carrier", with_interface(carrier=False), "fail", "eth0", "carrier", "cable"),
    (
        "a stranger's program", with_interface(program="xdp_drop", ours=False), "fail", "eth0",
        "'xdp_drop' of somebody else's", "ip link set dev eth0 xdp off",
    ),
    (
        "another edge's", with_interface(ours=False, holder="lon1"), "fail", "eth0", "is held by edge lon1",
        "cdnctl --edge lon1 detach",
    ),
    ("generic", with_interface(xdp="generic"), "warn", "eth0", "several times the CPU", "ethtool -i eth0"),
    (
        "not attached", with_interface(xdp="detached", program="", ours=None), "fail", "eth0",
        "nothing is attached", "cdnctl attach",
    ),
    ("LRO", with_interface(lro=True), "fail", "eth0", "LRO is on", "ethtool -K eth0 lro off"),
    (
        "IPv4 forwarding off", with_interface(forwarding4=False), "fail", "eth0", "no next hop",
        "sysctl -w net.ipv4.conf.eth0.forwarding=1",
    ),
    (
        "IPv6 forwarding off", with_interface(forwarding6=False), "fail", "eth0", "no next hop",
        "sysctl -w net.ipv6.conf.eth0.forwarding=1",
    ),
    ("no IPv6", with_interface(forwarding6=None), "fail", "eth0", "IPv6 is off on it", "disable_ipv6=0"),
    (
        "a strict filter", with_interface(rp_filter=1), "warn", "eth0", "strict reverse path filter",
        "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
    ),
    ("a small MTU", with_interface(mtu=1000), "fail", "eth0", "IPv6 needs 1280", "mtu 1280"),
    (
        "frames vanish", with_peer(native_xdp=False, gro=False), "fail", "eth0 peer", "vanish",
        "nsenter --net=/run/netns/wire ethtool -K far gro on",
    ),
    ("frames lie", with_peer(native_xdp=False), "warn", "eth0 peer", "lie for seconds", "native XDP program"),
    ("a peer is down", with_peer(up=False), "fail", "eth0 peer", "far is down", "ip link set dev far up"),
    (
        "a peer drops", with_peer(rx_dropped=12345), "warn", "eth0 peer", "dropped 12,345 frames",
        "ip -s link show dev far",
    ),
    (
        "checksums are left", with_peer(checksums_left=True, where=""), "warn", "eth0 peer", "sent on broken",
        "ethtool -K far tx off",
    ),
    ("a peer of another MTU", with_peer(mtu=9000), "warn", "eth0 peer", "MTU 9000", "mtu 1500"),
    (
        "no route", with_way(route="none"), "fail", "to 198.51.100.10", "no route",
        "ip route add 198.51.100.10/32",
    ),
    ("ours", with_way(route="local"), "fail", "to 198.51.100.10", "this box's own", "endpoints"),
    (
        "a black hole", with_way(route="other"), "fail", "to 198.51.100.10", "throws",
        "ip route get 198.51.100.10",
    ),
    (
        "out of another interface", with_way(interface="eth9"), "fail", "to 198.51.100.10",
        "by eth9 via 192.0.2.254, which is not in [edge] interfaces", "add eth9",
    ),
    (
        "no answer", with_way(neighbour="failed"), "fail", "to 198.51.100.10", "does not answer",
        "ip neigh show",
    ),
    (
        "not resolved", with_way(neighbour="missing"), "fail", "to 198.51.100.10", "not known",
        "ping -c 1 192.0.2.254",
    ),
    ("not kept", with_way(managed=False), "warn", "to 198.51.100.10", "nobody keeps it so", "log"),
    (
        "an MTU that nobody sees", with_way(unlocked_mtu=1400, entry="198.51.100.0/24 dev eth1"), "warn",
        "to 198.51.100.10", "mtu 1400 is not locked",
        "ip route change 198.51.100.0/24 dev eth1 mtu lock 1400",
    ),
    (
        "a VIP that is the box's address", with_owner(local=True, carrier="eth0"), "warn", "for 203.0.113.80",
        "management prefixes get through; SSH to it from elsewhere is cut, for eth0 has it",
        "[edge] management",
    ),
    (
        "nobody answers for it", with_owner(on_link="eth0"), "fail", "for 203.0.113.80",
        "nobody answers ARP", "ip addr add 203.0.113.80/32 dev lo",
    ),
    (
        "nor over IPv6", with_owner("2001:db8:80::10", on_link="eth0"), "fail", "for 2001:db8:80::10",
        "neighbour discovery", "ip addr add 2001:db8:80::10/128 dev lo",
    ),
    (
        "ports clash",
        box(port_clashes=(("203.0.113.10", "the host's own address", "snat_ports = [1024, 9999]"),)),
        "fail", "SNAT ports", "203.0.113.10: the host's own", "set snat_ports = [1024, 9999]",
    ),
    ("connections are tracked", box(conntrack=True), "warn", "SNAT ports", "masquerade", "10000-30000"),
]  # fmt: skip


def faults(findings: list[Finding]) -> list[Finding]:
    return [each for each in findings if each.level != "ok"]


def test_a_sound_box_has_no_fault() -> None:
    findings = judge(SOUND, config())
    assert faults(findings) == []
    said = {each.what: each.text for each in findings}
    assert said["eth0"] == "XDP native, MTU 1500, IPv4 forwarding is on, IPv6 forwarding is on"
    assert said["to 198.51.100.10"].startswith("by eth1 via 192.0.2.254")
    assert {"kernel", "BTF", "bpffs", "compiler", "memory", "agent", "SNAT ports"} <= said.keys()


@pytest.mark.parametrize(
    ("what", "harm", "level", "where", "text", "remedy"), FAULTS, ids=[f[0] for f in FAULTS]
)
def test_a_fault_is_found_and_nothing_else(
    what: str, harm: Callable[[Box], Box], level: Level, where: str, text: str, remedy: str
) -> None:
    found = faults(judge(harm(SOUND), config()))
    assert [(each.level, each.what) for each in found] == [(level, where)], what
    assert text in found[0].text
    assert remedy in found[0].remedy


def test_a_door_that_is_open_though_it_should_be_shut_is_a_fault() -> None:
    edge = replace(config().edge, snat_from="providers")
    wanted = replace(config(), edge=edge)
    (fault,) = faults(judge(SOUND, wanted))
    assert (fault.level, fault.what) == ("warn", "data path")
    assert "yet anybody may talk to SNAT addresses" in fault.text
    assert "cdnctl status --edge ams1" in fault.remedy
    assert faults(judge(replace(SOUND, invited_only=True), wanted)) == []
    down = replace(SOUND, loaded=False, agent=False)
    assert [each.what for each in faults(judge(down, wanted))] == ["agent"], (
        "nothing is loaded that could be shut"
    )


def test_every_fault_has_a_remedy() -> None:
    for _, harm, *_ in FAULTS:
        for each in faults(judge(harm(SOUND), config())):
            assert each.remedy, each


def test_tags_that_hardware_takes_off_matter_where_there_are_vlans() -> None:
    plain = with_interface(strips_tags=True)(SOUND)
    assert faults(judge(plain, config())) == []
    below = interface("ens1", strips_tags=True)
    tagged = interface("eth0", kind="vlan", below="ens1", xdp="detached", program="", ours=None)
    found = faults(
        judge(replace(SOUND, interfaces={**SOUND.interfaces, "eth0": tagged, "ens1": below}), config())
    )
    assert [(each.what, each.remedy) for each in found] == [("ens1", "ethtool -K ens1 rxvlan off")]


def test_a_vlan_device_is_attached_by_the_one_below() -> None:
    below = interface("ens1", xdp="detached", program="", ours=None)
    tagged = interface("eth0", kind="vlan", below="ens1", xdp="detached", program="", ours=None)
    found = faults(
        judge(replace(SOUND, interfaces={**SOUND.interfaces, "eth0": tagged, "ens1": below}), config())
    )
    assert [each.what for each in found] == ["ens1"]


def test_a_name_with_a_dot_is_one_word_to_sysctl() -> None:
    text = TEXT.replace("MODE", "nat").replace('"eth0"', '"eth0.100"')
    off = interface("eth0.100", forwarding4=False)
    found = faults(
        judge(replace(SOUND, interfaces={"eth0.100": off, "eth1": interface("eth1")}), parse(text, Path("t")))
    )
    assert found[0].remedy == "sysctl -w net.ipv4.conf.eth0/100.forwarding=1"


def test_without_an_agent_forwarding_and_neighbours_are_still_to_come() -> None:
    idle = {"xdp": "detached", "program": "", "ours": None, "forwarding4": False, "forwarding6": False}
    before = replace(
        SOUND,
        agent=False,
        loaded=False,
        interfaces={name: interface(name, **idle) for name in ("eth0", "eth1")},
        ways={address: way(address, neighbour="missing", managed=False) for address in SOUND.ways},
    )
    assert {each.level for each in judge(before, config())} == {"ok", "warn"}


@pytest.mark.parametrize(
    ("mode", "mtu", "tight"), [("ipip", 1300, False), ("gue", 1300, True), ("nat", 1300, False)]
)
def test_a_tunnel_needs_room(mode: str, mtu: int, tight: bool) -> None:
    narrow = replace(SOUND, interfaces={**SOUND.interfaces, "eth1": interface("eth1", mtu=mtu)})
    found = [each for each in judge(narrow, config(mode)) if "tunnel" in each.text]
    assert any(each.what == "to 198.51.100.10" for each in found) is tight


def test_what_is_left_to_the_host_is_its_own() -> None:
    """Of mode `pass` the endpoint does not matter, and the VIP must be the host's."""
    strange = replace(SOUND, ways={address: way(address, route="local") for address in SOUND.ways})
    assert faults(judge(strange, config("pass"))) == []
    assert faults(judge(with_owner(local=True, carrier="eth0")(strange), config("pass"))) == []
    found = faults(judge(with_owner()(strange), config("pass")))
    assert [(each.level, each.what) for each in found] == [("fail", "for 203.0.113.80")]
    assert found[0].remedy == "ip addr add 203.0.113.80/32 dev lo"


def test_an_mtu_that_is_the_links_needs_no_lock() -> None:
    assert faults(judge(with_way(unlocked_mtu=1500, entry="default dev eth1")(SOUND), config())) == []


def test_without_a_configuration_the_box_is_looked_at() -> None:
    findings = judge(SOUND, None)
    assert {each.what for each in findings} == {
        "kernel",
        "BTF",
        "bpffs",
        "compiler",
        "group cdnctl",
        "group cdnctl-view",
    }


def test_what_others_may_see_is_said_without_root() -> None:
    plain = replace(
        SOUND,
        root=False,
        interfaces={n: interface(n, ours=None, program="program 7") for n in ("eth0", "eth1")},
    )
    assert {each.level for each in judge(plain, config()) if each.what == "eth0"} == {"unknown", "ok"}


@pytest.mark.parametrize("where", ["ams", "/proc/77/ns/net"])
def test_what_mends_another_namespace_is_a_command_that_gets_there(where: str) -> None:
    """Once, and none is left that would act on the namespace of whoever asks."""
    acting = re.compile(r"\b(?:ip (?:link|addr|route|neigh) |sysctl -|ethtool -|ping -)")
    for _, harm, *_ in FAULTS:
        for each in faults(judge(replace(harm(SOUND), where=where), config())):
            for found in acting.finditer(each.remedy):
                assert re.search(r"\bnsenter --net=/\S+ $", each.remedy[: found.start()]), each.remedy
            assert not re.search(r"nsenter --net=\S+ nsenter", each.remedy)


def test_of_an_edge_that_lives_elsewhere_nothing_is_judged_by_what_is_here() -> None:
    plain = replace(SOUND, root=False, elsewhere="edge ams1 lives in ams", interfaces={}, ways={}, owners={})
    found = faults(judge(plain, config()))
    assert [(each.level, each.what) for each in found] == [("unknown", "network")]
    assert "lives in ams" in found[0].text
    assert found[0].remedy


# --- the command ---------------------------------------------------------------------------------------


@pytest.fixture
def configured(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration, and a box that is what a test says."""
    path = run_dir / "cdnctl.toml"
    path.write_text(TEXT.replace("MODE", "nat"))
    monkeypatch.setattr("cdnctl.cli.place.go_to", lambda *_: Place(attached=True))
    return path


def on(monkeypatch: pytest.MonkeyPatch, found: Box) -> None:
    monkeypatch.setattr(
        inspect,
        "look",
        lambda edge, config, *, agent, elsewhere: replace(
            found, agent=agent or found.agent, elsewhere=elsewhere
        ),
    )


def test_it_ends_with_0_when_nothing_fails(
    configured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, with_interface(rp_filter=1)(SOUND))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("edge ams1: 1 warn, ")
    at = next(number for number, line in enumerate(lines) if line.startswith("warn"))
    assert lines[at + 1].split() == shlex.split("sysctl -w net.ipv4.conf.eth0.rp_filter=2")


def test_it_ends_with_1_when_something_fails(
    configured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, replace(with_way(route="none")(SOUND), unseen=("the other end of eth0",)))
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["edge"], report["unseen"]) == (False, "ams1", ["the other end of eth0"])
    assert [each["what"] for each in report["findings"] if each["level"] == "fail"] == ["to 198.51.100.10"]
    assert main(["doctor"]) == 1
    assert "not looked at: the other end of eth0" in capsys.readouterr().out


def test_an_agent_that_hangs_is_named(
    configured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To attach would not help, for the hung one holds the lock."""
    monkeypatch.setattr("cdnctl.cli.doctor._AGENT_TIMEOUT_S", 0.1)
    on(monkeypatch, replace(SOUND, agent=False))
    with listener(paths.socket_path("ams1")):
        assert main(["doctor"]) == 1
    assert f"kill {os.getpid()} (kill -9" in " ".join(capsys.readouterr().out.split())


def test_a_configuration_that_is_wrong_is_a_fault_and_the_box_is_looked_at_all_the_same(
    configured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured.write_text(TEXT.replace("MODE", "carrier pigeon"))
    on(monkeypatch, SOUND)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "carrier pigeon" in out
    assert f"cdnctl check -c {configured}" in out
    assert "6.1.0" in out


def test_of_another_edge(
    configured: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, SOUND)
    assert main(["doctor", "--edge", "lon1"]) == 1
    assert "is that of edge ams1, not of lon1" in capsys.readouterr().out


def test_an_edge_is_looked_at_with_its_agents_own_file(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CDNCTL_CONFIG", str(run_dir / "of-nobody.toml"))
    monkeypatch.setattr("cdnctl.cli.place.go_to", lambda *_: Place(attached=True))
    on(monkeypatch, SOUND)
    own = run_dir / "elsewhere.toml"
    own.write_text(TEXT.replace("MODE", "nat"))
    process.note_start("ams1", own)
    assert main(["doctor", "--edge", "ams1"]) == 0
    assert f"{own} is in order" in capsys.readouterr().out
    monkeypatch.setenv("CDNCTL_EDGE", "ams1")
    assert main(["doctor"]) == 0
    assert main(["doctor", "-c", str(run_dir / "of-nobody.toml")]) == 1
    main(["check"])
    assert str(own) in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="root goes there")
def test_root_goes_where_the_last_agent_was(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []
    monkeypatch.setattr(place, "enter_netns", went.append)
    monkeypatch.setattr(place, "netns_name", lambda: "")
    monkeypatch.setattr(place.elsewhere, "NAMED", run_dir)
    note = run_dir / "ams1.start.json"
    assert place.go_to("ams1", None) == Place()
    note.write_text('{"config": "x.toml", "netns": "ams"}')
    gone = place.go_to("ams1", None)
    assert "network namespace ams, where edge ams1 was started, is gone" in gone.unseen
    assert not went
    (run_dir / "ams").touch()
    assert place.go_to("ams1", None) == Place(moved_to=run_dir / "ams")
    assert went == ["ams"]
    assert place.go_to("ams1", "lon").moved_to == run_dir / "lon"
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert "only root can look into" in place.go_to("ams1", None).unseen
    monkeypatch.setattr(place, "netns_name", lambda: "ams")
    assert place.go_to("ams1", None) == Place()


def test_this_very_box_can_be_looked_at(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    faults = {each["what"] for each in report["findings"] if each["level"] == "fail"}
    assert {"eth0", "eth1"} & faults, "there are no two such interfaces here with the program on them"
    assert "kernel" in {each["what"] for each in report["findings"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_without_root_it_says_what_it_could_not_look_at(served: ServedDouble) -> None:
    path = served.path.parent / "cdnctl.toml"
    path.write_text(TEXT.replace("MODE", "nat"))
    path.chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "cdnctl", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )
    assert done.returncode == 1, done.stderr
    assert "not looked at: pins, programs" in done.stdout
    assert "sudo" in done.stdout
    assert "Traceback" not in done.stderr


def test_loopback_is_asked_too() -> None:
    assert ethtool.driver("lo") in ("", "loopback")
    assert ethtool.gro("no-such-device") is None
    assert ethtool.lro("lo") in (True, False, None)
