"""`cdnctl trace`: it says what would happen, that is what happens, and it changes nothing."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from ipaddress import ip_network
from typing import NamedTuple

import netbox
import pytest
from harness import (
    AURORA,
    CORONA,
    ENDPOINTS,
    MANAGEMENT,
    MS,
    OTHER_VIP,
    SERVICES,
    SNAT,
    TEST_CLOCK,
    VIP,
    VIP6,
    Action,
    DataPath,
    seed_of_the_run,
)
from mutants import mutated
from netbox import CLIENT_SIDE_MAC, CLIENTS, LINKS, ROUTER_MAC
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from segments import Flag, mac
from session import CLIENT, CLIENT6, Datagrams, Session, link_of
from warm import Flows

from cdnctl.datapath import abi, packets
from cdnctl.datapath.abi import Verdict, noted
from cdnctl.datapath.abi.noted import NoteKind
from cdnctl.datapath.clients import Client
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.manners import model_of
from cdnctl.datapath.tracer import Traced, Tracer
from cdnctl.engine import entries, notes, probes, tracing
from cdnctl.engine.explain import EXPLANATION, UNANSWERED
from cdnctl.engine.tracing import Trace
from cdnctl.lab import netns
from cdnctl.paths import bpf_dir

NOT_MAPS = {"edge", "sweep", "stages", "samples", "events", "bindings"}
PER_CPU = (5, 6, 10, 21)
"""Types of maps (enum bpf_map_type) that have a value for each CPU."""
HEADER = packets.Header(source=mac(ROUTER_MAC), target=mac(CLIENT_SIDE_MAC))
MUTANTS = 300
PORT = 20500
"""A client's port that is a SNAT port too, so that it is kept."""


@pytest.fixture(scope="module")
def tracer(loaded: DataPath) -> Iterator[Tracer]:
    """Ready to trace."""
    with netns.entered(netbox.name()):
        with Tracer(loaded.program.pins, cflags=(TEST_CLOCK,)) as tracer:
            yield tracer


def dump(path: DataPath) -> dict[str, object]:
    """Every byte of every pinned map."""
    found: dict[str, object] = {}
    for pin in path.program.pins.iterdir():
        if pin.name in NOT_MAPS:
            continue
        table = Map.pinned(pin)
        if table.info.type in PER_CPU:
            table = Map.pinned(pin, per_cpu=True)
        try:
            held: object = list(table.batches())
        except OSError:
            held = sorted((key, table.get(key)) for key in table.keys())
        found[pin.name] = held
    return found


def ends(source: str = CLIENT, target: tuple[str, int] = (VIP, 80), **fields: object) -> probes.Ends:
    fields.setdefault("source_port", PORT)
    return probes.Ends(source=source, target=target[0], target_port=target[1], **fields)  # type: ignore[arg-type]


def of(session: Session | Datagrams, **fields: object) -> probes.Ends:
    """A packet of that client's."""
    protocol = "tcp" if isinstance(session, Session) else "udp"
    return ends(
        session.client[0], session.service, source_port=session.client[1], protocol=protocol, **fields
    )


class Case(NamedTuple):
    """What is set up, and what a trace must say."""

    what: str
    set_up: Callable[[DataPath], probes.Ends]
    verdict: Verdict
    said: dict[str, str]
    """By step: a part of what it found."""
    summary: str
    device: Callable[[DataPath], str] = lambda _path: CLIENTS


# --- what is set up -------------------------------------------------------------------------------------


def new(_path: DataPath) -> probes.Ends:
    return ends(target=(OTHER_VIP, 80))


def new_ipv6(_path: DataPath) -> probes.Ends:
    return ends(CLIENT6, (VIP6, 80))


def new_udp(_path: DataPath) -> probes.Ends:
    return ends(target=SERVICES["dns"], protocol="udp")


def half_open(path: DataPath) -> probes.Ends:
    session = Session(path)
    session.syn()
    return of(session)


def answered(path: DataPath) -> probes.Ends:
    session = Session(path)
    session.syn()
    session.syn_ack()
    return of(session)


