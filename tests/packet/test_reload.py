"""The configuration read again under traffic: nothing that is served is without service at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import CDNS, SERVICES, VIP, Seen
from netbox import name as namespace
from netbox import netns
from reloaded import EDGE, NEW_CDN, NEW_SERVICE, OPERATOR, Edge, File, reachable
from segments import Flag, segment
from session import Session

from cdnctl import config
from cdnctl.datapath import abi, attach, build, kernel
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.flows import BEING_BOUND
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.moving import Move
from cdnctl.datapath.program import Program
from cdnctl.engine.engine import Engine
from cdnctl.engine.feeding import Feeding
from cdnctl.model import Detach, Drain, Reload, SetLimit, SetWeights

SHARED = ("www", "fast", "www6", "quic", "quic6")
"""All CDNs serve these."""
API = ("203.0.113.99", 80)
CUSTOMER = """
[[region]]
name = "eu"
prefixes = ["10.1.0.0/16"]

[[customer]]
name = "acme"
prefixes = ["10.1.0.0/24"]
mbit = 80
"""


@pytest.fixture
def edge(inside: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    """One that serves."""
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path / "state"))
    file = File(tmp_path / "cdnctl.toml")
    engine = Engine(config.load(file.path))
    with reachable():
        engine.start()
        edge = Edge(engine, file, inside)
        yield edge
        edge.close()
        engine.close(detach=True)
    Program(EDGE).remove()


@pytest.fixture
def watched(edge: Edge) -> Iterator[Callable[..., None]]:
    """From its call on, after every single write to a table, every service must take a new flow."""
    writes = ("put", "put_all", "delete", "delete_all")
    ports = iter(range(40000, 60000))
    patch = pytest.MonkeyPatch()
    looked = 0

    def look(*services: str) -> None:
        nonlocal looked
        looked += 1
        for service in services:
            session = Session(edge, service, port=next(ports))
            assert session.syn().verdict is Verdict.FORWARDED, service
            assert session.cdn in CDNS or session.cdn == "dorado"

    def watch(*services: str) -> None:
        def looking(write: Callable[..., object]) -> Callable[..., object]:
            def wrapped(table: Map, *arguments: object) -> object:
                done = write(table, *arguments)
                look(*services)
                return done

            return wrapped

        for name in writes:
            patch.setattr(Map, name, looking(getattr(Map, name)))

    yield watch
    patch.undo()
    assert looked > 20


def syn(edge: Edge, service: tuple[str, int], port: int = 50000) -> Seen:
    return edge.run(segment(("10.1.0.7", port), service, Flag.SYN))


def goes_on(session: Session) -> None:
    """Data both ways."""
    assert session.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK | Flag.PSH, payload=b"200").verdict is Verdict.REPLIED


def end(edge: Edge, *sessions: Session) -> None:
    """They are closed, and their ports have rested."""
    places = {
        abi.show_port(abi.FlowKey.from_buffer_copy(key).client_port): abi.Flow.from_buffer_copy(entry).slot
        for key, entry in edge.tables.established.items()
    }
    for session in sessions:
        session.close()
        index = places[session.client[1]]
        slot = edge.slot(index)
        slot.since_ns -= 120 * 10**9
        edge.put_slot(index, slot)
    while not edge.engine.sweep.step():
        pass


def no_packet_was_lost(edge: Edge) -> None:
    counted = {verdict: packets for verdict, packets, _ in edge.tables.counters.verdicts() if packets}
    assert not [verdict for verdict in counted if verdict >= abi.FIRST_DROP], counted


def dump(edge: Edge) -> dict[str, object]:
    """All that is in the tables, but for the look at what is over."""
    found: dict[str, object] = {}
    for path in edge.program.pins.iterdir():
        if path.is_file() and path.name not in (*build.PINNED, "sweeps", "census"):
            table = Map.pinned(path)
            per_cpu = table.info.type in (5, 6, 10)
            found[path.name] = dict(Map.pinned(path, per_cpu=per_cpu).items())
    return found


# --- the program ---------------------------------------------------------------------------------------


def test_a_new_program_takes_over_on_the_same_maps(edge: Edge) -> None:
    session, before = Session(edge, "www").open(), edge.programs()
    assert len(before) == 1
    for _ in range(5):
        outcome = edge.reloaded(program=True)
        assert outcome.text == "reloaded: the program anew and the same configuration"
        assert outcome.applied_monotonic_ns
        assert len(edge.programs()) == 1
        assert edge.programs() != before
        before = edge.programs()
        goes_on(session)
        Session(edge, "www6").open().close()
    no_packet_was_lost(edge)
    assert not (edge.program.pins / build.NEXT).exists()
    assert edge.program.lacks(edge.config) == "nothing"


def test_what_reads_the_program_follows_it(edge: Edge) -> None:
    edge.engine.frame()
    received, rounds = edge.engine.reader.received, edge.engine.sweep.rounds
    sweep = edge.engine.sweep
    edge.reloaded(program=True)
    for _ in range(200):
        Session(edge, "www").syn()
    frame = edge.engine.frame()
    assert edge.engine.sweep is not sweep
    assert edge.engine.sweep.rounds == rounds
    while not edge.engine.sweep.step():
        pass
    assert sum(sum(row) for row in edge.engine.sweep.open.values()) == 200, "its own sweep works"
    wait = 50
    while edge.engine.reader.received <= received + 100 and wait:
        wait -= 1
        asyncio.run(asyncio.sleep(0.02))
    assert edge.engine.reader.received > received + 100, "its samples arrive"
    assert frame.totals.new_flows_per_s > 0


@pytest.mark.soak
def test_an_edited_program_comes_with_a_reload(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    before, text = edge.programs(), build.source()
    monkeypatch.setattr(build, "source", lambda: text.replace("ANSWER_TTL 64", "ANSWER_TTL 63"))
    assert edge.reloaded().text == "reloaded: another program and the same configuration"
    assert edge.programs() != before
    assert edge.reloaded().text == "reloaded: the same configuration"


def test_a_program_that_does_not_compile_changes_nothing(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    session, before, held = Session(edge, "www").open(), edge.programs(), dump(edge)
    text = build.source()
    with monkeypatch.context() as broken:
        broken.setattr(build, "source", lambda: text + "\nint broken(")
        edge.file.add(NEW_SERVICE)
        outcome = edge.reload()
    assert not outcome.ok
    assert "error: expected" in outcome.text
    assert edge.programs() == before
    assert dump(edge) == held
    goes_on(session)
    assert edge.reloaded().changed == ["service api is new"]


def test_a_driver_that_refuses_the_program_keeps_the_old_one_everywhere(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, before, real = Session(edge, "www").open(), edge.programs(), kernel.xdp_attach
    edge.file.add(NEW_SERVICE)

    def failing(ifindex: int, *arguments: object, **named: object) -> None:
        if ifindex == edge.indexes["cdn3"]:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        real(ifindex, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(kernel, "xdp_attach", failing)
        outcome = edge.reload(program=True)
    assert not outcome.ok
    assert edge.programs() == before
    assert API[0] not in edge.layout.vips
    assert syn(edge, API).verdict is Verdict.PASSED, "not ours"
    goes_on(session)
    assert edge.program.lacks(edge.config) == "nothing"
    assert edge.reloaded(program=True).changed == ["service api is new"]
    assert syn(edge, API).verdict is Verdict.FORWARDED


# --- the configuration ---------------------------------------------------------------------------------


def test_everything_is_served_after_each_single_write(edge: Edge, watched: Callable[..., None]) -> None:
    session = Session(edge, "www").open()
    watched("www", "fast", "solo6", "duo")
    edge.file.join("dorado")
    edge.file.add(NEW_CDN + NEW_SERVICE + CUSTOMER)
    edge.file.replace("management", 'fragments = "drop"\nmanagement')
    assert edge.reloaded().changed == [
        "edge.fragments is drop, was follow",
        "region eu is new",
        "customer acme is new",
        "cdn dorado is new",
        "service api is new",
        *(f"service {each}: cdns has dorado now" for each in SHARED),
    ]
    goes_on(session)
    edge.file.text = File(edge.file.path).text  # and back
    assert len(edge.reloaded().changed or []) == 5 + len(SHARED)
    goes_on(session)


def test_what_is_new_serves_and_counts_from_nothing(edge: Edge) -> None:
    for _ in range(3):
        assert syn(edge, API).verdict is Verdict.PASSED
    edge.file.join("dorado")
    edge.file.add(NEW_CDN + NEW_SERVICE)
    edge.reloaded()
    seen = {Session(edge, "www").syn().verdict for _ in range(50)}
    assert seen == {Verdict.FORWARDED}
    assert edge.totals("dorado").new_flows > 0
    assert syn(edge, API).verdict is Verdict.FORWARDED
    frame = edge.engine.frame()
    assert [cdn.name for cdn in frame.cdns] == [*CDNS, "dorado"]
    assert next(each for each in frame.services if each.name == "api").new_flows_total == 1


def test_the_door_of_snat_addresses_goes_along_into_other_tables(edge: Edge) -> None:
    ranges = edge.file.path.parent / "ranges.txt"
    ranges.write_text("198.18.0.0/16\n2a00:6001::/32\n")
    edge.file.replace("management", 'snat_from = "providers"\nmanagement')
    edge.file.add(f'\n[[feed]]\nname = "ours"\nkind = "ranges"\nsource = "{ranges}"\n')
    planned = edge.reload(dry_run=True)
    assert "edge.snat_from is providers, was anyone" in planned.text
    said = edge.reloaded().warnings
    assert "anybody may talk to SNAT addresses, for feed ours has still to be read" in said
    feeding = Feeding(edge.engine)
    feeding.follow(edge.engine.config)
    asyncio.run(feeding.look())

    def ssh(source: str) -> Verdict:
        return edge.run(segment((source, 40_001), (edge.config.edge.snat[0], 22), Flag.SYN)).verdict

    guests, identity = edge.tables.invited(), edge.tables.identity
    assert [ssh(each) for each in ("45.1.2.3", "198.18.0.7")] == [Verdict.UNINVITED, Verdict.PASSED]
    session = Session(edge, "www").open()
    edge.file.replace("flows = 4096", "flows = 8192")
    edge.reloaded()
    assert edge.tables.identity != identity
    assert edge.tables.invited() == guests
    assert [ssh(each) for each in ("45.1.2.3", "198.18.0.7")] == [Verdict.UNINVITED, Verdict.PASSED]
    goes_on(session)
    edge.file.replace('snat_from = "providers"', 'snat_from = "anyone"')
    edge.reloaded()
    assert edge.tables.invited() == set()
    assert ssh("45.1.2.3") is Verdict.PASSED


def test_what_is_gone_takes_no_new_flow_and_keeps_the_live_ones(edge: Edge) -> None:
    old = Session(edge, "solo").open()
    edge.file.drop("service", "solo")
    edge.file.drop("service", "duo")
    edge.file.drop("service", "dns")
    outcome = edge.reloaded()
    assert outcome.changed == [f"service {each} is gone" for each in ("solo", "duo", "dns")]
    ends = abi.ends(*SERVICES["solo"])
    assert outcome.warnings == [
        f"service {ends}/tcp takes no new flows, and 1 flow of it goes on until it ends"
    ]
    assert syn(edge, SERVICES["solo"]).verdict is Verdict.NO_SERVICE
    goes_on(old)
    no_flow = Session(edge, "duo").up(Flag.ACK)
    assert no_flow.verdict is Verdict.RESET_CLIENT, "its VIP is still ours"
    for _ in range(3):
        edge.reloaded()
        goes_on(old)
    told = [event.text for event in edge.engine.frame().events]
    assert any("duo" not in text and "203.0.113.81:443/tcp is gone for good" in text for text in told)

    end(edge, old)
    edge.reloaded()
    assert syn(edge, SERVICES["solo"]).verdict is Verdict.PASSED, "its VIP is not ours any more"
    assert len(edge.tables.choice.known_services()) == len(edge.layout.services)


def test_a_flow_that_opens_while_its_service_is_removed_goes_on(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the programs are swapped the service is there, in the tables that make way."""
    opened: list[Session] = []
    swapping = Move.swapping

    def opening(move: Move) -> contextlib.AbstractContextManager[None]:
        opened.append(Session(edge, "solo").open())
        edge.forget_maps()  # they are of the old tables, though the engine writes the new ones by now
        return swapping(move)

    monkeypatch.setattr(Move, "swapping", opening)
    edge.file.drop("service", "solo")
    edge.file.replace("flows = 4096", "flows = 8192")
    assert any("1 flow of it goes on" in each for each in edge.reloaded().warnings)
    for _ in range(2):
        goes_on(opened[0])
        edge.reloaded()
    assert syn(edge, SERVICES["solo"]).verdict is Verdict.NO_SERVICE


