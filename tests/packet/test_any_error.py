"""Whatever comes in as an error, a fragment, tagged or for a tunnel: one counted verdict, and its action."""

from __future__ import annotations

import random

import pytest
from errors import ERRORS, FROM_CLIENTS, KINDS, LINK, ROUTER, answers, asks, begins, error, family_of
from harness import Action, DataPath, seed_of_the_run
from netbox import CLIENTS
from scapy.compat import raw
from session import Flow
from tags import QINQ, SINGLE, tagged
from test_any_packet import PASSES, SENT_ON, mutated
from test_fragments import pieces

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Transport, Verdict

PACKETS = 4_000
LEFT = {*PASSES, Verdict.HANDED}


def about(flow: Flow, up: bytes, down: bytes) -> list[bytes]:
    """Errors about what the flow said."""
    family = family_of(flow.service[0])
    frames = []
    for kind in ERRORS:
        if kind.family == family:
            source, macs = ROUTER[family], (LINK.gateway_mac, LINK.mac)
            frames.append(error(kind.header, source, flow.service[0], down, FROM_CLIENTS))
            if flow.snat[0]:
                frames.append(error(kind.header, source, flow.snat[0], up, macs))
    return frames


def originals(path: DataPath, transport: Transport) -> list[bytes]:
    """Frames to start from, of live flows."""
    frames = []
    for made, service in KINDS.values():
        flow = made(path, service)
        path.change_endpoint("aurora", flow.pool, transport=transport, tunnel_port=6080, mss=1200)
        if transport is Transport.NAT:
            flow.open()
            up, down = (
                path.run(raw(asks(flow))).frame[14:],
                path.run(raw(answers(flow)), LINK.name).frame[14:],
            )
            frames += pieces(answers(flow, bytes(500)))
        else:
            up, down = path.run(raw(begins(flow))).frame[14:], b""
        frames += about(flow, up, down) + pieces(asks(flow, bytes(500)))
        frames += [tagged(raw(asks(flow)), tags) for tags in (SINGLE, QINQ)]
        frames += [raw(begins(flow))]
    return frames


@pytest.mark.usefixtures("filled_headroom")
@pytest.mark.parametrize(
    "mode", [abi.Mode(0), abi.Mode.DISARMED, abi.Mode.OBSERVE], ids=["armed", "disarmed", "observing"]
)
@pytest.mark.parametrize("transport", Transport, ids=lambda transport: transport.name)
def test_one_verdict_and_its_action(path: DataPath, transport: Transport, mode: abi.Mode) -> None:
    seed = seed_of_the_run()
    print(f"CDNCTL_TEST_SEED={seed}")
    chance = random.Random(seed)
    frames = originals(path, transport)
    path.tables.mode = mode
    for _ in range(PACKETS if mode is abi.Mode(0) else PACKETS // 8):
        frame = mutated(chance, chance.choice(frames), frames)
        seen = path.run(
            frame, chance.choice((CLIENTS, LINK.name))
        )  # asserts that it was counted, once, whole
        if mode is abi.Mode.OBSERVE or seen.verdict in LEFT:
            assert (seen.action, seen.frame) == (Action.PASS, frame), seen
        elif seen.verdict in SENT_ON:
            assert seen.action in (Action.TX, Action.REDIRECT), seen
        else:
            assert seen.action is Action.DROP, seen