def steady(path: DataPath) -> probes.Ends:
    return of(Session(path).open())


def steady_under_a_new_policy(path: DataPath) -> probes.Ends:
    session = Session(path).open()
    path.tables.bump_generation()
    return of(session)


def to_be_rescued(path: DataPath) -> probes.Ends:
    path.change_health(AURORA, samples=20, baseline_us=1000)
    session = Session(path, "duo")
    path.change_health("borealis", state=abi.Breaker.OUT, out_until_ns=time.monotonic_ns() + 10_000 * MS)
    session.syn()
    path.change_health("borealis", state=abi.Breaker.IN, out_until_ns=0)
    assert session.cdn == AURORA
    session.age(300)
    return of(session)


def ended(path: DataPath) -> probes.Ends:
    return of(Session(path).open(), flags=Flag.FIN | Flag.ACK)


def in_siege(path: DataPath) -> probes.Ends:
    path.tables.shield.change_key()
    level(path, abi.Level.SIEGE)
    return new(path)


def in_siege_and_verified(path: DataPath) -> probes.Ends:
    Session(path).open()
    return in_siege(path)


def over_its_share(path: DataPath) -> probes.Ends:
    level(path, abi.Level.SHEDDING, abi.ticks(0.001))
    for _ in range(2):
        Session(path).syn()
    return new(path)


def of_a_suspicious_source(path: DataPath) -> probes.Ends:
    level(path, abi.Level.SHEDDING, abi.ticks(1))
    model = model_of([0] * abi.FEATURES, 7, times=10)
    path.change(model=path.tables.manners.put(0, abi.ModelMode.ON, model))
    Session(path).syn()
    return new(path)


def level(path: DataPath, level: abi.Level, source_ticks: int = 0) -> None:
    """Of the shield, with a budget of each source."""
    path.change(seed=random.getrandbits(32))
    shield = path.tables.shield.now
    shield.level, shield.ticks[abi.Budget.SOURCE] = level, source_ticks
    path.tables.shield.now = shield


def unknown(_path: DataPath) -> probes.Ends:
    return ends(target=(OTHER_VIP, 80), flags=Flag.ACK)


def reply(path: DataPath) -> probes.Ends:
    session = Session(path).open()
    return probes.Ends(
        source=session.endpoint[0],
        source_port=session.endpoint[1],
        target=session.snat[0],
        target_port=session.snat[1],
    )


def reply_to_nobody(_path: DataPath) -> probes.Ends:
    return probes.Ends(
        source=ENDPOINTS[AURORA][0], source_port=ENDPOINTS[AURORA][1], target=SNAT[0], target_port=20007
    )


def host_port(_path: DataPath) -> probes.Ends:
    return probes.Ends(source=ENDPOINTS[AURORA][0], source_port=80, target=SNAT[0], target_port=50000)


def uninvited(path: DataPath) -> probes.Ends:
    path.change(invited_only=1)
    return host_port(path)


def invited(path: DataPath) -> probes.Ends:
    path.tables.invite([abi.prefix_key(ip_network(f"{ENDPOINTS[AURORA][0]}/32"))])
    return uninvited(path)


def ping(_path: DataPath) -> probes.Ends:
    return probes.Ends(source=CLIENT, target=VIP, protocol="icmp")


def ping_ipv6(_path: DataPath) -> probes.Ends:
    return probes.Ends(source=CLIENT6, target=VIP6, protocol="icmp")


def blocked(path: DataPath) -> probes.Ends:
    path.blocks.put(ip_network("10.1.0.0/24"), time.time_ns() + 3600 * 1000 * MS)
    return ends()


def blocked_for_its_live_flow(path: DataPath) -> probes.Ends:
    asked = reply(path)
    path.blocks.put(ip_network(f"{CLIENT}/32"), 0)
    path.tables.bump_generation()
    return asked


def blocked_no_more(path: DataPath) -> probes.Ends:
    path.blocks.put(ip_network("10.1.0.0/16"), 0)
    path.blocks.put(ip_network("10.1.0.0/24"), time.time_ns() - 1000 * MS)
    return ends()


