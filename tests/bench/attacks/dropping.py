"""The program that only drops, on the clients' link, in front of the edge's."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from cdnctl.datapath import abi, kernel, toolchain
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import CLIENTS_LINK

SOURCE = Path(__file__).with_name("drop.c")
_PROGRAM = "drop"


@contextlib.contextmanager
def only_drops(lab: Lab, prefix: str) -> Iterator[None]:
    """While it is entered what comes from that prefix meets nothing else.

    The agent stands still meanwhile, or it would put its own program back.
    """
    network = IPv4Network(prefix)
    numbers = {"PREFIX": int(network.network_address), "NETMASK": int(network.netmask)}
    flags = [f"-D{name}={number:#x}u" for name, number in numbers.items()]
    module = toolchain.compile_module(SOURCE.read_text(), flags)
    with contextlib.ExitStack() as stack:
        stack.callback(module.cleanup)
        ours = toolchain.load_xdp(module, _PROGRAM, multi_buffer=True)
        stack.callback(os.close, ours)
        stack.enter_context(netns.entered(lab.topology.edge))
        link = socket.if_nametoindex(CLIENTS_LINK)
        edge = kernel.program_fd(kernel.xdp_program_id(link))
        stack.callback(os.close, edge)
        kernel.Map(module["next"].map_fd).put(abi.key(0), struct.pack("I", edge))
        lab.pause_agent()
        stack.callback(lab.resume_agent)
        kernel.xdp_attach(link, ours, kernel.XDP_FLAGS_DRV_MODE, replacing=edge)
        stack.callback(kernel.xdp_attach, link, edge, kernel.XDP_FLAGS_DRV_MODE, replacing=ours)
        yield
