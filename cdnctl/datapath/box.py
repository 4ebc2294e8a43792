"""The box as the data path finds it: what `cdnctl doctor` judges. Pure data; inspect.py fills it in.

None stands for what could not be looked at; `Box.unseen` says why.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from cdnctl.datapath.standing import Standing

XdpMode = Literal["native", "generic", "detached"]
NeighbourState = Literal["resolved", "failed", "unresolved", "missing"]


class Base(Struct, frozen=True, kw_only=True):
    """Common settings."""


class Peer(Base, frozen=True, kw_only=True):
    """The other end of a veth."""

    name: str
    where: str = ""
    """Its network namespace, when that is another one."""
    up: bool = True
    mtu: int = 1500
    native_xdp: bool = False
    gro: bool | None = None
    """None: this kind of thing is not asked of it."""
    checksums_left: bool | None = None
    """Whether it leaves checksums to hardware that is not there (transmit offload)."""
    rx_dropped: int = 0


class Interface(Base, frozen=True, kw_only=True):
    """One that the configuration names, or a device below it that the program is attached to."""

    name: str
    ifindex: int = 0
    """0: there is none of this name."""
    up: bool = True
    carrier: bool = True
    mtu: int = 1500
    kind: str = ""
    """As the kernel says: `veth`, `vlan`, `bond`; empty for hardware."""
    below: str = ""
    """Of a VLAN device the one that its frames really come and go by."""
    driver: str = ""
    xdp: XdpMode = "detached"
    program: str = ""
    """What is attached, by its name."""
    ours: bool | None = None
    """Whether that is this edge's."""
    holder: str = ""
    """The other edge whose program it is, if it is one's."""
    lro: bool | None = None
    strips_tags: bool | None = None
    """Hardware takes VLAN tags off before the program sees the frame (rxvlan)."""
    checksums_left: bool | None = None
    forwarding4: bool | None = None
    forwarding6: bool | None = None
    """None when it has no IPv6."""
    rp_filter: int = 0
    """The stricter of its own and all interfaces'."""
    networks: tuple[str, ...] = ()
    """Its addresses with their lengths."""
    peer: Peer | None = None
    peer_unseen: bool = False
    """It has one, in a namespace that could not be looked into."""


class Way(Base, frozen=True, kw_only=True):
    """How packets get to an endpoint's address."""

    address: str
    route: Literal["unicast", "local", "other", "none"] = "none"
    interface: str = ""
    gateway: str = ""
    """The next hop; empty: the endpoint itself."""
    neighbour: NeighbourState = "missing"
    unlocked_mtu: int = 0
    """What its route says fits, and the program does not see: the kernel tells it of a locked one alone."""
    entry: str = ""
    """That route, as `ip route change` takes it."""
    managed: bool = False
    """Kept resolved by the kernel, as the agent asks it to; or written down by an operator."""


class Ownership(Base, frozen=True, kw_only=True):
    """How packets for an address of ours get to this box."""

    address: str
    local: bool = False
    """It is an address of the box's own: the kernel answers for it."""
    carrier: str = ""
    """The interface that has it, when that is a real one, neither lo nor a dummy: others may know the box
    by it."""
    on_link: str = ""
    """It lies in this interface's network, so its neighbours ask who has it."""
    proxied: bool = False
    """The kernel answers for it all the same."""


class Socket(Base, frozen=True, kw_only=True):
    """A socket of the agent's."""

    path: str
    group: str = ""
    mode: int = 0


class Box(Base, frozen=True, kw_only=True):
    """Everything."""

    root: bool = True
    kernel: tuple[int, int] = (6, 1)
    release: str = ""
    btf: bool = True
    bpffs: bool = True
    bcc: bool = True
    libbpf: bool = True
    headers: bool = True
    """Of any kind that the compiler can use."""
    available_bytes: int = 0
    agent: bool = True
    """One answers."""
    silence: str = ""
    """What to do about one that is there and does not answer."""
    groups: tuple[str, ...] = ()
    """Those of cdnctl's that exist."""
    sockets: tuple[Socket, ...] = ()
    loaded: bool | None = None
    """Whether the edge's tables are pinned."""
    current: bool = True
    """The pinned program is of this version of cdnctl."""
    standing: Standing | None = None
    """How what is pinned stands to the configuration."""
    switches: tuple[str, ...] = ()
    """What is switched off or only observed: `disarmed`, `bypass`, `observe`."""
    invited_only: bool = False
    """SNAT addresses take packets of those on the list alone."""
    interfaces: dict[str, Interface] = field(default_factory=dict)
    """By name; devices below VLAN devices included."""
    ways: dict[str, Way] = field(default_factory=dict)
    """By the endpoint's address."""
    owners: dict[str, Ownership] = field(default_factory=dict)
    """By VIP or SNAT address."""
    port_clashes: tuple[tuple[str, str, str], ...] = ()
    """SNAT address, why, and what would help."""
    conntrack: bool = False
    """The kernel tracks connections here."""
    elsewhere: str = ""
    """Why nothing here was looked at that a network namespace has of its own: the edge lives in another."""
    where: str = ""
    """The network namespace that was looked at, when it is not that of whoever asks: by
    its name if it has one, else by a path."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at."""
