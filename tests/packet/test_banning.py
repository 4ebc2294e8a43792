"""Blocks that set themselves, from packets through the real program to the kernel's own block list."""

from __future__ import annotations

import errno
import ipaddress
import struct
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from harness import ENDPOINTS, SERVICES, SNAT, VIP, Runner
from netbox import CLIENTS
from reloaded import OPERATOR, Edge
from segments import Flag, segment

from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.defence import protected
from cdnctl.defence.protected import Surroundings
from cdnctl.engine.banning import Guard
from cdnctl.model import Allow, Autoban, BlockPrefix, Disarm, Frame, SetAutoban, Unblock, Undo

AUTOBAN = """
[autoban]
mode = "on"
source = { flows_per_s = 300 }
network = { flows_per_s = 1500 }
ban_s = 20
quiet_s = 1
"""
PROTECTED = {
    "10.7.1.1": "an operator logged in over SSH",
    "192.0.2.77": "a management prefix",
    "10.7.2.1": "a default gateway",
    "10.7.3.1": "a name server of this box",
    "10.7.4.1": "an address of this box",
    "10.7.5.1": "which an operator allowed",
    VIP: "the VIP of service",
    SNAT[0]: "an SNAT address",
}
SYNS = 150
"""Of a source in each round, of which there are at most ten a second."""
ROUND_S = 0.12
"""The reader of samples looks ten times a second."""
ABUSER = "10.1.9.66"

Begin = Callable[[], Edge]


@pytest.fixture
def edge(begin: Begin) -> Edge:
    edge = begin()
    edge.file.add(AUTOBAN)
    edge.reloaded()
    return edge


