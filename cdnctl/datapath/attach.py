"""The program on its interfaces: native where the driver can, generic where it cannot, and never in
place of a program that is not ours."""

from __future__ import annotations

import errno
import os
import socket
from typing import Literal, NamedTuple

from cdnctl.datapath import kernel
from cdnctl.errors import CdnctlError

Mode = Literal["native", "generic", "detached"]
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
        there = ", ".join(sorted(name for _, name in socket.if_nameindex() if name != "lo"))
        raise CdnctlError(
            f"interface {name} does not exist in this network namespace",
            f"[edge] interfaces: there are {there or 'none but lo'}",
        ) from error


def _ours(identity: int, program: int) -> bool:
    """Is the attached program this very one, or an earlier one of ours?"""
    return identity == kernel.program_id(program)


def mode_of(ifindex: int) -> Mode:
    """How any XDP program is attached."""
    for mode, flag in _FLAG.items():
        if kernel.xdp_program_id(ifindex, flag):
            return mode  # type: ignore[return-value]
    return "detached"


def attach(
    name: str, program: int, wish: Literal["auto", "native", "generic"], previous: int | None = None
) -> Attached:
    """Attach to one interface; `previous` is the fd of our own older program that may be replaced.

    Raises CdnctlError when the interface is missing, holds a foreign program, or cannot do XDP.
    """
    ifindex = interface_index(name)
    there = kernel.xdp_program_id(ifindex)
    mode = mode_of(ifindex)
    if there:
        if _ours(there, program):
            return Attached(name, mode)
        if previous is None or not _ours(there, previous):
            raise CdnctlError(
                f"interface {name} already has the XDP program {kernel.program_name(there)!r}"
                f" (id {there}, {mode})",
                f"it is not ours, so it stays; to take it off yourself: ip link set dev {name} xdp off",
            )
        kernel.xdp_attach(ifindex, program, _FLAG[mode], replacing=previous)
        return Attached(name, mode)
    reason = ""
    for candidate in ("native", "generic") if wish == "auto" else (wish,):
        try:
            kernel.xdp_attach(ifindex, program, _FLAG[candidate])
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                raise CdnctlError(
                    f"interface {name}: another XDP program came in just now", "see `ip link` and try again"
                ) from error
            if error.errno == errno.EPERM:
                raise CdnctlError(f"no permission to attach to {name}", "run as root") from error
            reason = os.strerror(error.errno or 0)
            continue
        warning = ""
        if candidate == "generic" and wish == "auto":
            warning = (
                f"{name} cannot do native XDP ({reason}): attached in generic mode, at several times the CPU"
            )
        return Attached(name, "native" if candidate == "native" else "generic", warning)
    raise CdnctlError(
        f"interface {name} takes no XDP program ({reason})",
        'check its MTU and driver (`ethtool -i`), or set attach = "auto" in [edge]',
    )


def detach(name: str, program: int) -> bool:
    """Take our program off an interface; False when it was not there."""
    try:
        ifindex = socket.if_nametoindex(name)
    except OSError:
        return False
    mode = mode_of(ifindex)
    if mode == "detached" or not _ours(kernel.xdp_program_id(ifindex), program):
        return False
    kernel.xdp_detach(ifindex, _FLAG[mode], expected=program)
    return True


def attached_to(program: int) -> list[tuple[str, Mode]]:
    """The interfaces of this network namespace that have the program."""
    identity = kernel.program_id(program)
    found = []
    for ifindex, name in socket.if_nameindex():
        try:
            if kernel.xdp_program_id(ifindex) == identity:
                found.append((name, mode_of(ifindex)))
        except OSError:
            continue
    return found