def blocked_but_allowed(path: DataPath) -> probes.Ends:
    path.blocks.put(ip_network("10.1.0.0/24"), 0)
    path.tables.clients.load({ip_network("10.1.0.0/25"): Client(flags=abi.ClientFlag.ALLOWED)})
    return ends(target=(OTHER_VIP, 80))


def blocked_management(path: DataPath) -> probes.Ends:
    path.blocks.put(ip_network(MANAGEMENT), 0)
    return ends("192.0.2.9", ("10.9.9.9", 22))


def no_service(_path: DataPath) -> probes.Ends:
    return ends(target=(VIP, 81))


def stray_reset(_path: DataPath) -> probes.Ends:
    return ends(flags=Flag.RST)


def not_ours(_path: DataPath) -> probes.Ends:
    return ends(target=("10.9.9.9", 80))


def one_out(path: DataPath) -> probes.Ends:
    path.change_health(
        AURORA, state=abi.Breaker.OUT, reason=abi.OutReason.DARK, out_until_ns=time.monotonic_ns() + 8000 * MS
    )
    return ends(target=(OTHER_VIP, 443), source_port=first_port(path, AURORA))


def disarmed(path: DataPath) -> probes.Ends:
    path.tables.mode = abi.Mode.DISARMED
    return blocked(path)


def bypassed(path: DataPath) -> probes.Ends:
    path.tables.mode = abi.Mode.BYPASS
    return ends()


def observing(path: DataPath) -> probes.Ends:
    path.tables.mode = abi.Mode.OBSERVE
    return ends(target=(OTHER_VIP, 80))


def observing_a_blocked_one(path: DataPath) -> probes.Ends:
    path.tables.mode = abi.Mode.OBSERVE
    return blocked(path)


def tunnelled(path: DataPath) -> probes.Ends:
    path.change_endpoint(AURORA, transport=abi.Transport.IPIP)
    return ends(target=(OTHER_VIP, 80))


def handed(path: DataPath) -> probes.Ends:
    path.change_endpoint(AURORA, transport=abi.Transport.PASS)
    return ends(target=(OTHER_VIP, 80))


def in_a_region(path: DataPath) -> probes.Ends:
    path.tables.clients.load({ip_network("10.1.0.0/16"): Client(), ip_network("10.1.0.0/20"): Client(7, 2)})
    return ends(target=(OTHER_VIP, 80))


def over_its_limit(path: DataPath) -> probes.Ends:
    path.tables.clients.load({ip_network("10.1.0.0/16"): Client(7)})
    path.tables.clients.set_limits({7: abi.limit(flows_per_s=0.01, burst_ms=1)})
    assert Session(path, client="10.1.0.8").syn().verdict is Verdict.FORWARDED
    return ends(target=(OTHER_VIP, 80))


def held_port(path: DataPath) -> probes.Ends:
    for address in SNAT:
        index = path.slot_index(AURORA, (address, PORT))
        slot = abi.Slot(owner=1 << 32 | 1, state=abi.SlotState.CLOSING, since_ns=time.monotonic_ns())
        path.put_slot(index, slot)
    return ends(target=(OTHER_VIP, 80))


def first_port(path: DataPath, cdn: str) -> int:
    """A client's port whose first pick is that CDN."""
    for port in range(PORT, PORT + 200):
        session = Session(path, "duo", port=port)
        path.change_health(cdn, state=abi.Breaker.IN)
        session.syn()
        path.tables.half_open.delete(session.key)
        path.put_slot(session.slot_index, abi.Slot())
        if session.cdn == cdn:
            path.change_health(cdn, state=abi.Breaker.OUT)
            return port
    raise AssertionError(f"nothing goes to {cdn}")


