"""The program on its interfaces: native where all drivers can, generic where one cannot, and never in
place of a program that is not ours.

Not native on some and generic on others: a driver without native XDP mostly cannot transmit for one that
has it either, and the kernel would drop what is redirected there without a word to us.

Ours is any program that uses the edge's pinned maps, of whatever version: none else can.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from cdnctl.datapath import holders, host, kernel, opening, said
from cdnctl.datapath.loading import SINGLE
from cdnctl.errors import CdnctlError

Mode = Literal["native", "generic", "detached"]
Wish = Literal["auto", "native", "generic"]
_PLAIN_MTU = 1500
_ONE_BUFFER_MTU = 3498
"""What fits into a page beside what the kernel needs of it."""
_FLAG = {"native": kernel.XDP_FLAGS_DRV_MODE, "generic": kernel.XDP_FLAGS_SKB_MODE}


class Attached(NamedTuple):
    """How an interface ended up."""

    name: str
    mode: Mode
    warning: str = ""


def interface_index(name: str) -> int:
    """The interface's index. Raises CdnctlError naming those that exist."""
    try:
        return socket.if_nametoindex(name)
    except OSError as error:
        raise missing(name, [each for _, each in socket.if_nameindex()]) from error


def missing(name: str, there: Iterable[str]) -> CdnctlError:
    """The error for an interface that is not among those of this network namespace."""
    others = ", ".join(sorted(each for each in there if each != "lo"))
    return CdnctlError(
        f"interface {name} does not exist in this network namespace",
        f"there are {others or 'none but lo'}: make it, or mend [edge] interfaces and `cdnctl reload`; of an"
        " edge in another network namespace, start the agent with --netns NAME",
    )


def mode_of(ifindex: int) -> Mode:
    """How any XDP program is attached."""
    for mode, flag in _FLAG.items():
        if kernel.xdp_program_id(ifindex, flag):
            return mode  # type: ignore[return-value]
    return "detached"


class _Place(NamedTuple):
    """An interface as it was found."""

    name: str
    ifindex: int
    mode: Mode
    before: int | None
    """Descriptor of our own program there."""


@contextlib.contextmanager
def _own_program(ifindex: int, maps: frozenset[int]) -> Iterator[int | None]:
    """A descriptor of the program on the interface when it is one of ours."""
    identity = kernel.xdp_program_id(ifindex)
    fd = -1
    if identity:
        # taken off just now, or no edge's: ours are pinned
        with contextlib.suppress(FileNotFoundError, PermissionError):
            fd = opening.program_fd(identity)
    try:
        yield fd if fd >= 0 and maps & kernel.program_map_ids(fd) else None
    finally:
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def _look(name: str, maps: frozenset[int]) -> Iterator[_Place]:
    ifindex = interface_index(name)
    with _own_program(ifindex, maps) as own:
        mode = mode_of(ifindex)
        if mode != "detached" and own is None:
            raise _foreign(name, kernel.xdp_program_id(ifindex), mode)
        yield _Place(name, ifindex, mode, own)


def _foreign(name: str, identity: int, mode: Mode) -> CdnctlError:
    """The error for a program that is not this edge's: another edge's, or somebody else's."""
    edge = ""
    with contextlib.suppress(OSError):  # taken off just now
        edge = holders.edge_of_program(identity)
    if edge:
        return CdnctlError(f"interface {name} is held by edge {edge}", holders.make_way(edge))
    return CdnctlError(
        f"interface {name} already has the XDP program {kernel.program_name(identity)!r}"
        f" (id {identity}, {mode})",
        f"it is no edge's, so it stays; if nobody needs it: ip link set dev {name} xdp off",
    )


def check(names: Sequence[str], maps: frozenset[int]) -> None:
    """Raises CdnctlError when one of the interfaces is missing or has a foreign program."""
    for name in names:
        with _look(name, maps):
            pass


def attach_all(
    names: Sequence[str], program: int, wish: Wish, maps: frozenset[int] = frozenset()
) -> list[Attached]:
    """Attach to every interface in place of any program of ours, or leave all as they were.

    Ours are programs that share a map with this one, or use one of `maps`. Raises CdnctlError when an
    interface is missing, holds a foreign program, or cannot do XDP.
    """
    maps |= kernel.program_map_ids(program)
    with contextlib.ExitStack() as looking:
        places = [looking.enter_context(_look(name, maps)) for name in names]
        tried, results = [], []
        try:
            for place in places:
                tried.append(place)
                results.append(_put(place, program, wish))
            if wish == "auto":
                results = _all_alike(places, program, results)
        except BaseException:
            for place in reversed(tried):
                _put_back(place, program)
            raise
    return results


def attach(name: str, program: int, wish: Wish) -> Attached:
    """Attach to one interface."""
    return attach_all([name], program, wish)[0]


