"""What is wrong with the box, and what to do about it: judges a `Box`, looks at nothing itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from cdnctl import paths
from cdnctl.config import Config, family, memory
from cdnctl.datapath import holders
from cdnctl.datapath.box import Box, Interface, Ownership, Peer, Way
from cdnctl.errors import sudo_line

Level = Literal["ok", "warn", "fail", "unknown"]

_MANAGED_NEIGHBOURS = (5, 16)
_MANY_BUFFERS = (5, 18)
_LEAST_MTU_IPV6 = 1280
_STRICT = 1
_SOCKET_MODE = 0o660
_OVERHEAD = {"ipip": 0, "gue": 8}
"""Bytes of a tunnel's headers beside the network header."""
_NETWORK_HEADER = {4: 20, 6: 40}
_BPFFS = "/sys/fs/bpf"
_OF_A_NAMESPACE = re.compile(
    r"(nsenter \S+ )?\b(?:ip (?:-\w )?(?:addr|link|neigh|route) |ethtool -|ping -|sysctl -)"
)
"""Commands that act on the network namespace that they run in."""


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    level: Level
    what: str
    """What it is about: `kernel`, `eth0`, `198.51.100.10`."""
    text: str
    remedy: str = ""
    """What to do, as a command where there is one."""


def judge(box: Box, config: Config | None) -> list[Finding]:
    """Everything, in the order that one would look at it. Without a configuration: the box itself."""
    findings = [*_host(box), *_rights(box)]
    if config is None:
        return findings
    findings += _memory(box, config)
    findings += _data_path(box, config)
    if box.elsewhere:
        text = f"{box.elsewhere}: its interfaces, routes and addresses are not known"
        findings.append(Finding("unknown", "network", text, _enter(box)))
        return list(_merged(findings))
    findings += (_reaching_in(box, each) for each in _network(box, config))
    return list(_merged(findings))


def _enter(box: Box) -> str:
    return "name the one it is in: --netns NAME" if box.root else sudo_line()


def _network(box: Box, config: Config) -> Iterator[Finding]:
    """What a network namespace has of its own."""
    for name in config.edge.interfaces:
        yield from _interface(box, config, box.interfaces.get(name, Interface(name=name)))
    for name, each in box.interfaces.items():
        if name not in config.edge.interfaces:
            yield from _device(box, config, each)
            yield from _peer(each, each.peer) if each.peer else ()
    yield from _ways(box, config)
    yield from (_owner(box, config, each) for each in box.owners.values())
    yield from _ports(box, config)


def _reaching_in(box: Box, each: Finding) -> Finding:
    """With commands that work from where whoever asks is."""
    if not box.where or not each.remedy:
        return each
    remedy = _OF_A_NAMESPACE.sub(
        lambda found: found[0] if found[1] else f"{_into(box.where)}{found[0]}", each.remedy
    )
    return replace(each, remedy=remedy)