CASES = [
    Case(
        "a new flow", new, Verdict.FORWARDED,
        {"service": "solo (203.0.113.81:80/tcp)", "flow": "none is known", "rewritten": "TTL 63",
         "try": "aurora 198.51.100.10:80: fit", "SNAT port": f":{PORT} is free",
         "next hop": "by cdn1, MTU 1500"},
        "would be FORWARDED to aurora 198.51.100.10:80 from 203.0.113.1",
    ),
    Case(
        "a new flow over IPv6", new_ipv6, Verdict.FORWARDED,
        {"service": "www6 ([2001:db8:203::80]:80/tcp)", "client": "in no known prefix"},
        "would be FORWARDED to",
    ),
    Case(
        "a new flow in siege", in_siege, Verdict.CHALLENGED,
        {"shield": "siege", "goes on": "to be challenged"}, "would be",
    ),
    Case(
        "a new flow of a verified source in siege", in_siege_and_verified, Verdict.FORWARDED,
        {"shield": "siege", "source": "verified for", "share": "within it"}, "would be FORWARDED to aurora",
    ),
    Case(
        "a new flow that is shed", over_its_share, Verdict.SHED_SOURCE,
        {"shield": "shedding", "share": "Shed: an unverified source"}, "would be",
    ),
    Case(
        "a new flow of a suspicious source", of_a_suspicious_source, Verdict.SHED_SUSPECT,
        {"goes on": "how its source behaves", "manner": "unfinished 255",
         "model": "suspicious (a score of 7)"},
        "would be dropped: SHED_SUSPECT",
    ),
    Case("a new flow of UDP", new_udp, Verdict.FORWARDED, {"service": "dns"}, "198.51.100.10:80 from"),
    Case(
        "a SYN that is sent again", half_open, Verdict.FORWARDED,
        {"flow": "half-open, to aurora 198.51.100.10:80", "sent again": "within the"}, "would be FORWARDED",
    ),
    Case(
        "the last step of a handshake", answered, Verdict.FORWARDED,
        {"handshake": "proved itself", "flow": "answered"}, "would be FORWARDED",
    ),
    Case(
        "a steady flow", steady, Verdict.FORWARDED,
        {"flow": "established, to aurora", "admission": "cached under policy generation 1"},
        "would be FORWARDED to aurora 198.51.100.10:80 from",
    ),
    Case(
        "a steady flow under a new policy", steady_under_a_new_policy, Verdict.FORWARDED,
        {"block list": "nothing is blocked"}, "would be FORWARDED",
    ),
    Case(
        "a flow to be rescued", to_be_rescued, Verdict.FORWARDED,
        {"sent again": "past the", "rescue": "taken from aurora", "would be told": "rescue"},
        "would be FORWARDED to borealis",
    ),
    Case("a flow that ends", ended, Verdict.FORWARDED, {"packet": "FIN ACK"}, "would be FORWARDED"),
    Case(
        "a reset of no flow", stray_reset, Verdict.UNKNOWN_FLOW, {"verdict": "a SYN-ACK, which is never"},
        "would be dropped: UNKNOWN_FLOW",
    ),
    Case("of no flow", unknown, Verdict.RESET_CLIENT, {"flow": "none"}, "would be answered: RESET_CLIENT"),
    Case(
        "a reply", reply, Verdict.REPLIED,
        {"sender": "aurora 198.51.100.10:80", "reverse slot": "established", "destination": "SNAT"},
        f"would be REPLIED to the client {CLIENT}:",
        lambda _path: link_of(AURORA),
    ),
    Case(
        "a reply to nobody", reply_to_nobody, Verdict.NO_OWNER, {"reverse slot": "held by nobody"},
        "would be dropped: NO_OWNER", lambda _path: link_of(AURORA),
    ),
    Case(
        "to a port of the host's own", host_port, Verdict.PASSED, {"port": "the host's own"},
        "would be PASSED to this host's own stack", lambda _path: link_of(AURORA),
    ),
    Case(
        "to a port of the host's own, of nobody's that may", uninvited, Verdict.UNINVITED,
        {"goes on": "to the host all the same", "door": "it may not talk to SNAT addresses"},
        "would be dropped: UNINVITED", lambda _path: link_of(AURORA),
    ),
    Case(
        "of somebody's that may", invited, Verdict.PASSED, {"door": "it is on the list"},
        "would be PASSED to this host's own stack", lambda _path: link_of(AURORA),
    ),
    Case("a ping", ping, Verdict.ECHOED, {"goes on": "an ICMP message"}, "would be answered: ECHOED"),
    Case("a ping over IPv6", ping_ipv6, Verdict.ECHOED, {"packet": "2001:db8:203::80"}, "ECHOED"),
    Case(
        "a blocked source", blocked, Verdict.BLOCKED,
        {"block list": "10.1.0.0/24 is blocked for 60 min more"}, "would be dropped: BLOCKED by 10.1.0.0/24",
    ),
    Case(
        "a reply to a blocked client", blocked_for_its_live_flow, Verdict.BLOCKED,
        {"block list": f"{CLIENT}/32 is blocked forever"}, f"BLOCKED by {CLIENT}/32",
        lambda _path: link_of(AURORA),
    ),
    Case(
        "an expired block inside of one in force", blocked_no_more, Verdict.BLOCKED,
        {"block list": "10.1.0.0/24 was blocked, and its time is over"}, "BLOCKED by 10.1.0.0/16",
    ),
    Case(
        "blocked, but allowed", blocked_but_allowed, Verdict.FORWARDED,
        {"exempt": "an allowed prefix", "client": "prefix 10.1.0.0/25, allowed"}, "would be FORWARDED",
    ),
    Case(
        "blocked, but of the operators'", blocked_management, Verdict.PASSED,
        {"exempt": "a management prefix"}, "would be PASSED",
    ),
    Case("no service", no_service, Verdict.NO_SERVICE, {"service": "none on 203.0.113.80:81"}, "NO_SERVICE"),
    Case("not ours", not_ours, Verdict.PASSED, {"destination": "not the edge's"}, "would be PASSED"),
    Case(
        "a CDN is out", one_out, Verdict.FORWARDED, {"try": "no: out of rotation (dark, for"},
        "would be FORWARDED to borealis",
    ),
    Case(
        "disarmed", disarmed, Verdict.FORWARDED,
        {"edge": "disarmed", "block list": "not asked: the edge is disarmed"}, "would be FORWARDED",
    ),
    Case("bypassed", bypassed, Verdict.BYPASSED, {"edge": "bypassed"}, "would be BYPASSED to this host's"),
    Case(
        "observing", observing, Verdict.FORWARDED, {"edge": "observing", "pick": "aurora"},
        "would be PASSED to this host's own stack, for the edge only observes; else FORWARDED to aurora"
        " 198.51.100.10:80",
    ),
    Case(
        "observing a blocked one", observing_a_blocked_one, Verdict.BLOCKED, {"block list": "is blocked"},
        "for the edge only observes; else dropped: BLOCKED by 10.1.0.0/24",
    ),
    Case(
        "into a tunnel", tunnelled, Verdict.FORWARDED,
        {"next hop": "by cdn1", "goes on": "with a port of ours if it is translated",
         "wrapped": "> 198.51.100.10, TTL"},
        "would be FORWARDED to aurora 198.51.100.10:80 in IP in IP from",
    ),
    Case(
        "to a CDN of mode pass", handed, Verdict.HANDED,
        {"pick": "aurora", "goes on": "with a port of ours if it is translated"}, "HANDED to this host's",
    ),
    Case(
        "a client of a region", in_a_region, Verdict.FORWARDED,
        {"client": "prefix 10.1.0.0/20, customer 7, region 2, class interactive"},
        "would be FORWARDED",
    ),
    Case(
        "over its customer's limit", over_its_limit, Verdict.OVER_FLOW_QUOTA,
        {"limits": "of customer 7: Its customer is over its limit of new flows"}, "OVER_FLOW_QUOTA",
    ),
    Case(
        "its port is held", held_port, Verdict.FORWARDED, {"SNAT port": f":{PORT} is held by"},
        "would be FORWARDED",
    ),
]  # fmt: skip