def _put(place: _Place, program: int, wish: Wish) -> Attached:
    if place.mode == "detached" or place.before is None:
        return _put_first(place, program, wish)
    if wish in ("auto", place.mode):
        if kernel.program_id(place.before) != kernel.program_id(program):
            kernel.xdp_attach(place.ifindex, program, _FLAG[place.mode], replacing=place.before)
        return Attached(place.name, place.mode)
    # one interface has one mode at a time, so this is a gap of a moment
    kernel.xdp_detach(place.ifindex, _FLAG[place.mode], expected=place.before)
    changed = _put_first(place, program, wish)
    return changed._replace(warning=f"{place.name} was attached in {place.mode} mode: now {changed.mode}")


def _all_alike(places: Sequence[_Place], program: int, results: Sequence[Attached]) -> list[Attached]:
    """With one that is generic, all are."""
    generic = [result.name for result in results if result.mode == "generic"]
    alike = []
    for place, result in zip(places, results, strict=True):
        if generic and result.mode == "native":
            kernel.xdp_detach(place.ifindex, _FLAG["native"], expected=program)
            result = _put_first(place, program, "generic")._replace(
                warning=f"{place.name} is attached in generic mode, too: what comes in by a native interface"
                f" cannot leave by {', '.join(generic)}"
            )
        alike.append(result)
    return alike


def _put_first(place: _Place, program: int, wish: Wish) -> Attached:
    name, reason = place.name, ""
    for candidate in ("native", "generic") if wish == "auto" else (wish,):
        try:
            with said.listening() as words:
                kernel.xdp_attach(place.ifindex, program, _FLAG[candidate])
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                raise CdnctlError(
                    f"interface {name}: another XDP program came in just now", "see `ip link` and try again"
                ) from error
            if error.errno == errno.EPERM:
                raise CdnctlError(f"no permission to attach to {name}", "run as root") from error
            reason = words[-1] if words else os.strerror(error.errno or 0)
            continue
        warning = ""
        if candidate == "generic" and wish == "auto":
            warning = (
                f"{name} cannot do native XDP ({reason}; MTU {host.mtu(name)}): attached in generic mode, at"
                f" several times the CPU; {_remedy(name, program, reason)}"
            )
        return Attached(name, "native" if candidate == "native" else "generic", warning)
    raise CdnctlError(
        f"interface {name} takes no XDP program ({reason}; MTU {host.mtu(name)})",
        _remedy(name, program, reason) + ("" if wish == "auto" else ', or set attach = "auto" in [edge]'),
    )


def _remedy(name: str, program: int, reason: str) -> str:
    """Most drivers that refuse do so since a frame does not fit into one buffer; many do not say so."""
    if host.mtu(name) <= _PLAIN_MTU or "not support XDP" in reason:
        return f"check its driver (`ethtool -i {name}`)"
    one = kernel.program_name(kernel.program_id(program)).endswith(SINGLE)
    why = "this kernel has" if one else "its driver may take"
    return (
        f"{why} XDP for frames of one buffer only: a smaller MTU helps (`ip link set dev {name} mtu"
        f" {_ONE_BUFFER_MTU}`, or {_PLAIN_MTU}, on its peer too)"
    )


def _put_back(place: _Place, program: int) -> None:
    """As the interface was found, as far as it still lets us."""
    with contextlib.suppress(OSError):
        there = kernel.xdp_program_id(place.ifindex)
        mode = mode_of(place.ifindex)
        if there == kernel.program_id(program) and mode != "detached":
            if place.before is not None and mode == place.mode:
                kernel.xdp_attach(place.ifindex, place.before, _FLAG[mode], replacing=program)
                return
            kernel.xdp_detach(place.ifindex, _FLAG[mode], expected=program)
        if place.before is not None:
            kernel.xdp_attach(place.ifindex, place.before, _FLAG[place.mode])


def detach(name: str, maps: frozenset[int]) -> bool:
    """Take our program off an interface; False when it was not there."""
    try:
        ifindex = socket.if_nametoindex(name)
    except OSError:
        return False
    with _own_program(ifindex, maps) as own:
        mode = mode_of(ifindex)
        if own is None or mode == "detached":
            return False
        kernel.xdp_detach(ifindex, _FLAG[mode], expected=own)
    return True


def interfaces_with(program: int) -> list[str]:
    """The interfaces of this network namespace that have exactly this program."""
    identity, found = kernel.program_id(program), []
    for ifindex, name in socket.if_nameindex():
        with contextlib.suppress(OSError):
            if kernel.xdp_program_id(ifindex) == identity:
                found.append(name)
    return found


def attached_to(maps: frozenset[int]) -> list[tuple[str, Mode]]:
    """The interfaces of this network namespace that have a program of ours."""
    found = []
    for ifindex, name in socket.if_nameindex():
        with contextlib.suppress(OSError), _own_program(ifindex, maps) as own:
            if own is not None:
                found.append((name, mode_of(ifindex)))
    return found
