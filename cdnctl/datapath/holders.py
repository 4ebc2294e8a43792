"""Which edge an XDP program belongs to: the one whose pinned tables it uses.

An interface takes one program, so it is of one edge alone. Needs root.
"""

from __future__ import annotations

import contextlib
import os

from cdnctl import paths
from cdnctl.datapath import kernel, opening

_TELLING = ("mode", "settings")
"""Maps that only an edge's own programs use."""


def edge_with(maps: frozenset[int]) -> str:
    """The edge that one of these maps is pinned for; empty when they are none's."""
    with contextlib.suppress(OSError):
        for edge in sorted((paths.BPFFS / "cdnctl").iterdir()):
            for home in (edge, *edge.iterdir()):
                for name in _TELLING:
                    with contextlib.suppress(OSError):
                        if kernel.Map.pinned(home / name).info.id in maps:
                            return edge.name
    return ""


def holder(ifindex: int) -> str:
    """The edge whose program is on an interface; empty when there is none, or it cannot be told."""
    with contextlib.suppress(OSError):
        if identity := kernel.xdp_program_id(ifindex):
            return edge_of_program(identity)
    return ""


def edge_of_program(identity: int) -> str:
    """The edge that a loaded program is of. Raises OSError when it cannot be opened."""
    fd = opening.program_fd(identity)
    try:
        return edge_with(kernel.program_map_ids(fd))
    finally:
        os.close(fd)


def make_way(edge: str) -> str:
    """What to do about an interface that another edge holds: never to take its program off by hand."""
    return (
        f"an interface serves one edge: name others in [edge] interfaces, or see to that one:"
        f" `cdnctl --edge {edge} status`, and `cdnctl --edge {edge} detach`, which says first what it cuts"
    )
