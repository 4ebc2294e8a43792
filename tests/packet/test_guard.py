"""Who is asked about, who is not, and who gets in whatever is blocked."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest
from blocking import FOUR, SIX, Guarded, Names, is_blocked, packet
from harness import SNAT6, VIP6, Action, DataPath, seed_of_the_run
from netbox import CLIENTS
from scapy.compat import raw
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from segments import Flag, segment
from session import Session

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.clients import Client
from cdnctl.datapath.hints import CELLS_PER_WORD, cell6
from cdnctl.defence.blocklist import Network

# -- the operators --


@pytest.fixture
def managed(guarded: Guarded) -> Iterator[Guarded]:
    """Operators of both families."""
    tables, configured = guarded.path.tables, guarded.path.config.edge.management
    tables.set_management([ip_network(FOUR.around_manager), ip_network(SIX.around_manager)])
    yield guarded
    tables.set_management(list(map(ip_network, configured)))


def test_the_operators_way_in_stays_open(managed: Guarded, at: Names) -> None:
    managed.block(at.around_manager)
    assert packet(managed.path, at.manager, (at.elsewhere, 22)).verdict is Verdict.PASSED
    assert packet(managed.path, at.manager, (at.snat, 22)).verdict is Verdict.PASSED
    assert packet(managed.path, at.manager, (at.vip, 80)).verdict is Verdict.BLOCKED


def test_it_leads_to_the_ports_of_a_vip_that_no_service_has(managed: Guarded, at: Names) -> None:
    """It may be the host's own address."""
    run = managed.path.run
    for flags in (Flag.SYN, Flag.ACK, Flag.ACK | Flag.PSH):
        assert run(segment((at.manager, 40000), (at.vip, 22), flags)).verdict is Verdict.PASSED
        assert run(segment((at.one, 40000), (at.vip, 22), flags)).action is not Action.PASS
    assert run(segment((at.manager, 40000), (at.vip, 80), Flag.ACK)).verdict is Verdict.RESET_CLIENT
    assert run(segment((at.manager, 40000), (at.vip, 80), Flag.SYN)).verdict is Verdict.FORWARDED


def test_anybody_elses_does_not(managed: Guarded, at: Names) -> None:
    managed.block(at.one)
    for target in ((at.elsewhere, 22), (at.snat, 22), (at.vip, 80)):
        assert packet(managed.path, at.one, target).verdict is Verdict.BLOCKED


# -- neighbours --

NEIGHBOUR = "2001:db8:1:2::3"
BY_NEIGHBOURS = [
    ICMPv6ND_RS(),
    ICMPv6ND_RA(),
    ICMPv6ND_NS(tgt=VIP6),
    ICMPv6ND_NA(tgt=NEIGHBOUR),
    ICMPv6ND_Redirect(tgt=NEIGHBOUR, dst="2001:db8:2::1"),
]


def said(message: Packet, target: str, hop_limit: int = 255) -> bytes:
    """By a neighbour that is blocked."""
    return raw(Ether(dst="33:33:00:00:00:01") / IPv6(src=NEIGHBOUR, dst=target, hlim=hop_limit) / message)


@pytest.mark.parametrize("message", BY_NEIGHBOURS, ids=lambda message: type(message).__name__)
def test_neighbours_find_each_other_whatever_is_blocked(guarded: Guarded, message: Packet) -> None:
    """As they would by ARP, which is no IP packet: else a block of a router's prefix cuts the link."""
    guarded.block("2001:db8:1::/48")
    assert guarded.path.run(said(message, "ff02::1")).verdict is Verdict.PASSED
    for ours in (VIP6, SNAT6[0]):
        assert guarded.path.run(said(message, ours)).verdict is Verdict.PASSED


@pytest.mark.parametrize("message", BY_NEIGHBOURS, ids=lambda message: type(message).__name__)
def test_what_was_routed_here_is_from_no_neighbour(guarded: Guarded, message: Packet) -> None:
    guarded.block("2001:db8:1::/48")
    for target in ("ff02::1", VIP6, SNAT6[0]):
        assert guarded.path.run(said(message, target, hop_limit=254)).verdict is Verdict.BLOCKED