# --- a packet -------------------------------------------------------------------------------------------


def traced(path: DataPath, tracer: Tracer, asked: probes.Ends, device: str) -> tuple[bytes, Traced, Trace]:
    """The frame, what it would do, and that in words."""
    packet = probes.packet(asked, path.tables)
    frame = packets.frame(packet, HEADER)
    found = tracer.run(frame, path.indexes[device])
    names = entries.names_by_config(path.config, path.tables)
    seen = entries.Entries(path.tables, names, time.monotonic_ns())
    return frame, found, tracing.explain(found, packet, "ams1", device, seen)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_it_says_what_would_happen_and_changes_nothing(path: DataPath, tracer: Tracer, case: Case) -> None:
    asked, device = case.set_up(path), case.device(path)
    before = dump(path)
    frame, found, told = traced(path, tracer, asked, device)
    after = dump(path)
    assert {name for name in before if before[name] != after[name]} == set()
    assert told.verdict == case.verdict.name.lower(), told
    steps = {}
    for step in told.steps:
        steps.setdefault(step.what, []).append(step.found)
    steps["packet"] = [told.packet]
    for what, part in case.said.items():
        assert any(part in found for found in steps.get(what, [])), (what, part, told)
    assert case.summary in told.summary
    assert told.explanation in (EXPLANATION[case.verdict], UNANSWERED)
    # and now for real
    seen = path.run(frame, device)
    assert (seen.verdict, seen.action) == (case.verdict, found.action)
    if seen.verdict in (Verdict.FORWARDED, Verdict.REPLIED) and seen.action is not Action.PASS:
        real, said = Ether(seen.frame), Ether(found.frame)
        assert (real.dst, real.src, real[IP].dst if IP in real else "") == (
            said.dst, said.src, said[IP].dst if IP in said else "",
        )  # fmt: skip