def test_nothing_is_forgotten_while_a_flow_is_being_opened(edge: Edge) -> None:
    """For whom is not written yet."""
    index = edge.tables.reverse.info.max_entries - 1
    edge.put_slot(index, abi.Slot(owner=BEING_BOUND))
    edge.file.drop("service", "duo")
    edge.reloaded()
    ends = f"{abi.ends(*SERVICES['duo'])}/tcp"
    assert ends in map(str, edge.tables.choice.known_services())
    edge.put_slot(index, abi.Slot())
    edge.reloaded()
    assert ends not in map(str, edge.tables.choice.known_services())


def test_a_cdn_that_is_gone_keeps_its_flows_until_they_end(edge: Edge) -> None:
    sessions = [Session(edge, "www").open() for _ in range(30)]
    old = next(each for each in sessions if each.cdn == "corona")
    number, endpoint = edge.layout.cdns["corona"], edge.endpoint_id("corona")
    edge.file.drop("cdn", "corona")
    edge.reloaded()
    for each in sessions:
        goes_on(each)
    assert {Session(edge, "www").open().cdn for _ in range(30)} == {"aurora", "borealis"}
    assert edge.tables.choice.endpoint(endpoint).weight == 0
    assert "corona" not in [cdn.name for cdn in edge.engine.frame().cdns]

    edge.file.add(NEW_CDN)
    edge.reloaded()
    assert edge.layout.cdns["dorado"] != number, "its flows are counted as its own"
    assert edge.endpoint_id("dorado") != endpoint
    goes_on(old)
    end(edge, *sessions)
    edge.file.replace("dorado", "espada")
    edge.reloaded()
    edge.reloaded()
    held = set(edge.tables.choice.endpoints().values())
    assert held == {place.id for place in edge.layout.endpoints}, "the numbers are free"