def _merged(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What is well about one thing takes one line."""
    held: Finding | None = None
    for each in findings:
        if held and held.level == each.level == "ok" and held.what == each.what:
            held = Finding("ok", held.what, f"{held.text}, {each.text}")
            continue
        if held:
            yield held
        held = each
    if held:
        yield held


# --- the box itself ------------------------------------------------------------------------------------


def _host(box: Box) -> Iterator[Finding]:
    upgrade = "upgrade to a kernel of 5.18 or later"
    if box.kernel < _MANAGED_NEIGHBOURS:
        text = f"{box.release}: next hops cannot be kept resolved before 5.16"
        yield Finding("fail", "kernel", text, upgrade)
    elif box.kernel < _MANY_BUFFERS:
        text = f"{box.release}: no frames in several buffers before 5.18"
        yield Finding(
            "warn", "kernel", f"{text}: interfaces of a large MTU fall back to generic mode", upgrade
        )
    else:
        yield Finding("ok", "kernel", box.release)
    if box.btf:
        yield Finding("ok", "BTF", "there")
    else:
        text = "the kernel has none: tools that look at maps and programs show bytes without names"
        yield Finding("warn", "BTF", text, "a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build it")
    if box.bpffs:
        yield Finding("ok", "bpffs", f"mounted on {_BPFFS}")
    else:
        text = f"not mounted on {_BPFFS}: the agent would do it"
        yield Finding("warn", "bpffs", text, f"mount -t bpf bpf {_BPFFS}")
    missing = [
        Finding("fail", what, text, f"apt-get install {package}")
        for there, what, text, package in (
            (box.bcc, "BCC", "missing: it compiles the data path", "python3-bpfcc"),
            (box.libbpf, "libbpf", "missing: it loads the data path", "libbpf1"),
            (box.headers, "headers", "none that the compiler could use", "linux-libc-dev"),
        )
        if not there
    ]
    yield from missing or [Finding("ok", "compiler", "BCC, libbpf and headers are there")]


def _rights(box: Box) -> Iterator[Finding]:
    for group, may in ((paths.OPERATORS_GROUP, "operate"), (paths.VIEWERS_GROUP, "watch")):
        if group in box.groups:
            yield Finding("ok", f"group {group}", f"its members may {may} the edge")
        else:
            text = f"there is none: only root may {may} the edge"
            yield Finding("warn", f"group {group}", text, f"groupadd --system {group}")
    for each in box.sockets:
        wanted = paths.VIEWERS_GROUP if ".view." in each.path else paths.OPERATORS_GROUP
        if wanted in box.groups and (each.group != wanted or each.mode != _SOCKET_MODE):
            text = f"group {each.group}, mode {each.mode:04o}: its group came after it"
            remedy = f"chgrp {wanted} {each.path} && chmod 0660 {each.path}"
            yield Finding("warn", "socket", f"{each.path}: {text}", remedy)


def _memory(box: Box, config: Config) -> Iterator[Finding]:
    wanted = sum(memory(config).values())
    if box.loaded:
        yield Finding("ok", "memory", f"the tables have theirs: up to {_mb(wanted)}")
    elif wanted > box.available_bytes:
        text = f"the tables take up to {_mb(wanted)}, and {_mb(box.available_bytes)} are free"
        yield Finding("fail", "memory", text, "smaller [limits]: `cdnctl check` says what each costs")
    elif 2 * wanted > box.available_bytes:
        text = f"the tables take up to {_mb(wanted)} of the {_mb(box.available_bytes)} that are free"
        yield Finding("warn", "memory", text, "smaller [limits]: `cdnctl check` says what each costs")
    else:
        yield Finding("ok", "memory", f"{_mb(wanted)} for the tables of {_mb(box.available_bytes)} free")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _attach(box: Box, config: Config) -> str:
    """An edge that has been up is started as it was."""
    if box.loaded:
        return f"cdnctl attach --edge {config.edge.name}"
    named = box.where and not box.where.startswith("/")
    return f"cdnctl attach -c {config.path}" + (f" --netns {box.where}" if named else "")


def _data_path(box: Box, config: Config) -> Iterator[Finding]:
    if box.agent:
        yield Finding("ok", "agent", "it answers")
    elif box.silence:
        text = "there is one that does not answer, stopped or hung: nobody sees to next hops, blocks, events"
        yield Finding("fail", "agent", text, box.silence)
    elif box.loaded:
        text = "none answers: the data path goes on, and nobody sees to next hops, blocks that end, events"
        yield Finding("warn", "agent", text, _attach(box, config))
    else:
        yield Finding("warn", "agent", "none answers", _attach(box, config))
    standing = box.standing
    if standing and standing.remade == "all":
        yield Finding("fail", "data path", str(standing), f"{standing.detach}, then {_attach(box, config)}")
    elif standing and standing.remade == "tables":
        yield Finding("warn", "data path", str(standing), f"cdnctl reload --edge {config.edge.name}")
    elif box.loaded and not box.current:
        text = "of another version of cdnctl, or being replaced just now"
        yield Finding("warn", "data path", text, "end the agent and start it again: no flow is cut")
    for switch in box.switches:
        said = {
            "disarmed": ("nothing is blocked, limited or ejected", "cdnctl arm"),
            "bypass": ("every packet passes untouched", "cdnctl arm"),
            "observe": ("it only observes, and every packet passes", "cdnctl mode active"),
        }
        text, remedy = said.get(switch, (switch, ""))
        yield Finding("warn", "data path", f"switched off: {text}", remedy)
    yield from _door(box, config)


def _door(box: Box, config: Config) -> Iterator[Finding]:
    if not box.loaded:
        return
    wanted = config.edge.snat_from
    if wanted == "providers" and not box.invited_only:
        text = 'edge.snat_from is "providers", and yet anybody may talk to SNAT addresses'
        yield Finding("warn", "data path", text, f"cdnctl status --edge {config.edge.name} says why")
    elif wanted == "anyone" and box.invited_only:
        text = 'providers alone may talk to SNAT addresses, though edge.snat_from is "anyone"'
        yield Finding("warn", "data path", text, f"cdnctl reload --edge {config.edge.name}")
    elif wanted == "providers":
        yield Finding("ok", "data path", "only those on the list of edge.snat_from talk to SNAT addresses")


# --- interfaces ----------------------------------------------------------------------------------------


def _interface(box: Box, config: Config, each: Interface) -> Iterator[Finding]:
    name = each.name
    if not each.ifindex:
        remedy = (
            "make it (`ip link add`), or mend [edge] interfaces and"
            f" `cdnctl reload --edge {config.edge.name}`"
        )
        yield Finding("fail", name, "does not exist here", remedy)
        return
    if not each.up:
        yield Finding("fail", name, "is down", f"ip link set dev {name} up")
    elif not each.carrier:
        yield Finding("fail", name, "has no carrier", "see to its cable, or to its other end")
    if not each.below:
        yield from _device(box, config, each)
    yield from _mtu(config, each)
    yield from _forwarding(box, config, each)
    if each.rp_filter == _STRICT:
        text = "strict reverse path filter: what the host's stack gets by another way than it answers is lost"
        yield Finding("warn", name, text, f"sysctl -w {_sysctl(4, name)}.rp_filter=2")
    if each.peer:
        yield from _peer(each, each.peer)


def _device(box: Box, config: Config, each: Interface) -> Iterator[Finding]:
    """One that the program is attached to."""
    yield _xdp(box, config, each)
    if each.lro:
        text = "LRO is on: merged segments cannot be sent on, and many drivers refuse XDP with it"
        yield Finding("fail", each.name, text, f"ethtool -K {each.name} lro off")
    if each.strips_tags and any(other.below == each.name for other in box.interfaces.values()):
        text = "its hardware takes VLAN tags off, so the program cannot tell the VLANs on it apart"
        yield Finding("fail", each.name, text, f"ethtool -K {each.name} rxvlan off")


def _xdp(box: Box, config: Config, each: Interface) -> Finding:
    if each.holder:
        return Finding("fail", each.name, f"is held by edge {each.holder}", holders.make_way(each.holder))
    if each.program and each.ours is False:
        return Finding(
            "fail",
            each.name,
            f"has the XDP program {each.program!r} of somebody else's ({each.xdp})",
            f"if nobody needs it: ip link set dev {each.name} xdp off",
        )
    if each.xdp == "native":
        return Finding(
            "ok" if box.root else "unknown", each.name, f"XDP native{'' if box.root else ', whose?'}"
        )
    if each.xdp == "generic" and config.edge.attach == "generic":
        return Finding("ok", each.name, "XDP generic, as configured")
    if each.xdp == "generic":
        text = "XDP generic, at several times the CPU: its driver takes no native program, or not at this MTU"
        return Finding(
            "warn", each.name, text, f"ethtool -i {each.name}; ip link set dev {each.name} mtu 1500"
        )
    attached = box.loaded or box.agent
    text = "nothing is attached: packets that come in here do not reach the data path"
    return Finding("fail" if attached else "warn", each.name, text, _attach(box, config))


def _peer(each: Interface, peer: Peer) -> Iterator[Finding]:
    inside = _into(peer.where) if peer.where else ""
    what = f"{each.name} peer"
    if not peer.up:
        yield Finding("fail", what, f"{peer.name} is down", f"{inside}ip link set dev {peer.name} up")
    if not peer.native_xdp and not peer.gro:
        text = f"{peer.name} has neither a native XDP program nor GRO: frames redirected to it vanish"
        remedy = f"{inside}ethtool -K {peer.name} gro on, or better a native program that passes all"
        yield Finding("fail", what, text, remedy)
    elif not peer.native_xdp:
        text = (
            f"{peer.name} has GRO but no native XDP program: frames sent back by XDP_TX may lie for seconds"
        )
        yield Finding("warn", what, text, "attach a native XDP program there; one that passes all is enough")
    else:
        yield Finding("ok", what, f"{peer.name} takes redirected frames")
    if peer.rx_dropped:
        text = f"{peer.name} has dropped {peer.rx_dropped:,} frames so far: redirected ones are dropped there"
        yield Finding("warn", what, text, f"does it grow? {inside}ip -s link show dev {peer.name}")
    if peer.checksums_left:
        text = f"{peer.name} leaves checksums to hardware that is not there: what it sends is sent on broken"
        yield Finding("warn", what, text, f"{inside}ethtool -K {peer.name} tx off")
    if peer.mtu != each.mtu:
        text = f"{peer.name} has MTU {peer.mtu}, {each.name} {each.mtu}: larger frames vanish"
        yield Finding("warn", what, text, f"{inside}ip link set dev {peer.name} mtu {each.mtu}")


def _into(where: str) -> str:
    """What makes a command one of that network namespace."""
    return f"nsenter --net={where if where.startswith('/') else f'/run/netns/{where}'} "


def _mtu(config: Config, each: Interface) -> Iterator[Finding]:
    if each.mtu < _LEAST_MTU_IPV6 and any(service.family == 6 for service in config.services):
        text = f"MTU {each.mtu}: IPv6 needs {_LEAST_MTU_IPV6}, and is off below"
        yield Finding("fail", each.name, text, f"ip link set dev {each.name} mtu {_LEAST_MTU_IPV6}")
    else:
        yield Finding("ok", each.name, f"MTU {each.mtu}")


def _forwarding(box: Box, config: Config, each: Interface) -> Iterator[Finding]:
    families = sorted({service.family for service in config.services})
    for wanted in families:
        on = each.forwarding4 if wanted == 4 else each.forwarding6
        key = _sysctl(wanted, each.name)
        if on:
            yield Finding("ok", each.name, f"IPv{wanted} forwarding is on")
        elif on is None:
            text = f"there are IPv{wanted} services, but IPv{wanted} is off on it"
            yield Finding("fail", each.name, text, f"sysctl -w {key}.disable_ipv6=0")
        elif each.ours:
            text = f"IPv{wanted} forwarding is off: the kernel finds no next hop for what comes in here"
            yield Finding("fail", each.name, text, f"sysctl -w {key}.forwarding=1")
        else:
            yield Finding("ok", each.name, f"IPv{wanted} forwarding is off: the agent switches it on")


def _sysctl(wanted: int, interface: str) -> str:
    """Where the settings of an interface are; sysctl takes dots for something else."""
    return f"net.ipv{wanted}.conf.{interface.replace('.', '/')}"


# --- ways to and from ----------------------------------------------------------------------------------


def _ways(box: Box, config: Config) -> Iterator[Finding]:
    for cdn in config.cdns:
        for each in cdn.endpoints:
            if cdn.mode == "pass":
                text = f"{cdn.name} is of mode pass: left to this host's own stack, wherever that is"
                yield Finding("ok", f"to {each.host}", text)
                continue
            way = box.ways.get(each.host, Way(address=each.host))
            finding = _way(box, config, way)
            yield finding
            link = box.interfaces.get(way.interface)
            if link and 0 < way.unlocked_mtu < link.mtu:
                yield _unlocked(way, link)
            if finding.level != "fail" and link and cdn.mode in _OVERHEAD:
                yield from _tunnel(cdn.mode, each.host, link)


def _way(box: Box, config: Config, way: Way) -> Finding:
    what = f"to {way.address}"
    if way.route == "none":
        return Finding(
            "fail", what, "there is no route", f"ip route add {_host_route(way.address)} via GATEWAY"
        )
    if way.route == "local":
        return Finding("fail", what, "is an address of this box's own", "see the CDN's endpoints")
    if way.route == "other":
        return Finding("fail", what, "its route throws packets away", f"see `ip route get {way.address}`")
    via = f"by {way.interface}" + (f" via {way.gateway}" if way.gateway else "")
    if way.interface not in config.edge.interfaces:
        text = (
            f"{via}, which is not in [edge] interfaces: nothing is sent there, and replies are not translated"
        )
        return Finding("fail", what, text, f"add {way.interface} to [edge] interfaces, or change the route")
    hop = way.gateway or way.address
    if way.neighbour == "failed":
        text = f"{via}: {hop} does not answer"
        return Finding("fail", what, text, f"see to {hop}: ip neigh show {hop}; ping -c 1 {hop}")
    if way.neighbour != "resolved":
        level: Level = "fail" if box.agent else "warn"
        return Finding(level, what, f"{via}: the link address of {hop} is not known", f"ping -c 1 {hop}")
    if not way.managed and box.agent:
        text = f"{via}: {hop} is resolved, but nobody keeps it so"
        return Finding("warn", what, text, "the agent should: see its log")
    return Finding("ok", what, f"{via}, whose link address is known; replies are expected by it")


def _unlocked(way: Way, link: Interface) -> Finding:
    text = (
        f"its route's mtu {way.unlocked_mtu} is not locked, so the kernel does not tell the program of it:"
        f" packets are held against the {link.mtu} of {link.name}"
    )
    six = "-6 " if family(way.address) == 6 else ""
    remedy = f"ip {six}route change {way.entry} mtu lock {way.unlocked_mtu}"
    return Finding("warn", f"to {way.address}", text, remedy)


def _host_route(address: str) -> str:
    return f"{address}/{32 if family(address) == 4 else 128}"


def _tunnel(mode: str, address: str, link: Interface) -> Iterator[Finding]:
    room = link.mtu - _OVERHEAD[mode] - _NETWORK_HEADER[family(address)]
    if room < _LEAST_MTU_IPV6:
        text = f"only {room} bytes fit through the tunnel by {link.name}: QUIC needs {_LEAST_MTU_IPV6}"
        yield Finding("warn", f"to {address}", text, f"a larger MTU: ip link set dev {link.name} mtu 1600")


def left_to_host(config: Config, address: str) -> bool:
    """Whether a CDN of mode `pass` serves it: then the host must have it."""
    services = [service for service in config.services if service.vip == address]
    return any(cdn.mode == "pass" for service in services for cdn in config.cdns_of(service))


def own_vip(address: str) -> str:
    """What it means that a VIP is an address of the box's own."""
    return (
        f"VIP {address} is an address of this box: only its services' ports and management prefixes get"
        " through"
    )


CUT = "SSH to it from elsewhere is cut"
"""Where others may know the box by that address."""


def _own(config: Config, each: Ownership) -> Finding:
    what = f"for {each.address}"
    if each.address not in {service.vip for service in config.services}:
        return Finding("ok", what, "an address of this box's own: the kernel answers for it")
    if left_to_host(config, each.address):
        return Finding("ok", what, f"{own_vip(each.address)}; as a CDN of mode pass needs it")
    if not each.carrier:
        return Finding("ok", what, f"{own_vip(each.address)}; the kernel answers for it")
    text = f"{own_vip(each.address)}; {CUT}, for {each.carrier} has it"
    remedy = "an address that is a VIP and nothing else; till then, [edge] management = [your own networks]"
    return Finding("warn", what, text, remedy)


def _owner(box: Box, config: Config, each: Ownership) -> Finding:
    what = f"for {each.address}"
    if each.local:
        return _own(config, each)
    if left_to_host(config, each.address):
        text = "a CDN of mode pass leaves it to this host's own stack, which does not have the address"
        return Finding("fail", what, text, f"ip addr add {_host_route(each.address)} dev lo")
    if not each.on_link:
        text = "not of this box's own: it must be routed to it by its neighbours"
        return Finding("ok", what, text)
    asks = "ARP" if family(each.address) == 4 else "neighbour discovery"
    if each.proxied:
        return Finding("ok", what, f"the kernel answers {asks} for it on {each.on_link}")
    return Finding(
        "fail",
        what,
        f"lies in the network of {each.on_link}, where nobody answers {asks} for it: no packet comes",
        f"ip addr add {_host_route(each.address)} dev lo",
    )


def _ports(box: Box, config: Config) -> Iterator[Finding]:
    for address, why, remedy in box.port_clashes:
        yield Finding("fail", "SNAT ports", f"{address}: {why}", f"set {remedy}")
    own = [each.address for each in box.owners.values() if each.local and each.address in config.edge.snat]
    if box.conntrack and own:
        text = (
            f"connections are tracked here, and {', '.join(own)} is the box's own: a masquerade to it may"
            " pick a port of snat_ports"
        )
        first, last = config.edge.snat_ports
        remedy = f"keep masquerades off {first}-{last}: `masquerade to :PORTS`, or a SNAT address apart"
        yield Finding("warn", "SNAT ports", text, remedy)
    elif not box.port_clashes:
        yield Finding("ok", "SNAT ports", "nobody else uses them")