def test_a_frame_without_a_way_is_explained(path: DataPath, tracer: Tracer) -> None:
    with netns.netlink(netbox.name()) as ip:
        netbox.neighbour(ip, LINKS[0], path.indexes[LINKS[0].name], "del")
        try:
            _, _, told = traced(path, tracer, new(path), CLIENTS)
        finally:
            netbox.neighbour(ip, LINKS[0], path.indexes[LINKS[0].name])
    assert told.verdict == "no_neighbour"
    assert any(step.what == "next hop" and "not resolved" in step.found for step in told.steps)
    assert any(step.what == "would be told" and "no hop: aurora" in step.found for step in told.steps)


def test_nothing_is_told_or_sampled(path: DataPath, tracer: Tracer) -> None:
    path.change(sample_one_in=1)
    reader = path.reader
    reader.take_samples()
    asked = to_be_rescued(path)
    reader.take_events()
    time.sleep(0.3)
    reader.take_samples()
    _, _, told = traced(path, tracer, asked, CLIENTS)
    time.sleep(0.3)
    assert "rescue" in {step.what for step in told.steps}
    assert reader.take_events() == []
    assert reader.take_samples() == []


def test_whatever_comes_in_a_trace_changes_nothing(path: DataPath, tracer: Tracer) -> None:
    frames = Flows(path).frames
    seed = seed_of_the_run()
    print("seed", seed)
    chance = random.Random(seed)
    before = dump(path)
    verdicts = set()
    for number in range(MUTANTS):
        frame = chance.choice(frames)
        if number % 2:
            frame = mutated(chance, frame, frames)
        found = tracer.run(frame, path.indexes[chance.choice([CLIENTS, LINKS[0].name])])
        last = [note for note in found.notes if note.kind is NoteKind.VERDICT]
        assert len(last) == 1, f"seed {seed}: {frame.hex()}"
        verdicts.add(Verdict(last[0].a))
    after = dump(path)
    assert {name for name in before if before[name] != after[name]} == set(), f"seed {seed}"
    assert len(verdicts) >= 8, verdicts


# --- the packet that would come next --------------------------------------------------------------------