@pytest.mark.parametrize("message", [ICMPv6EchoRequest(), ICMPv6MLReport()])
def test_nothing_else_gets_through_that_way(guarded: Guarded, message: Packet) -> None:
    guarded.block("2001:db8:1::/48")
    assert guarded.path.run(said(message, "ff02::1")).verdict is Verdict.BLOCKED
    assert guarded.path.run(said(message, VIP6)).verdict is Verdict.BLOCKED


# -- who is allowed --


def allow(guarded: Guarded, *prefixes: str) -> None:
    """These, and nobody else."""
    flags = abi.ClientFlag.ALLOWED
    guarded.path.tables.clients.load({ip_network(prefix): Client(flags=flags) for prefix in prefixes})


def test_an_allowed_client_is_not_blocked_by_whatever_covers_it(guarded: Guarded, at: Names) -> None:
    allow(guarded, at.one)
    for prefix in (at.one, *at.nested):
        guarded.block(prefix)
    assert not is_blocked(guarded.path, at.one)
    assert is_blocked(guarded.path, at.beside[0])
    allow(guarded)
    assert is_blocked(guarded.path, at.one)


def test_the_longest_prefix_of_a_client_decides(guarded: Guarded, at: Names) -> None:
    wide, narrow = (ip_network(prefix) for prefix in at.nested[:2])
    guarded.block(at.nested[0])
    guarded.path.tables.clients.load({wide: Client(flags=abi.ClientFlag.ALLOWED), narrow: Client(customer=1)})
    assert is_blocked(guarded.path, at.one)
    assert not is_blocked(guarded.path, str(wide.broadcast_address))


def test_an_allowed_client_opens_and_keeps_its_sessions(guarded: Guarded, at: Names) -> None:
    live = Session(guarded.path, at.service, client=at.client).open()
    allow(guarded, at.client)
    guarded.block(at.around_client)
    assert live.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert live.down(Flag.ACK).verdict is Verdict.REPLIED
    Session(guarded.path, at.service, client=at.client).open()
    assert guarded.path.blocks.hits(ip_network(at.around_client)) == 0


def test_an_allowance_of_one_family_is_none_of_the_other(guarded: Guarded) -> None:
    guarded.block(FOUR.around_client)
    guarded.block(SIX.around_client)
    allow(guarded, "2001:db8::/32")
    assert is_blocked(guarded.path, FOUR.client)
    assert not is_blocked(guarded.path, SIX.client)
    allow(guarded, "10.0.0.0/8")
    assert not is_blocked(guarded.path, FOUR.client)
    assert is_blocked(guarded.path, SIX.client)


# -- the hints --


