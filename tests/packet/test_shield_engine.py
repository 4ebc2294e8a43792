"""The shield as an agent keeps it: keys, levels that follow the kernel's counts, restarts, reloads."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from harness import SERVICES, Runner
from moved import LARGER
from netbox import CLIENTS
from reloaded import OPERATOR, Edge
from segments import Flag, segment
from session import CLIENT, Session

from cdnctl.config.schema import AMPLIFIERS
from cdnctl.datapath import abi
from cdnctl.datapath.abi import Budget, Level, Verdict
from cdnctl.model import Frame, SetShield, ShieldLevel, ShieldWish, Undo

EASILY = ("[limits]", "[shield]\nflows_per_s = 100\n\n[limits]")
Begin = Callable[[], Edge]


def put(edge: Edge, level: ShieldWish) -> None:
    """An operator's word."""
    outcome = edge.engine.execute(SetShield(level=level), OPERATOR)
    assert outcome.ok, outcome


def flooded(edge: Edge, count: int = 2000) -> Frame:
    """A frame after so many SYNs, each from an address of its own."""
    frame = segment((CLIENT, 1234), SERVICES["www"], Flag.SYN, seq=1)
    runner = Runner(edge.fd, len(frame), edge.indexes[CLIENTS])
    for _ in range(count):
        runner.frame.raw = frame
        struct.pack_into("!I", runner.frame, 26, random.randrange(0x0B00_0000, 0x1000_0000))
        runner.run()
    return edge.engine.frame()


def test_both_keys_are_somebodys_and_a_restart_keeps_them(begin: Begin) -> None:
    """A key of zeros would be known to everybody."""
    shield = begin().tables.shield.now
    assert len({word for key in shield.key for word in key}) == 4
    assert 0 not in {word for key in shield.key for word in key}
    assert bytes(begin().tables.shield.now.key) == bytes(shield.key)


def test_the_configuration_is_in_the_kernel(begin: Begin) -> None:
    edge = begin()
    words = edge.map("amplifiers").values()
    ports = {64 * n + bit for n, raw in enumerate(words) for bit in range(64) if raw[bit // 8] >> bit % 8 & 1}
    assert ports == set(AMPLIFIERS)
    assert not any(edge.tables.shield.now.ticks), "at calm nothing has a budget"
    put(edge, "shedding")
    shield = edge.tables.shield.now
    assert [abi.ticks(rate) for rate in (500, 20, 200, 1000, 10_000)] == list(shield.ticks)
    assert (shield.trust_ns, shield.patience_ns) == (600 * 10**9, 9 * 10**8)
    put(edge, "siege")
    shield = edge.tables.shield.now
    assert [shield.ticks[each] for each in (Budget.VERIFIED, Budget.SOURCE)] == [abi.ticks(500), abi.ticks(5)]


def test_by_itself_it_goes_up_and_says_why(begin: Begin) -> None:
    edge = begin()
    edge.file.replace(*EASILY)
    edge.reloaded()
    assert edge.engine.frame().shield.level == "calm"
    events, shield = [], edge.engine.frame().shield
    for _ in range(6):
        frame = flooded(edge)
        events += [event for event in frame.events if event.kind == "shield"]
        shield = frame.shield
    assert shield.level == "siege"
    assert edge.tables.shield.now.level == Level.SIEGE
    assert [(event.severity, "unverified" in event.text) for event in events] == [("alarm", True)]
    assert shield.why in events[0].text
    assert shield.challenged_per_s > 0
    assert shield.unverified_share > 0.9
    assert Session(edge, client="10.1.9.9").syn().verdict is Verdict.CHALLENGED


def test_a_level_outlives_its_agent_and_its_tables(begin: Begin) -> None:
    edge = begin()
    Session(edge, client="10.1.9.8").open()
    put(edge, "siege")
    edge = begin()
    assert level_of(edge) == ("siege", Level.SIEGE)
    edge.file.replace(*LARGER)
    edge.reloaded()
    assert level_of(edge) == ("siege", Level.SIEGE)
    assert Session(edge, client="10.1.9.8").syn().verdict is Verdict.FORWARDED, (
        "verified in the new ones, too"
    )
    assert Session(edge, client="10.1.9.7").syn().verdict is Verdict.CHALLENGED
    put(edge, "auto")
    assert level_of(edge) == ("calm", Level.CALM), "nothing had asked for it but the operator"


def test_who_lets_go_of_a_level_has_at_once_what_the_load_asks_for(begin: Begin) -> None:
    """Slowly down is for what the load has asked for; nobody waits a minute for an undo."""
    edge = begin()
    edge.file.replace(*EASILY)
    edge.reloaded()
    put(edge, "siege")
    assert level_of(edge) == ("siege", Level.SIEGE)
    assert edge.engine.execute(Undo(), OPERATOR).ok
    assert level_of(edge) == ("calm", Level.CALM)
    put(edge, "busy")
    told = [event for _ in range(6) for event in flooded(edge).events if event.kind == "shield"]
    assert level_of(edge) == ("busy", Level.BUSY), "held, whatever comes"
    assert not told
    put(edge, "auto")
    assert level_of(edge) == ("siege", Level.SIEGE)
    assert "unverified" in edge.engine.frame().shield.why


def level_of(edge: Edge) -> tuple[ShieldLevel, int]:
    """As it is shown, and as it is."""
    return edge.engine.frame().shield.level, edge.tables.shield.now.level
