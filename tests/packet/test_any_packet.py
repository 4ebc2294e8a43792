"""Whatever comes in ends in exactly one counted verdict, and in an action in keeping with it.

200,000 packets that are more or less what the flows of the moment might say: by every mode of the edge and
every way to CDNs. CDNCTL_TEST_SEED repeats the packets of a run.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address

import pytest
from harness import ENDPOINTS, ENDPOINTS6, SERVICES, SNAT, SNAT6, Action, DataPath, seed_of_the_run
from mutants import mutated
from netbox import CLIENTS, LINKS
from rawmaps import Feeder, owner_word, whole
from segments import told
from warm import BLOCKED, NOW, Flows

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Mode, Transport, Verdict

PACKETS = 12_500
"""By each mode and transport, of which there are 16."""
BATCH = 2_500
TICKS_NS = 5_000_000
"""Between packets: so many answers are given, and so many are too many."""
MODES = {"active": Mode(0), "disarmed": Mode.DISARMED, "bypassed": Mode.BYPASS, "observing": Mode.OBSERVE}
LEFT = {Verdict.PASSED, Verdict.BYPASSED, Verdict.HANDED}
SENT = {
    *(Verdict.FORWARDED, Verdict.REPLIED, Verdict.RESET_CLIENT, Verdict.RESET_CDN, Verdict.ECHOED),
    *(Verdict.SAID_TOO_BIG, Verdict.SAID_TOO_LATE),
}
DEVICES = (CLIENTS, CLIENTS, *(link.name for link in LINKS))


def _packed(addresses: Iterable[str]) -> set[bytes]:
    return {ip_address(address).packed for address in addresses}


VIPS = _packed(vip for vip, _ in SERVICES.values())
OURS = VIPS | _packed((*SNAT, *SNAT6))
CDN_ADDRESSES = _packed(address for ends in (ENDPOINTS, ENDPOINTS6) for address, _ in ends.values())
TCP, UDP, ICMP4, ICMP6 = 6, 17, 1, 58
MAPPED = bytes(10) + b"\xff\xff"


def ends_of(frame: bytes) -> tuple[bytes, bytes]:
    """Source and destination of a packet, empty if it has none that can be read or believed."""
    at, tags = 12, 0
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8") and tags < 2:
        at, tags = at + 4, tags + 1
    kind, at = frame[at : at + 2], at + 2
    if kind == b"\x08\x00" and len(frame) >= at + 20:
        return frame[at + 12 : at + 16], frame[at + 16 : at + 20]
    if kind == b"\x86\xdd" and len(frame) >= at + 40:
        source, target = frame[at + 8 : at + 24], frame[at + 24 : at + 40]
        if source[:12] != MAPPED and target[:12] != MAPPED:
            return source, target
    return b"", b""


def _sum(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8) * (
        len(data) % 2
    )


def residues(frame: bytes) -> tuple[int, int] | None:
    """How wrong the checksums of an untagged packet are (RFC 1071), None where that is not asked.

    Whoever changes what they are over must not change this: what is right stays so, what is not does not
    become it.
    """
    kind, network = frame[12:14], 0
    if kind == b"\x08\x00":
        header, (length, _, fragment) = 14 + (frame[14] & 15) * 4, struct.unpack_from("!HHH", frame, 16)
        protocol, addresses, end = frame[23], frame[26:34], 14 + length
        network = _sum(frame[14:header])
        if fragment & 0x1FFF:
            return network % 0xFFFF, 0
    elif kind == b"\x86\xdd":
        protocol, addresses, header = frame[20], frame[22:54], 54
        end = 54 + int.from_bytes(frame[18:20], "big")
    else:
        return None
    if protocol not in (TCP, UDP, ICMP4, ICMP6) or (
        protocol == UDP and frame[header + 6 : header + 8] == b"\0\0"
    ):
        return network % 0xFFFF, 0
    pseudo = 0 if protocol == ICMP4 else _sum(addresses)
    return network % 0xFFFF, (pseudo + _sum(frame[header:end])) % 0xFFFF


def is_blocked(source: bytes) -> bool:
    return bool(source) and any(
        ip_address(source) in network
        for network in BLOCKED
        if network.version == (6 if len(source) == 16 else 4)
    )


class Hammer:
    """Packets by the thousand, each seen, counters looked at once for all of them."""

    def __init__(self, path: DataPath, transport: Transport, mode: Mode, seed: str) -> None:
        self.path, self.mode, self.chance = path, mode, random.Random(seed)
        self.flows = Flows(path, transport)
        self.feeder = Feeder(path.fd)
        self.clients: set[bytes] = set()
        """Who has ever sent anything to a VIP."""
        self.verdicts: Counter[Verdict] = Counter()
        self._indexes = {device: path.indexes[device] for device in DEVICES}

    def batch(self, count: int) -> None:
        """So many, beginning with every flow in its state."""
        chance, frames = self.chance, self.flows.frames
        self._warm()
        sent = [
            (mutated(chance, chance.choice(frames), frames), chance.choice(DEVICES)) for _ in range(count)
        ]
        before = self._counted()
        actions: Counter[int] = Counter()
        for number, (frame, device) in enumerate(sent):
            if number % 100 == 0:
                self.path.clock(NOW + 10**9 + number * TICKS_NS)
            actions[self._send(frame, device)] += 1
        counted = {
            verdict: n - before[verdict] for verdict, n in self._counted().items() if n != before[verdict]
        }
        self.verdicts.update({v: n for v, n in counted.items() if isinstance(v, Verdict)})
        if not self._agree(counted, actions, sent):
            self._narrow(sent)
            raise AssertionError(
                f"counted {counted} for actions {actions} of {count} packets, not found again"
            )

    def _warm(self) -> None:
        self.path.tables.mode = Mode(0)
        self.flows.again(self._known)
        self.path.change(fragments=self.chance.choice(list(abi.FragmentPolicy)))
        self.path.tables.mode = self.mode

    def _known(self, frame: bytes, device: str) -> None:
        self.clients.add(ends_of(frame)[0])
        self.feeder.run(frame, self._indexes[device])

    def _counted(self) -> dict[Verdict | str, int]:
        counts: dict[Verdict | str, int] = {"bytes": 0}
        for verdict, packets, octets in self.path.tables.counters.verdicts():
            counts[verdict] = packets
            counts["bytes"] += octets
        return counts

    def _agree(
        self, counted: dict[Verdict | str, int], actions: Counter[int], sent: list[tuple[bytes, str]]
    ) -> bool:
        """Is everything counted once, and what was done what was counted?"""
        octets = counted.pop("bytes")
        if sum(counted.values()) != len(sent) or octets != sum(len(frame) for frame, _ in sent):
            return False
        if Verdict.NO_STAGE in counted:
            return False
        if self.mode & (Mode.OBSERVE | Mode.BYPASS):
            return actions == {Action.PASS: len(sent)}
        left = sum(n for verdict, n in counted.items() if verdict in LEFT)
        gone = sum(n for verdict, n in counted.items() if verdict in SENT)
        return actions[Action.PASS] == left and actions[Action.TX] + actions[Action.REDIRECT] == gone

    def _narrow(self, sent: list[tuple[bytes, str]]) -> None:
        """The same again, one by one: says which of them was not counted once, or otherwise than it went."""
        self._warm()
        for number, (frame, device) in enumerate(sent):
            if number % 100 == 0:
                self.path.clock(NOW + 10**9 + number * TICKS_NS)
            seen = self.path.run(frame, device)
            quiet = bool(self.mode & (Mode.OBSERVE | Mode.BYPASS)) or seen.verdict in LEFT
            assert (seen.action is Action.PASS) == quiet, seen
            assert quiet or (seen.action is not Action.DROP) == (seen.verdict in SENT), seen

    def _send(self, frame: bytes, device: str) -> int:
        """One of them, and whether it may be so."""
        action = self.feeder.run(frame, self._indexes[device])
        source, target = ends_of(frame)
        if target in VIPS:
            self.clients.add(source)
        if action == Action.PASS:
            assert self.feeder.out() == frame, f"changed and let through: {told(frame)}"
        elif action in (Action.TX, Action.REDIRECT):
            assert not self.mode & (Mode.OBSERVE | Mode.BYPASS), told(frame)
            assert target in OURS, f"not for us, and yet sent on or answered: {told(frame)}"
            out = self.feeder.out()
            if action == Action.REDIRECT and len(out) == len(frame):  # translated, and nothing else
                assert residues(out) == residues(frame), f"summed up wrongly: {told(frame)}"
            to = ends_of(out)[1]
            assert to == source or to in CDN_ADDRESSES or to in self.clients, f"sent astray: {told(frame)}"
        else:
            assert action == Action.DROP, f"action {action}: {told(frame)}"
            assert target in OURS or is_blocked(source), f"not for us, and yet dropped: {told(frame)}"
        return action

    def forward_entries_own_their_slots(self) -> None:
        """The invariant of slot.h, after all that."""
        _, values = whole(self.path.tables.reverse)
        size = abi.size(abi.Slot)
        tables = self.path.tables
        for table in (tables.half_open, tables.established, tables.datagrams):
            for key, value in table.items():
                flow_key, flow = abi.FlowKey.from_buffer_copy(key), abi.Flow.from_buffer_copy(value)
                if flow.slot != abi.NO_SLOT:
                    slot = abi.Slot.from_buffer_copy(values, flow.slot * size)
                    assert slot.owner == owner_word(flow_key, flow)


def hammered(path: DataPath, transport: Transport, mode: Mode, packets: int) -> None:
    seed = f"{seed_of_the_run()}"
    print(f"CDNCTL_TEST_SEED={seed}")
    hammer = Hammer(path, transport, mode, f"{seed} {transport} {mode}")
    for _ in range(packets // BATCH):
        hammer.batch(BATCH)
        hammer.forward_entries_own_their_slots()
    if mode == Mode(0):
        assert len(hammer.verdicts) >= 20, f"only {sorted(hammer.verdicts)}: these mutations test too little"


@pytest.mark.flaky(reruns=0)  # another time the packets would be others
@pytest.mark.parametrize("transport", Transport, ids=lambda transport: transport.name)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_any_packet_ends_in_exactly_one_counted_verdict(
    path: DataPath, mode: Mode, transport: Transport
) -> None:
    hammered(path, transport, mode, PACKETS)


@pytest.mark.soak
@pytest.mark.flaky(reruns=0)
@pytest.mark.parametrize("transport", Transport, ids=lambda transport: transport.name)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_any_packet_at_all(path: DataPath, mode: Mode, transport: Transport) -> None:
    hammered(path, transport, mode, 20 * PACKETS)


@pytest.mark.parametrize("length", [14, 33, 34, 53, 54, 60, 1514, 3000])
def test_any_bytes_at_all(path: DataPath, length: int) -> None:
    chance, feeder = random.Random(length), Feeder(path.fd)
    before = sum(packets for _, packets, _ in path.tables.counters.verdicts())
    for _ in range(1000):
        kind = chance.choice((b"\x08\x00", b"\x86\xdd", b"\x81\x00"))
        frame = chance.randbytes(12) + kind + chance.randbytes(length - 14)
        assert feeder.run(frame, path.indexes[CLIENTS]) == Action.PASS, told(frame)
        assert feeder.out() == frame
    assert sum(packets for _, packets, _ in path.tables.counters.verdicts()) == before + 1000