def set_cell(path: DataPath, cell: int, bits: int) -> None:
    """One cell of IPv6, and no other."""
    table = path.map("block6_bits")
    word = bits << (cell % CELLS_PER_WORD * 2)
    table.put(abi.key(cell // CELLS_PER_WORD), struct.pack("Q", word))


def test_both_sides_hash_alike(path: DataPath) -> None:
    """Every address is in the tables, and found by the one cell that user space says is its own."""
    rng, entry = random.Random(seed_of_the_run()), bytes(abi.Block(length=128))
    addresses = [IPv6Address(rng.getrandbits(128)) for _ in range(200)]
    addresses += [IPv6Address(site << 80) for site in (1, 2**47, 2**48 - 1, 0x20010DB80000, 0x20010DB80001)]
    exact = path.map("block_exact")
    for address in addresses:
        cell, key = cell6(address.packed), abi.packed(address)
        exact.put(key, entry)
        try:
            set_cell(path, cell, abi.BLOCK_EXACT)
            assert is_blocked(path, str(address))
            set_cell(path, cell, abi.BLOCK_PREFIX)
            assert not is_blocked(path, str(address))
            set_cell(path, cell ^ 1, abi.BLOCK_EXACT)
            assert not is_blocked(path, str(address))
        finally:
            set_cell(path, cell, 0)
            exact.delete(key)


def colliding() -> tuple[IPv6Network, IPv6Network]:
    """Two /48 of one cell."""
    rng, seen = random.Random(1), dict[int, IPv6Network]()
    while True:
        network = IPv6Network((0x2001 << 112 | rng.getrandbits(32) << 80, 48))
        other = seen.setdefault(cell6(network.network_address.packed), network)
        if other != network:
            return other, network


@pytest.mark.parametrize("length", [128, 64, 48])
def test_who_shares_a_cell_is_not_blocked_with_it(guarded: Guarded, length: int) -> None:
    one, other = (str(network.network_address) for network in colliding())
    guarded.block(f"{one}/{length}")
    assert is_blocked(guarded.path, one)
    assert not is_blocked(guarded.path, other)
    guarded.block(f"{other}/{length}")
    guarded.unblock(f"{one}/{length}")
    assert not is_blocked(guarded.path, one)
    assert is_blocked(guarded.path, other)


def test_a_wide_prefix_makes_everybody_ask_and_blocks_nobody_else(guarded: Guarded) -> None:
    for wide in ("2001:db8::/32", "2400::/16"):
        guarded.block(wide)
    guarded.unblock("2001:db8::/32")
    assert is_blocked(guarded.path, "2400:1::1")
    assert not is_blocked(guarded.path, "2001:db8::1")
    assert not is_blocked(guarded.path, "10.1.2.3")
    guarded.unblock("2400::/16")
    assert guarded.path.map("block_wide").get(abi.key(0)) == bytes(4)


# -- all together, against the definition --

UNIVERSE = [
    *("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.0/25", "10.1.2.3/32", "10.1.2.4/32"),
    *("10.1.2.128/26", "10.1.3.0/24", "10.2.0.0/15"),
    *("2000::/16", "2001:db8::/32", "2001:db8::/47", "2001:db8:1::/48", "2001:db8:1:2::/64"),
    *("2001:db8:1:2::3/128", "2001:db8:1:2::4/128", "2001:db8:1:2::/127", "2001:db8:1:8000::/49"),
    *(f"{network.network_address}/{length}" for network in colliding() for length in (48, 64, 128)),
]
ADDRESSES = sorted(
    {
        address
        for network in map(ip_network, UNIVERSE)
        for address in (network.network_address, network.broadcast_address)
    },
    key=lambda address: (address.version, int(address)),
)


def holds(networks: dict[Network, int], address: IPv4Address | IPv6Address, now: int) -> bool:
    """Whether one that has not ended has the address."""
    return any(address in network and (not end or end > now) for network, end in networks.items())


def test_the_kernel_blocks_what_the_list_says(guarded: Guarded) -> None:
    """Changes at random, of which some end and some are only found by a start; packets after each."""
    rng = random.Random(seed_of_the_run())
    path, wanted, allowed = guarded.path, dict[Network, int](), dict[Network, int]()
    frames = {
        address: segment(
            (str(address), 1), (SIX.elsewhere if address.version == 6 else FOUR.elsewhere, 9), Flag.SYN
        )
        for address in ADDRESSES
    }
    for step in range(300):
        network = ip_network(rng.choice(UNIVERSE))
        now = time.time_ns()
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                wanted[network] = rng.choice([0, now + 3_600_000_000_000])
                path.blocks.put(network, wanted[network])
            case 4 | 5:
                wanted[network] = 1  # over already, and in the way
                path.blocks.put(network, 1)
            case 6 | 7 if wanted:
                gone = rng.choice(list(wanted))
                del wanted[gone]
                path.blocks.remove(gone)
            case 8:
                wanted = {ip_network(each): 0 for each in rng.sample(UNIVERSE, 5)}
                path.blocks.load(wanted)
            case _:
                allowed = {ip_network(each): 0 for each in rng.sample(UNIVERSE, rng.randrange(3))}
                allow(guarded, *map(str, allowed))
        for address in ADDRESSES:
            ran = kernel.test_run(path.fd, frames[address], ifindex=path.indexes[CLIENTS])
            expected = holds(wanted, address, now) and not holds(allowed, address, now)
            assert (ran.action == Action.DROP) == expected, (step, address, wanted, allowed)
