"""How what is pinned stands to a configuration: what would a reload, or a start, have to make anew?

Needs root, since pins are root's alone; reads them and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from cdnctl.config import Config
from cdnctl.datapath import abi, elsewhere
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError

_FAMILIES = (4, 6)
"""In the order of the kernel's rows."""

Remade = Literal["nothing", "program", "tables", "all"]
"""The program alone, which costs no flow; tables, into which flows are moved; or all, because tables of
another version cannot be read."""


class Standing(Struct, frozen=True):
    """What would be made anew, and why."""

    remade: Remade = "nothing"
    keys: tuple[str, ...] = ()
    """Of the configuration, where it says other than the tables: each with both values."""
    detach: str = ""
    """The command that makes room, when all has to be made anew."""

    def __str__(self) -> str:
        match self.remade:
            case "tables":
                return (
                    "a reload makes other tables, and moves the flows into them, for these differ:"
                    f" {'; '.join(self.keys)}"
                )
            case "program":
                return (
                    "the program is of another version: a reload puts this one's in its place, no flow is cut"
                )
            case "all":
                return (
                    "the tables are of another version, which this one cannot take over: no reload, and only"
                    " a new start after a detach, which cuts all flows"
                )
        return ""


def standing(config: Config) -> Standing | None:
    """None when nothing is pinned, or this user cannot see it."""
    program = Program(config.edge.name)
    try:
        if not program.exists():
            return None
        if program.is_foreign():
            line = elsewhere.detach_line(config.edge.name, program.maps())
            return Standing("all", (), line)
        remade = program.lacks(config)
        keys = tuple(_differences(config, program)) if remade == "tables" else ()
    except (OSError, CdnctlError):  # libbpf may be missing, which doctor says
        return None
    # which addresses there are, and not in what order, is all that the tables tell
    return Standing(remade, keys or (("edge.snat is in another order",) if remade == "tables" else ()))


def _differences(config: Config, program: Program) -> Iterator[str]:
    tables, edge, limits = Tables(program.pins), config.edge, config.limits
    settings = tables.settings
    pinned = [
        abi.show_address(settings.snat[row][index])
        for row in range(len(_FAMILIES))
        for index in range(settings.snat_count[row])
    ]
    wanted = [address for family in _FAMILIES for address in edge.snat_of(family)]
    if pinned != wanted:
        yield f"edge.snat is {', '.join(wanted) or 'none'}, was {', '.join(pinned) or 'none'}"
    first, count = int(settings.port_min_host), int(settings.ports)
    if edge.snat_ports != (first, first + count - 1):
        yield f"edge.snat_ports is {_range(*edge.snat_ports)}, was {_range(first, first + count - 1)}"
    held = {
        "flows": tables.established.info.max_entries,
        "half_open": tables.half_open.info.max_entries,
        "block_entries": Map.pinned(program.pins / "block_prefix").info.max_entries,
    }
    if per_endpoint := settings.snat_rows * settings.ports:
        held["endpoints"] = tables.reverse.info.max_entries // per_endpoint
    for name, value in held.items():
        if (now := getattr(limits, name)) != value:
            yield f"limits.{name} is {now}, was {value}"


def _range(first: int, last: int) -> str:
    return f"[{first}, {last}]"
