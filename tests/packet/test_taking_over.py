"""What an agent finds at its start, and what it leaves when that fails: upgrades, kills, refusals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import netbox
import pytest
from netbox import forwarding
from test_attachment import load_stranger

from cdnctl import config, paths
from cdnctl.agent import edge, process
from cdnctl.datapath import attach, build, kernel, panic, program
from cdnctl.datapath.program import Program
from cdnctl.datapath.standing import Standing, standing
from cdnctl.datapath.tables import Tables
from cdnctl.engine.engine import Engine
from cdnctl.errors import CdnctlError
from cdnctl.lab import netns

TEXT = """
[edge]
name = "{name}"
interfaces = [{interfaces}]
snat = ["203.0.113.10", "203.0.113.11"]
snat_ports = [40000, 41023]

[limits]
flows = 4096
half_open = 1024
block_entries = 4096
endpoints = 4

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:80"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 80
"""
NAMES = ("one", "two", "three")
EDGE = netbox.name("-life")
Start = Callable[..., Engine]


@pytest.fixture
def devices(
    inside: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, int]]:
    """Three interfaces with forwarding off, and a state of our own."""
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path / "state"))
    with netns.netlink(netbox.name()) as ip:
        for name in NAMES:
            ip.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}-far"})
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
            forwarding(name, on=False)
        yield {name: ip.link_lookup(ifname=name)[0] for name in NAMES}
        for name in NAMES:
            ip.link("del", index=ip.link_lookup(ifname=name)[0])
    Program(EDGE).remove()


@pytest.fixture
def start(devices: dict[str, int]) -> Iterator[Start]:
    """Starts an agent's engine; each is the only one and the one before was killed."""
    started: list[Engine] = []

    def begin(*interfaces: str, **changed: str) -> Engine:
        for engine in started:
            engine.close()
        engine = Engine(configured(*interfaces, **changed))
        engine.start()
        started[:] = [engine]
        return engine

    yield begin
    for engine in started:
        engine.close()


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on the agent comes with another program."""

    def installed() -> None:
        text = build.source()
        monkeypatch.setattr(build, "source", lambda: text + "\n/* a later version */\n")

    return installed


@pytest.fixture
def stranger(devices: dict[str, int]) -> Iterator[int]:
    """Somebody else's program on the last interface."""
    fd = load_stranger()
    kernel.xdp_attach(devices["three"], fd, kernel.XDP_FLAGS_DRV_MODE)
    yield fd
    os.close(fd)


def configured(*interfaces: str, old: str = "", new: str = "") -> config.Config:
    listed = ", ".join(f'"{name}"' for name in interfaces)
    return config.parse(TEXT.format(name=EDGE, interfaces=listed).replace(old, new), Path("t"))


def programs(devices: dict[str, int]) -> list[int]:
    """The id of what is on each interface."""
    return [kernel.xdp_program_id(index) for index in devices.values()]


def forwarded() -> list[bool]:
    """Where forwarding is on."""
    conf = Path("/proc/sys/net/ipv4/conf")
    return [(conf / name / "forwarding").read_text().strip() == "1" for name in NAMES]


def pinned() -> int:
    """The id of the edge's pinned program."""
    fd = kernel.obj_get(paths.tables_dir(EDGE) / build.PROGRAM)
    try:
        return kernel.program_id(fd)
    finally:
        os.close(fd)


def told(engine: Engine) -> str:
    return "\n".join(event.text for event in engine.frame().events)


class Killed(BaseException):
    """kill -9 at this very point: nothing is cleaned up."""