def test_the_next_packet_follows_from_the_flow(path: DataPath) -> None:
    session = Session(path, isn=5000)
    asked = probes.Ends(
        source=session.client[0], source_port=session.client[1], target=OTHER_VIP, target_port=80
    )
    back = probes.Ends(source=ENDPOINTS[AURORA][0], source_port=80, target="", target_port=0)

    def flags() -> tuple[int, int, int]:
        packet = probes.packet(asked, path.tables)
        return int(packet.flags), packet.sequence, packet.acknowledged

    assert flags() == (Flag.SYN, probes.FIRST_NUMBER, 0)
    session.syn()
    assert flags() == (Flag.SYN, 5000, 0)
    reply_to = probes.Ends(
        source=back.source, source_port=80, target=session.snat[0], target_port=session.snat[1]
    )
    answer = probes.packet(reply_to, path.tables)
    assert (int(answer.flags), answer.acknowledged) == (Flag.SYN | Flag.ACK, 5001)
    session.syn_ack()
    assert flags() == (Flag.ACK, 5001, session.cdn_isn + 1)
    session.ack()
    session.up(Flag.PSH | Flag.ACK, payload=b"hello")
    assert flags()[:2] == (Flag.ACK, 5006)
    assert int(probes.packet(reply_to, path.tables).flags) == Flag.ACK


def test_the_corona_of_another_family_is_named(path: DataPath, tracer: Tracer) -> None:
    names = entries.names_by_config(path.config, path.tables)
    seen = entries.Entries(path.tables, names, 0)
    identity = path.endpoint_id(CORONA, abi.Pool.TCP6)
    assert seen.endpoint(identity) == f"corona [{LINKS[2].endpoint6}]:80"
    index = path.slot_index(CORONA, ("2001:db8:203::11", 20003), abi.Pool.TCP6)
    assert seen.port_of(index) == "[2001:db8:203::11]:20003"


# --- the program ----------------------------------------------------------------------------------------


def test_pins_of_another_version_are_known(loaded: DataPath) -> None:
    assert loaded.program.is_current()
    rows = Map.pinned(loaded.program.pins / "identity")
    was = rows.get(abi.key(0)) or b""
    try:
        rows.put(abi.key(0), bytes(32))
        assert not loaded.program.is_current()
    finally:
        rows.put(abi.key(0), was)


_ENUMS: dict[str, tuple[str, type[IntEnum], str]] = {
    "note_kind": ("trace.h", noted.NoteKind, "NOTED_"),
    "exemption": ("trace.h", noted.Exemption, "EXEMPT_"),
    "claim": ("trace.h", noted.Claim, "CLAIM_"),
    "standing": ("trace.h", noted.Standing, "STANDING_"),
    "fitness": ("fitness.h", noted.Fitness, ""),
    "belongs": ("packet.h", noted.Belongs, ""),
    "begins": ("packet.h", noted.Begins, "BEGINS_"),
    "onward": ("packet.h", noted.Onward, ""),
}


@pytest.mark.parametrize("name", _ENUMS)
def test_enums_of_notes_are_mirrored(name: str) -> None:
    file, mirror, prefix = _ENUMS[name]
    text = re.sub(r"/\*.*?\*/", "", (bpf_dir() / file).read_text(), flags=re.DOTALL)
    body = re.search(rf"^enum {name} \{{\n(.*?)^\}};", text, re.MULTILINE | re.DOTALL)
    assert body
    wanted, value = {}, 0
    for line in filter(str.strip, body[1].split(",")):
        entry, _, given = (part.strip() for part in line.partition("="))
        value = {"": value, "VERDICTS": abi.VERDICTS}.get(given, int(given) if given.isdigit() else value)
        wanted[entry.removeprefix(prefix)] = value
        value += 1
    assert {member.name: member.value for member in mirror} == wanted


def test_every_kind_of_note_is_put_into_words() -> None:
    for kind in NoteKind:
        assert hasattr(notes.Notes, f"_note_{kind.name.lower()}"), kind
    assert set(notes.GOES_ON) == set(noted.Onward)
    assert set(notes.FITNESS) == set(noted.Fitness)