@pytest.fixture(autouse=True)
def around(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box with somebody logged in."""
    found = Surroundings(
        ssh_peers=("10.7.1.1",), gateways=("10.7.2.1",), resolvers=("10.7.3.1",), own=("10.7.4.1",)
    )
    monkeypatch.setattr(protected, "surroundings", lambda: found)


def rounds(edge: Edge, sources: Iterable[str], count: int = 6) -> Iterator[Frame]:
    """Frames, each after so many SYNs from each source."""
    frame = segment((ABUSER, 1234), SERVICES["www"], Flag.SYN, seq=1)
    runner = Runner(edge.fd, len(frame), edge.indexes[CLIENTS])
    runner.frame.raw = frame
    for number in range(count):
        for source in sources:
            for each in range(SYNS):
                struct.pack_into("!4s", runner.frame, 26, ipaddress.ip_address(source).packed)
                struct.pack_into("!H", runner.frame, 34, 1024 + number * SYNS + each)
                runner.run()
        time.sleep(ROUND_S)
        yield edge.engine.frame()


def last(frames: Iterable[Frame]) -> Autoban:
    """What the newest of them says."""
    return list(frames)[-1].autoban


def banned(autoban: Autoban) -> list[str]:
    return sorted(ban.prefix for ban in autoban.bans)


def blocked(edge: Edge, source: str) -> bool:
    """Whether the kernel drops what comes from there."""
    return edge.run(segment((source, 4321), SERVICES["www"], Flag.SYN, seq=1)).verdict is Verdict.BLOCKED


def test_an_abuser_is_banned_and_the_ban_is_lifted_when_he_stops(edge: Edge) -> None:
    frames = list(rounds(edge, [ABUSER]))
    assert banned(frames[-1].autoban) == [ABUSER]
    (told,) = [event for frame in frames for event in frame.events if event.kind == "ban"]
    assert told.severity == "warning"
    assert told.text.startswith(f"banned {ABUSER} for 20s: ")
    assert "new flows/s, over 300" in told.text
    assert blocked(edge, ABUSER)
    assert not blocked(edge, "10.1.9.67")
    (block,) = [block for block in frames[-1].blocks if block.source == "auto"]
    assert block.reason in told.text
    assert [each.user for each in edge.engine.journal.recent()][-1] == "autoban"
    over = [frame for frame in rounds(edge, [], 16) if not frame.autoban.bans]
    assert over
    assert [event.text for event in over[0].events if event.kind == "ban"] == [
        f"lifted the ban of {ABUSER}: next to nothing came for 1 s"
    ]
    assert not blocked(edge, ABUSER)


def test_of_what_is_protected_nothing_is_banned(edge: Edge) -> None:
    """By each kind of it, and beside an abuser who is none."""
    assert edge.engine.execute(Allow(prefix="10.7.5.0/24"), OPERATOR).ok
    found = last(rounds(edge, [*PROTECTED, ENDPOINTS["aurora"][0], ABUSER]))
    assert banned(found) == [ABUSER]
    spared = {each.prefix: each.spared for each in found.offenders}
    for source, why in PROTECTED.items():
        assert why in spared[source], source
        assert not blocked(edge, source)
    assert ENDPOINTS["aurora"][0] not in spared, "a CDN's packets are no client's in the first place"
    guard = Guard(edge.engine)
    assert "an endpoint of aurora" in (guard(ipaddress.ip_network(ENDPOINTS["aurora"][0])) or "")


@pytest.mark.soak
def test_a_network_with_somebody_protected_in_it_is_no_ban_but_its_sources_are(edge: Edge) -> None:
    crowd = [f"10.7.1.{n}" for n in range(10, 18)]
    edge.file.replace("source = { flows_per_s = 300 }", "source = { flows_per_s = 20000 }")
    edge.reloaded()
    found = last(rounds(edge, crowd))
    assert banned(found) == []
    (spared,) = found.offenders
    assert spared.prefix == "10.7.1.0/24"
    assert spared.spared == "it covers 10.7.1.1, an operator logged in over SSH"
    found = last(rounds(edge, [f"10.8.1.{n}" for n in range(10, 18)]))
    assert banned(found) == ["10.8.1.0/24"]


def test_a_dry_run_says_whom_it_would_ban_and_bans_nobody(edge: Edge) -> None:
    assert edge.engine.execute(SetAutoban(mode="dry-run"), OPERATOR).ok
    frames = list(rounds(edge, [ABUSER]))
    assert (frames[-1].autoban.mode, frames[-1].autoban.wish) == ("dry-run", "dry-run")
    (offender,) = frames[-1].autoban.offenders
    assert (offender.prefix, offender.spared) == (ABUSER, "")
    told = [event.text for frame in frames for event in frame.events if event.kind == "ban"]
    assert [text.split(":")[0] for text in told] == [f"would ban {ABUSER}"], "once, not in each frame"
    assert not blocked(edge, ABUSER)


def test_while_nothing_is_dropped_nobody_is_banned(edge: Edge) -> None:
    assert edge.engine.execute(Disarm(), OPERATOR).ok
    assert banned(last(rounds(edge, [ABUSER]))) == []


def test_off_lifts_what_was_banned(edge: Edge) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]
    preview = edge.engine.execute(SetAutoban(mode="off", dry_run=True), OPERATOR)
    assert (
        preview.text
        == "would have it so: autoban is off: no block sets itself, and those that did are lifted"
    )
    assert edge.engine.execute(SetAutoban(mode="off"), OPERATOR).ok
    assert banned(last(rounds(edge, [], 1))) == []
    assert not blocked(edge, ABUSER)


def test_an_operator_may_lift_one_and_it_stays_lifted(edge: Edge) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]
    assert edge.engine.execute(Unblock(prefix=ABUSER), OPERATOR).ok
    assert not blocked(edge, ABUSER)
    frames = list(rounds(edge, [ABUSER]))
    assert banned(frames[-1].autoban) == []
    assert "an operator lifted its ban" in frames[-1].autoban.offenders[0].spared
    told = [event.text for frame in frames for event in frame.events if event.kind == "ban"]
    assert len(told) == 1, "once, not in each frame"


def test_a_ban_is_lifted_beside_an_operators_own_block(edge: Edge) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]
    assert edge.engine.execute(BlockPrefix(prefix=ABUSER), OPERATOR).ok
    planned = edge.engine.execute(Unblock(prefix=ABUSER, source="auto", dry_run=True), OPERATOR).text
    assert planned == f"would unblock {ABUSER}: the automatic ban of it goes, and the manual block stays"
    assert edge.engine.execute(Unblock(prefix=ABUSER, source="auto"), OPERATOR).ok
    assert [block.source for block in edge.engine.blocks.wanted] == ["manual"]
    again = edge.engine.execute(Unblock(prefix=ABUSER, source="auto"), OPERATOR)
    assert f"{ABUSER} is not blocked by auto but by manual" in again.text


def test_a_ban_that_an_undo_put_back_is_lifted_by_off(edge: Edge) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]
    assert edge.engine.execute(Unblock(prefix=ABUSER), OPERATOR).ok
    assert banned(last(rounds(edge, [], 1))) == []
    assert edge.engine.execute(Undo(), OPERATOR).ok
    assert banned(last(rounds(edge, [], 1))) == [ABUSER]
    assert edge.engine.execute(SetAutoban(mode="off"), OPERATOR).ok
    assert banned(last(rounds(edge, [], 1))) == []
    assert not blocked(edge, ABUSER)


@pytest.mark.soak
def test_a_ban_that_the_kernel_does_not_let_go_is_shown_still(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]

    def refuse(blocks: KernelBlocks, network: object) -> None:
        raise OSError(errno.EBUSY, "bpf_map_delete_elem")

    with monkeypatch.context() as patched:
        patched.setattr(KernelBlocks, "remove", refuse)
        assert edge.engine.execute(SetAutoban(mode="off"), OPERATOR).ok
        frames = list(rounds(edge, [], 3))
    assert banned(frames[-1].autoban) == [ABUSER]
    told = [event.text for frame in frames for event in frame.events if "cannot be lifted" in event.text]
    assert len(told) == 1, "once, not in each frame"
    assert [frame for frame in rounds(edge, [], 30) if not frame.autoban.bans]
    assert not blocked(edge, ABUSER)


def test_a_lift_that_cannot_be_written_says_that_the_ban_would_be_back(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]

    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(edge.engine.store.blocks, "remove", refuse)
    edge.engine.banning.put("off")
    (frame,) = rounds(edge, [], 1)
    assert [event.text for event in frame.events if event.kind == "warning"] == [
        f"the ban of {ABUSER} is lifted, and would be back after a restart: [Errno {errno.ENOSPC}] full"
    ]


def test_while_it_is_not_known_who_is_protected_nobody_is_banned_anew(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]
    unread = "cannot find out who is logged in over SSH, so they are not protected: no"
    monkeypatch.setattr(protected, "surroundings", lambda: Surroundings(unread=(unread,)))
    found = last(rounds(edge, ["10.1.9.67"]))
    assert banned(found) == [ABUSER]
    assert unread in found.offenders[0].spared


@pytest.mark.soak
def test_a_ban_outlives_its_agent(edge: Edge, begin: Begin) -> None:
    assert banned(last(rounds(edge, [ABUSER]))) == [ABUSER]
    after = begin()
    assert blocked(after, ABUSER)
    found = after.engine.frame().autoban
    assert banned(found) == [ABUSER]
    over = [frame for frame in rounds(after, [], 16) if not frame.autoban.bans]
    assert over, "and is lifted by the next one"
    assert not blocked(after, ABUSER)