def killed(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize(
    "moment", [pytest.param("loaded", marks=pytest.mark.soak), "attached", "half renamed"]
)
def test_a_kill_during_an_upgrade_leaves_what_can_be_started(
    devices: dict[str, int], start: Start, upgrade: Callable[[], None], moment: str
) -> None:
    seed = start("one", "two").tables.settings.seed
    before = programs(devices)
    upgrade()
    dying = Program(EDGE)
    assert dying.prepare(configured("one", "two"))
    if moment != "loaded":
        fd = dying.open()
        attach.attach_all(("one", "two"), fd, "auto")
        os.close(fd)
    if moment == "half renamed":
        (dying.current / "samples").rename(dying.pins / "samples")
    assert len({*programs(devices)[:2]}) == 1

    engine = start("one", "two")
    now = programs(devices)
    assert now == [pinned(), pinned(), 0]
    assert now[0] != before[0]
    assert engine.tables.settings.seed == seed, "the same maps"
    assert not (paths.tables_dir(EDGE) / build.NEXT).exists()
    assert not Program(EDGE).prepare(configured("one", "two")), "nothing is left to do"
    panic.detach(EDGE)
    assert programs(devices) == [0, 0, 0]


def test_after_a_kill_the_older_version_can_come_back(
    devices: dict[str, int], start: Start, upgrade: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start("one", "two")
    with monkeypatch.context() as later:
        text = build.source()
        later.setattr(build, "source", lambda: text + "\n/* a later version */\n")
        dying = Program(EDGE)
        dying.prepare(configured("one", "two"))
        fd = dying.open()
        attach.attach("one", fd, "auto")
        os.close(fd)
    start("one", "two")
    assert programs(devices) == [pinned(), pinned(), 0]


@pytest.mark.parametrize("remedy", ["start", "detach"])
def test_a_kill_during_the_first_start(devices: dict[str, int], start: Start, remedy: str) -> None:
    dying = Program(EDGE)
    dying.prepare(configured("one", "two"))
    fd = dying.open()
    attach.attach("one", fd, "auto")
    os.close(fd)
    if remedy == "start":
        start("one", "two")
        assert programs(devices) == [pinned(), pinned(), 0]
    else:
        panic.detach(EDGE)
        assert programs(devices) == [0, 0, 0]
        assert not paths.pin_dir(EDGE).exists()


def test_half_made_pins_are_made_anew(devices: dict[str, int], start: Start) -> None:
    """Killed after the maps and the program were pinned, before it was noted of what they are."""
    dying = Program(EDGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cdnctl.datapath.program._note", killed)
        patch.setattr(dying, "remove", lambda: None)
        with pytest.raises(Killed):
            dying.prepare(configured("one", old="4096", new="8192"))
    assert list(paths.pin_dir(EDGE).glob(f"*/{build.NEXT}/{build.PROGRAM}"))
    assert not dying.exists()
    start("one")
    assert programs(devices) == [pinned(), 0, 0]


def test_an_upgrade_that_meets_a_stranger_changes_nothing(
    devices: dict[str, int], start: Start, upgrade: Callable[[], None], stranger: int
) -> None:
    start("one", "two")
    before, on = programs(devices), forwarded()
    upgrade()
    with pytest.raises(CdnctlError, match="'stranger'"):
        start("one", "three", "two")
    assert programs(devices) == before
    assert forwarded() == on == [True, True, False]
    start("one", "two")
    assert programs(devices)[:2] == [pinned(), pinned()] != before[:2]


def test_an_upgrade_that_fails_on_the_way_is_taken_back_everywhere(
    devices: dict[str, int],
    start: Start,
    upgrade: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start("one", "three")
    before = programs(devices)
    upgrade()
    real = kernel.xdp_attach

    def failing(ifindex: int, *arguments: object, **named: object) -> None:
        if ifindex == devices["three"]:
            raise OSError(12, "Cannot allocate memory")
        real(ifindex, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(kernel, "xdp_attach", failing)
        with pytest.raises(CdnctlError, match="cannot attach"):
            start("one", "two", "three")
    assert programs(devices) == before == [pinned(), 0, pinned()]
    assert forwarded() == [True, False, True]
    assert not (paths.tables_dir(EDGE) / build.NEXT).exists()


def test_a_first_start_that_fails_leaves_nothing(
    devices: dict[str, int], start: Start, stranger: int
) -> None:
    with pytest.raises(CdnctlError, match="'stranger'"):
        start("one", "three")
    assert programs(devices)[:2] == [0, 0]
    assert forwarded() == [False] * 3
    assert not paths.pin_dir(EDGE).exists()


def test_an_interface_taken_out_of_the_configuration_is_let_go(devices: dict[str, int], start: Start) -> None:
    start("one", "two")
    assert forwarded() == [True, True, False]
    engine = start("one")
    assert programs(devices) == [pinned(), 0, 0]
    assert forwarded() == [True, False, False]
    assert "detached from two" in told(engine)


def test_another_mode_is_put_into_force(devices: dict[str, int], start: Start) -> None:
    generic = {"old": "[limits]", "new": 'attach = "generic"\n[limits]'}
    start("one", **generic)
    assert attach.mode_of(devices["one"]) == "generic"
    engine = start("one", old="[limits]", new='attach = "native"\n[limits]')
    assert attach.mode_of(devices["one"]) == "native"
    assert "one was attached in generic mode: now native" in told(engine)
    start("one", **generic)
    assert attach.mode_of(devices["one"]) == "generic"


@pytest.mark.parametrize("flat", [False, True], ids=["other structs", "before there were links"])
def test_tables_of_another_version_are_refused_with_a_remedy(
    devices: dict[str, int], start: Start, monkeypatch: pytest.MonkeyPatch, flat: bool
) -> None:
    """Live flows would be read as something else."""
    start("one")
    before, root = programs(devices), paths.pin_dir(EDGE)
    if flat:
        home = paths.tables_dir(EDGE).resolve()
        for pin in list(home.iterdir()):
            pin.rename(root / pin.name)
        home.rmdir()
        (root / paths.CURRENT).unlink()
    with monkeypatch.context() as later:
        later.setattr("cdnctl.datapath.program._definitions", lambda: bytes([7] * 32))
        with pytest.raises(CdnctlError, match="another version of cdnctl") as refused:
            start("one")
        inside = f"nsenter --net={netns.path(netbox.name())} "
        assert refused.value.remedy.endswith(f"{inside}cdnctl detach --edge {EDGE} --stop --yes")
        assert programs(devices) == before
        assert forwarded() == [True, False, False]
        # which had not all the tables of this one
        (paths.tables_dir(EDGE) / "datagrams").unlink()
        assert panic.live_flows(EDGE) == "an unknown number of"
        assert "detached from one" in panic.detach(EDGE)
        assert programs(devices) == [0, 0, 0]
        assert not root.exists()
        start("one")
    assert programs(devices)[0] not in (0, *before)


def test_check_says_what_a_reload_would_make_anew(
    devices: dict[str, int], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert standing(configured("one")) is None, "nothing is pinned"
    start("one")
    assert standing(configured("one", "two")) == Standing("nothing"), "interfaces are no part of tables"
    for old, new, key in (
        ("flows = 4096", "flows = 8192", "limits.flows is 8192, was 4096"),
        ("half_open = 1024", "half_open = 1536", "limits.half_open is 1536, was 1024"),
        ("block_entries = 4096", "block_entries = 2048", "limits.block_entries is 2048, was 4096"),
        ("endpoints = 4", "endpoints = 5", "limits.endpoints is 5, was 4"),
        ("41023]", "42047]", "edge.snat_ports is [40000, 42047], was [40000, 41023]"),
        ('"203.0.113.11"]', '"203.0.113.12"]', "edge.snat is 203.0.113.10, 203.0.113.12, was 203.0.113.10, "),
    ):
        found = standing(configured("one", old=old, new=new))
        assert found
        assert found.remade == "tables"
        assert [each.startswith(key) for each in found.keys] == [True]
        assert Program(EDGE).lacks(configured("one", old=old, new=new)) == "tables"
    text = build.source()
    with monkeypatch.context() as later:
        later.setattr(build, "source", lambda: text + "\n/* a later version */\n")
        assert standing(configured("one")) == Standing("program")
    monkeypatch.setattr("cdnctl.datapath.program._definitions", lambda: bytes([7] * 32))
    found = standing(configured("one"))
    assert found
    assert found.remade == "all"
    assert found.detach.endswith(f"cdnctl detach --edge {EDGE} --stop --yes")


def test_comments_make_no_other_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def of(old: str = "", new: str = "") -> bytes:
        for name in ("abi.h", "maps.h"):
            (tmp_path / name).write_text((paths.bpf_dir() / name).read_text().replace(old, new, 1))
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(program, "bpf_dir", lambda: tmp_path)
            return program._definitions()

    assert (
        of()
        == of("enum mode_flag {", "/* a word,\n * and more */ enum mode_flag\n\n{")
        == program._definitions()
    )
    assert of("MAX_CDNS 16", "MAX_CDNS 17") != of()


def test_panic_detach_takes_all_back(devices: dict[str, int], start: Start) -> None:
    start("one", "two").reader.close()
    assert "detached from" in panic.detach(EDGE)
    assert programs(devices) == [0, 0, 0]
    assert forwarded() == [False] * 3
    assert not paths.pin_dir(EDGE).exists()
    assert not paths.forwarding_path(EDGE).exists()


def test_panic_detach_from_elsewhere_leaves_the_pins(devices: dict[str, int], start: Start) -> None:
    start("one")
    elsewhere = netbox.name("-else")
    netns.create(elsewhere)
    try:
        with netns.entered(elsewhere), pytest.raises(CdnctlError, match="attached to nothing") as refused:
            panic.detach(EDGE)
    finally:
        netns.remove(elsewhere)
    inside = f"nsenter --net={netns.path(netbox.name())} "
    assert refused.value.remedy == f"{inside}cdnctl detach --edge {EDGE} --stop --yes"
    assert programs(devices) == [pinned(), 0, 0]
    assert forwarded() == [True, False, False]


def test_an_agent_notes_the_namespace_that_it_lives_in(devices: dict[str, int]) -> None:
    paths.run_dir().mkdir()
    process.note_start(EDGE, Path("/srv/edge.toml"))
    assert edge.start_of(EDGE) == edge.Start("/srv/edge.toml", netbox.name())


def test_tables_give_their_descriptors_back(devices: dict[str, int], start: Start) -> None:
    start("one")

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for _ in range(20):
        Tables(paths.tables_dir(EDGE))
        panic.live_flows(EDGE)
    assert open_files() == before
