"""The program on interfaces: without kernel headers, native or generic, and never in place of a stranger."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import CONFIG, TEST_CLOCK, VIP, DataPath
from netbox import CLIENT_SIDE_MAC, CLIENTS, ROUTER_MAC, name
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from segments import Flag, segment

from cdnctl.datapath import attach, build, holders, kernel, loading
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.kernel import libbpf
from cdnctl.datapath.program import Program
from cdnctl.errors import CdnctlError
from cdnctl.lab import netns

XDP = 6
ACCEPTS = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)
"""`return XDP_PASS`."""


def load_stranger() -> int:
    """A trivial XDP program of another name."""
    fd: int = libbpf().bpf_prog_load(XDP, b"stranger", b"GPL", ACCEPTS, ctypes.c_size_t(2), None)
    return kernel.check(fd, "bpf_prog_load")


@pytest.fixture
def stranger() -> Iterator[int]:
    """The file descriptor of somebody else's program."""
    fd = load_stranger()
    yield fd
    os.close(fd)


@pytest.fixture
def device(inside: dict[str, int]) -> Iterator[str]:
    """An interface of its own whose driver can do XDP."""
    yield from _made("spare", kind="veth", peer={"ifname": "spare-far"})


@pytest.fixture
def plain_device(inside: dict[str, int]) -> Iterator[str]:
    """An interface whose driver cannot."""
    yield from _made("plain", kind="bridge")


def _made(device: str, **fields: object) -> Iterator[str]:
    with netns.netlink(name()) as ip:
        ip.link("add", ifname=device, **fields)
        index = ip.link_lookup(ifname=device)[0]
        ip.link("set", index=index, state="up")
        yield device
        ip.link("del", index=index)


def maps_of(program: int) -> frozenset[int]:
    """What marks a program as ours."""
    return kernel.program_map_ids(program)


def attached_id(device: str) -> int:
    return kernel.xdp_program_id(attach.interface_index(device))


@pytest.mark.soak
def test_it_compiles_and_attaches_where_there_are_no_kernel_headers(device: str) -> None:
    edge = name("-bare")
    loader = Path(__file__).with_name("bare_loader.py")
    try:
        done = subprocess.run(
            [sys.executable, loader, edge, name(), device], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"compiled": True, "name": device, "mode": "native", "warning": ""}
        # the loader is gone, and what it loaded goes on
        program = Program(edge).open()
        try:
            assert kernel.program_id(program) == attached_id(device)
            assert kernel.test_run(program, bytes(60)).action == 2
            assert attach.attached_to(maps_of(program)) == [(device, "native")]
            assert attach.detach(device, maps_of(program))
        finally:
            os.close(program)
    finally:
        Program(edge).remove()


def test_native_where_the_driver_can(path: DataPath, device: str) -> None:
    assert attach.attach(device, path.fd, "auto") == (device, "native", "")
    assert attach.attach(device, path.fd, "auto") == (device, "native", ""), "a second time changes nothing"
    assert attach.detach(device, maps_of(path.fd))
    assert attach.mode_of(attach.interface_index(device)) == "detached"
    assert not attach.detach(device, maps_of(path.fd))


def test_another_edges_program_is_told_from_a_strangers(path: DataPath, device: str) -> None:
    """And nobody is told to take it off by hand: that would end an edge."""
    attach.attach(device, path.fd, "auto")
    edge = holders.holder(attach.interface_index(device))
    assert Program(edge).maps() & maps_of(path.fd)
    with pytest.raises(CdnctlError) as caught:
        attach.check([device], frozenset({0}))
    assert caught.value.message == f"interface {device} is held by edge {edge}"
    assert f"cdnctl --edge {edge} status" in caught.value.remedy
    assert "xdp off" not in caught.value.remedy
    attach.check([device], maps_of(path.fd))
    assert attach.detach(device, maps_of(path.fd))
    assert holders.holder(attach.interface_index(device)) == ""


def test_generic_where_it_cannot_and_it_says_so(path: DataPath, plain_device: str) -> None:
    result = attach.attach(plain_device, path.fd, "auto")
    assert (result.name, result.mode) == (plain_device, "generic")
    assert "generic" in result.warning
    assert plain_device in result.warning
    assert attach.detach(plain_device, maps_of(path.fd))


def test_one_that_is_generic_makes_all_generic(path: DataPath, device: str, plain_device: str) -> None:
    """The kernel would drop what a native one redirects to it."""
    names = [device, plain_device]
    assert attach.attach(device, path.fd, "auto").mode == "native"
    found = attach.attach_all(names, path.fd, "auto")
    assert [(result.name, result.mode) for result in found] == [(each, "generic") for each in names]
    assert f"cannot leave by {plain_device}" in found[0].warning
    again = attach.attach_all(names, path.fd, "auto")
    assert [result.mode for result in again] == ["generic", "generic"]
    assert [attached_id(each) for each in names] == [kernel.program_id(path.fd)] * 2
    for each in names:
        assert attach.detach(each, maps_of(path.fd))


def test_generic_because_the_operator_wants_it_needs_no_warning(path: DataPath, device: str) -> None:
    assert attach.attach(device, path.fd, "generic") == (device, "generic", "")
    assert attach.detach(device, maps_of(path.fd))