def test_the_operators_words_stand_and_are_said(edge: Edge) -> None:
    engine = edge.engine
    edge.file.add(CUSTOMER)
    edge.reloaded()
    for command in (
        SetWeights(weights={"corona": 70}),
        Drain(cdn="borealis"),
        SetLimit(customer="acme", pps=500_000),
    ):
        assert engine.execute(command, OPERATOR).ok
    edge.file.replace('name = "aurora"', 'weight = 30\nname = "aurora"')
    edge.file.replace('name = "corona"', 'weight = 50\nname = "corona"')
    outcome = edge.reloaded()
    assert "the weight of corona is 70, as operators set it" in outcome.warnings[0]
    assert "acme" in outcome.warnings[1]
    assert engine.weights() == {"aurora": 30, "borealis": 100, "corona": 70}
    assert engine.drained() == ["borealis"]
    assert {Session(edge, "www").open().cdn for _ in range(40)} == {"aurora", "corona"}
    edge.file.drop("cdn", "corona")
    assert "cdn corona is gone" in (edge.reloaded().changed or [])
    assert engine.state.weights == {"corona": 70}, "it may come back"


def test_a_mistake_is_refused_with_all_the_others(edge: Edge) -> None:
    session, held = Session(edge, "www").open(), dump(edge)
    edge.file.replace("flows = 4096", 'flows = "many"\ncolour = 1')
    edge.file.add(NEW_SERVICE.replace("99", "80"))
    outcome = edge.reload()
    assert not outcome.ok
    for key in ("limits.flows", "limits.colour", "service"):
        assert key in outcome.text
    assert dump(edge) == held
    goes_on(session)
    (entry,) = [each for each in edge.engine.journal.read() if each.command["verb"] == "reload"]
    assert (entry.ok, entry.cli, entry.user) == (False, "cdnctl reload", "root")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (f'name = "{EDGE}"', 'name = "other"', "that of edge other"),
        ("['clients',", "['nowhere', 'clients',", "interface nowhere does not exist"),
        ("['clients',", "['lo', 'clients',", "interface lo is no Ethernet device"),
    ],
    ids=["another edge", "no interface", "no Ethernet"],  # alike in all workers: the name has a process in it
)
def test_what_cannot_be_is_refused(edge: Edge, old: str, new: str, words: str) -> None:
    session = Session(edge, "www").open()
    edge.file.replace(old, new)
    edge.file.add(NEW_SERVICE)
    outcome = edge.reload()
    assert not outcome.ok
    assert words in outcome.text
    assert syn(edge, API).verdict is Verdict.PASSED
    goes_on(session)
    Session(edge, "www6").open()
    edge.file.replace(new, old)
    assert edge.reloaded().changed == ["service api is new"]


