"""What an interface is for the tables: by netlink's messages, and with VLAN devices over others."""

from __future__ import annotations

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cdnctl.datapath import abi
from cdnctl.datapath.links import Device, device, place
from cdnctl.errors import CdnctlError

MAC = bytes.fromhex("020000000001")
C_TAG, S_TAG = 0x8100, 0x88A8


def plain(ifindex: int = 3, name: str = "eth0", mtu: int = 1500, mac: bytes = MAC) -> Device:
    return Device(ifindex, name, mac, mtu, below=0, elsewhere=False, vlan=0, tpid=0)


def tagged(
    ifindex: int, name: str, below: int, vlan: int, tpid: int = C_TAG, *, elsewhere: bool = False
) -> Device:
    return Device(ifindex, name, MAC, 1496, below, elsewhere, vlan, tpid)


def test_a_plain_interface_is_itself() -> None:
    found = place("eth0", [plain(mtu=9000)])
    assert (found.root, found.keys) == ("eth0", ((3, 0, 0),))
    assert (found.link.ifindex, found.link.mtu, found.link.tpid) == (3, 9000, 0)
    assert (found.link.outer, found.link.inner, bytes(found.link.mac)) == (0, 0, MAC)


def test_a_vlan_device_leaves_by_the_one_below_with_its_tag() -> None:
    found = place("eth0.100", [plain(), tagged(7, "eth0.100", 3, 100)])
    assert (found.root, found.keys) == ("eth0", ((7, 0, 0), (3, 100, 0)))
    assert (found.link.ifindex, found.link.outer, found.link.inner) == (3, 100, 0)
    assert abi.show_port(found.link.tpid) == C_TAG
    assert found.link.mtu == 1496, "its own, not that of the device below"


def test_two_tags_are_the_outer_and_the_inner_one() -> None:
    devices = [plain(), tagged(7, "eth0.200", 3, 200, S_TAG), tagged(9, "eth0.200.5", 7, 5)]
    found = place("eth0.200.5", devices)
    assert found.root == "eth0"
    assert found.keys == ((9, 0, 0), (7, 5, 0), (3, 200, 5)), "it comes in by any of the three"
    assert (found.link.ifindex, found.link.outer, found.link.inner) == (3, 200, 5)
    assert abi.show_port(found.link.tpid) == S_TAG


def test_three_tags_are_too_many() -> None:
    devices = [plain(), tagged(4, "a", 3, 1), tagged(5, "b", 4, 2), tagged(6, "c", 5, 3)]
    with pytest.raises(CdnctlError, match="c has more than 2 VLAN tags"):
        place("c", devices)


@pytest.mark.parametrize(
    "devices", [[], [plain()]], ids=["not seen from here", "its index is another's here"]
)
def test_a_vlan_device_moved_away_from_the_one_below(devices: list[Device]) -> None:
    with pytest.raises(CdnctlError, match="another network namespace"):
        place("v", [*devices, tagged(7, "v", 3, 100, elsewhere=True)])


def test_one_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(CdnctlError, match="interface eth9 does not exist") as refused:
        place("eth9", [plain(), plain(1, "lo")])
    assert refused.value.remedy.startswith("there are eth0: make it, or mend [edge] interfaces")


@pytest.mark.parametrize("mac", [b"", bytes(6), bytes(20)])
def test_what_has_no_ethernet_address_is_no_link(mac: bytes) -> None:
    with pytest.raises(CdnctlError, match="no Ethernet device"):
        place("eth0", [plain(mac=mac)])


def test_an_mtu_that_does_not_fit_is_as_large_as_can_be() -> None:
    assert place("eth0", [plain(mtu=70_000)]).link.mtu == 65_535


def message(*attributes: tuple[str, object]) -> ifinfmsg:
    """As it comes from the kernel: written and read again."""
    made = ifinfmsg()
    made["index"], made["attrs"] = 7, list(attributes)
    made.encode()
    read = ifinfmsg(made.data)
    read.decode()
    return read


def test_a_message_of_a_vlan_device() -> None:
    data = {"attrs": [("IFLA_VLAN_ID", 200), ("IFLA_VLAN_PROTOCOL", S_TAG)]}
    info = {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]}
    read = message(
        ("IFLA_IFNAME", "eth0.200"),
        ("IFLA_ADDRESS", "02:00:00:00:00:01"),
        ("IFLA_MTU", 1496),
        ("IFLA_LINK", 3),
        ("IFLA_LINKINFO", info),
    )
    assert device(read) == tagged(7, "eth0.200", 3, 200, S_TAG)


def test_a_message_of_a_veth_is_of_no_vlan() -> None:
    read = message(
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_ADDRESS", "02:00:00:00:00:01"),
        ("IFLA_MTU", 1500),
        ("IFLA_LINK", 3),
        ("IFLA_LINK_NETNSID", 0),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]}),
    )
    found = device(read)
    assert (found.vlan, found.elsewhere) == (0, True)
    assert place("eth0", [found]).root == "eth0", "what it is paired with is not below it"