def test_native_or_nothing(path: DataPath, plain_device: str) -> None:
    with pytest.raises(CdnctlError, match=f"interface {plain_device} takes no XDP program") as refused:
        attach.attach(plain_device, path.fd, "native")
    assert refused.value.remedy
    assert attached_id(plain_device) == 0


@pytest.fixture
def jumbo(inside: dict[str, int]) -> Iterator[str]:
    """An interface whose frames do not fit into one buffer."""
    yield from _made("jumbo", kind="veth", mtu=9000, peer={"ifname": "jumbo-far", "mtu": 9000})


@pytest.fixture
def one_buffer() -> Iterator[int]:
    """A program as an old kernel takes it."""
    fd = loading.load_xdp(ACCEPTS, "edge" + loading.SINGLE, multi_buffer=False)
    yield fd
    os.close(fd)


def test_large_frames_are_no_matter(path: DataPath, jumbo: str) -> None:
    assert attach.attach(jumbo, path.fd, "native") == (jumbo, "native", "")
    assert attach.detach(jumbo, maps_of(path.fd))
    to_elsewhere = segment(("10.1.0.7", 4000), ("192.0.2.1", 80), Flag.ACK, payload=bytes(range(256)) * 34)
    seen = path.run(to_elsewhere)  # asserts that all its bytes were counted
    assert (seen.verdict, seen.frame) == (Verdict.PASSED, to_elsewhere)


def test_where_they_are_it_says_why_and_what_helps(one_buffer: int, jumbo: str) -> None:
    with pytest.raises(CdnctlError, match=f"interface {jumbo} takes no XDP program .*MTU 9000") as refused:
        attach.attach(jumbo, one_buffer, "native")
    assert f"ip link set dev {jumbo} mtu" in refused.value.remedy
    result = attach.attach(jumbo, one_buffer, "auto")
    assert result.mode == "generic"
    assert "MTU 9000" in result.warning
    kernel.xdp_detach(attach.interface_index(jumbo), kernel.XDP_FLAGS_SKB_MODE, expected=one_buffer)


def test_the_verifiers_own_words_are_in_the_refusal() -> None:
    reads_beyond = struct.pack("<BBhiBBhiBBhi", 0x61, 0x11, 0, 0, 0x61, 0x10, 0, 0, 0x95, 0, 0, 0)
    with pytest.raises(CdnctlError, match="invalid access to packet"):
        loading.load_xdp(reads_beyond, "bad", multi_buffer=True)


@pytest.mark.parametrize(
    "flag", [kernel.XDP_FLAGS_DRV_MODE, kernel.XDP_FLAGS_SKB_MODE], ids=["native", "generic"]
)
@pytest.mark.parametrize("wish", ["auto", "native", "generic"])
def test_a_strangers_program_stays_and_is_named(
    path: DataPath, device: str, stranger: int, flag: int, wish: str
) -> None:
    index = attach.interface_index(device)
    kernel.xdp_attach(index, stranger, flag)
    with pytest.raises(CdnctlError) as refused:
        attach.attach(device, path.fd, wish)  # type: ignore[arg-type]
    assert "'stranger'" in refused.value.message
    assert device in refused.value.message
    assert f"ip link set dev {device} xdp off" in refused.value.remedy
    assert attached_id(device) == kernel.program_id(stranger)
    assert not attach.detach(device, maps_of(path.fd)), "nor is it taken off"
    assert attached_id(device) == kernel.program_id(stranger)


def test_an_interface_that_is_not_there(path: DataPath) -> None:
    with pytest.raises(CdnctlError, match="interface eth77 does not exist") as refused:
        attach.attach("eth77", path.fd, "auto")
    assert CLIENTS in refused.value.remedy
    assert not attach.detach("eth77", maps_of(path.fd))


@pytest.mark.soak
def test_each_generation_of_programs_has_its_own_stages(inside: dict[str, int]) -> None:
    """A packet of the old one goes on in the old one's stages, until nobody has it any more."""
    ping = bytes(Ether(dst=CLIENT_SIDE_MAC, src=ROUTER_MAC) / IP(src="10.1.0.7", dst=VIP) / ICMP())
    path = DataPath(CONFIG, name("-stages"), inside, cflags=())
    try:
        later = Program(name("-stages"), cflags=["-DLATER"])
        assert path.run(ping).verdict is Verdict.ECHOED
        assert later.prepare(path.config)
        assert path.run(ping).verdict is Verdict.ECHOED, "nothing has changed for it"
        old, path.fd = path.fd, later.open()
        assert path.run(ping).verdict is Verdict.ECHOED, "the next one works before anything is pinned"
        later.commit()
        os.close(old)
        assert path.run(ping).verdict is Verdict.ECHOED, "and goes on when the old one's array is gone"
        assert {pin.name for pin in later.pins.iterdir()} >= set(build.PINNED)
        assert not (later.pins / build.NEXT).exists()
    finally:
        path.close()


def test_pins_are_taken_over_without_compiling(path: DataPath) -> None:
    assert Program(path.config.edge.name, cflags=[TEST_CLOCK]).ensure(path.config) is False