@pytest.mark.soak
def test_tables_that_fail_midway_are_put_back(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any of its writes."""
    session, put = Session(edge, "www").open(), Map.put
    edge.file.add(NEW_CDN + NEW_SERVICE + CUSTOMER)
    failed = 0
    for last in range(1, 200, 7):
        left = last

        def failing(table: Map, key: bytes, value: bytes) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.ENOMEM, "bpf_map_update_elem")
            put(table, key, value)

        with monkeypatch.context() as broken:
            broken.setattr(Map, "put", failing)
            outcome = edge.reload()
        if outcome.ok:
            break
        failed += 1
        assert "the kernel refused" in outcome.text
        assert edge.engine.config.cdns == config.load(edge.file.path).cdns[:3]
        assert set(edge.tables.choice.services()) == {place.kernel_key for place in edge.layout.services}
        assert len(edge.layout.services) == len(SERVICES)
        assert {Session(edge, "www").open().cdn for _ in range(3)} <= set(CDNS)
        goes_on(session)
    assert failed > 5
    assert syn(edge, API).verdict is Verdict.FORWARDED


# --- interfaces ----------------------------------------------------------------------------------------


@pytest.fixture
def spare(inside: dict[str, int]) -> Iterator[str]:
    """One more interface."""
    with netns.netlink(namespace()) as ip:
        ip.link("add", ifname="spare", kind="veth", peer={"ifname": "spare-far"})
        inside["spare"] = ip.link_lookup(ifname="spare")[0]
        ip.link("set", index=inside["spare"], state="up")
        yield "spare"
        ip.link("del", index=inside.pop("spare"))


def test_interfaces_come_and_go(edge: Edge, spare: str) -> None:
    session = Session(edge, "www").open()
    first, second = (segment(("10.1.0.9", port), SERVICES["www"], Flag.SYN) for port in (50001, 50002))
    edge.file.replace("['clients',", "['spare', 'clients',")
    assert edge.reloaded().changed == ["edge.interfaces has spare now"]
    assert len(edge.programs()) == 1
    assert edge.run(first, "spare").verdict is Verdict.FORWARDED
    goes_on(session)
    edge.file.replace("['spare', 'clients',", "['clients',")
    assert edge.reloaded().changed == ["edge.interfaces has spare no more"]
    assert attach.mode_of(edge.indexes["spare"]) == "detached"
    assert edge.run(second, "spare").verdict is Verdict.NO_LINK
    goes_on(session)
    assert [each.name for each in edge.engine.frame().interfaces] == list(edge.config.edge.interfaces)


def test_a_detached_edge_stays_so(edge: Edge) -> None:
    assert edge.engine.execute(Detach(), OPERATOR).ok
    edge.file.add(NEW_SERVICE)
    assert edge.reloaded(program=True).changed == ["service api is new"]
    assert edge.programs() == {0}
    edge.engine.attach_all()
    assert syn(edge, API).verdict is Verdict.FORWARDED


# --- one at a time, and what is told of it -------------------------------------------------------------


def test_a_dry_run_says_what_it_would_do(edge: Edge) -> None:
    held, before = dump(edge), edge.programs()
    edge.file.add(NEW_CDN + NEW_SERVICE + CUSTOMER)
    outcome = edge.reloaded(dry_run=True)
    assert outcome.text.startswith("would reload: region eu is new; customer acme is new; cdn dorado is new;")
    assert "and 1 more\n" in outcome.text
    assert outcome.text.endswith("  service api is new")
    assert (dump(edge), edge.programs()) == (held, before)
    assert list(edge.engine.journal.read()) == []


def test_two_at_once(edge: Edge) -> None:
    async def both() -> list[bool]:
        reloads = (edge.engine.reload(Reload(program=True), OPERATOR) for _ in range(2))
        return [outcome.ok for outcome in await asyncio.gather(*reloads)]

    assert sorted(asyncio.run(both())) == [False, True]
    edge.reloaded()


def test_it_is_told_and_journaled(edge: Edge) -> None:
    edge.engine.frame()
    edge.file.add(NEW_SERVICE.replace("99", VIP.split(".")[3]).replace("port = 80", "port = 81"))
    edge.reloaded()
    (event,) = [each for each in edge.engine.frame().events if each.kind == "command"]
    assert event.text == "root: reloaded: service api is new"
    (entry,) = edge.engine.journal.read()
    assert (entry.ok, entry.text) == (True, "reloaded: service api is new")
