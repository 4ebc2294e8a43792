"""Every reason for a drop, exactly counted and explained; and sampled packets, as tcpdump writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdnctl.console.format import clean, clock, mbit, percent, scaled
from cdnctl.console.tracks import Tracks
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.cursor import SPAN_S
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.spark import highest, spark
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Frame, SampledPacket, Verdict


class VerdictTable(LiveTable):
    """One row a reason, also of those that have not dropped anything yet."""

    EMPTY = "no verdict is known"
    SORTS = ("pps", "total", "reason")
    COLUMNS = (
        Column("reason", "reason", 16, right=False, grows=True),
        Column("pps", "pps", 6),
        Column("share", "share", 5, from_width=60),
        Column("bar", "", 8, right=False, from_width=84),
        Column("mbit", "Mbit/s", 6, from_width=52),
        Column("total", "packets", 8),
        Column("bytes", "bytes", 6, from_width=70),
        Column("course", "last 2 min", 12, right=False, flex=True),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._verdicts: dict[str, Verdict] = {}
        self._tracks = Tracks[float](_rates)
        self._now_s = 0.0

    def update(self, frame: Frame, frames: Sequence[Frame]) -> None:
        """Show the frame's drops, and their course in these frames."""
        self._tracks.follow(frames)
        self._now_s = frame.monotonic_ns / 1e9
        self._verdicts = {verdict.name: verdict for verdict in frame.verdicts if self.shown(verdict)}
        active = sum(verdict.pps >= 0.05 for verdict in self._verdicts.values())
        self.border_title = self.title(active, len(self._verdicts))
        self.resort()

    def shown(self, verdict: Verdict) -> bool:
        """Whether it has a row here."""
        return verdict.drop

    def title(self, active: int, known: int) -> str:
        """The panel's."""
        return f"drops · {active} of {known} reasons now"

    def find(self, name: object) -> Verdict | None:
        """The verdict of that name."""
        return self._verdicts.get(name) if isinstance(name, str) else None

    def resort(self) -> None:
        ordered = sorted(self._verdicts.values(), key=self._key, reverse=self.reverse)
        whole = sum(verdict.pps for verdict in ordered) or 1.0
        self.fill([Record(verdict.name, self._cells(verdict, whole)) for verdict in ordered])

    def _key(self, verdict: Verdict) -> tuple[float, float, str]:
        if self.sort == "reason":
            return (0.0, 0.0, verdict.name)
        if self.sort == "total":
            return (-verdict.packets_total, -verdict.pps, verdict.name)
        return (-verdict.pps if verdict.pps >= 0.05 else 0.0, -verdict.packets_total, verdict.name)

    def _cells(self, verdict: Verdict, whole: float) -> dict[str, Cell]:
        now = verdict.pps >= 0.05
        ever = "text" if verdict.packets_total else "muted"
        name = verdict.name

        def course(width: int) -> Row:
            values = highest(self._tracks.columns(name, self._now_s, SPAN_S, 2 * width))
            return spark(values, "bad" if now else "muted")

        return {
            "reason": (clean(name.replace("_", " "), 32), "text bold" if now else ever),
            "pps": (scaled(verdict.pps) if now else "0", "bad" if now else "muted"),
            "share": (percent(verdict.pps / whole) if now else "", "muted"),
            "bar": lambda width: bar(verdict.pps / whole if now else 0.0, width, "bad"),
            "mbit": (mbit(verdict.bps), "muted"),
            "total": (scaled(verdict.packets_total), ever),
            "bytes": (scaled(verdict.bytes_total), "muted"),
            "course": course,
        }


def _rates(frame: Frame) -> Iterable[tuple[str, float]]:
    return ((verdict.name, verdict.pps) for verdict in frame.verdicts)


class PacketTable(LiveTable):
    """One row a sampled packet, the newest on top."""

    EMPTY = "no sampled packet matched yet"
    refusal = ""
    """Why there are none to see."""
    COLUMNS = (
        Column("time", "time", 8, right=False, grows=True),
        Column("proto", "proto", 5, right=False),
        Column("flags", "flags", 5, right=False),
        Column("source", "from", 18, right=False, grows=True),
        Column("target", "to", 18, right=False, grows=True),
        Column("length", "bytes", 5),
        Column("verdict", "verdict", 12, right=False, grows=True),
        Column("cdn", "CDN", 10, right=False, flex=True, from_width=100),
    )

    def empty_text(self) -> str:
        return self.refusal or super().empty_text()

    def update(self, packets: Iterable[tuple[int, int, SampledPacket]], roles: dict[str, str]) -> None:
        """Show these; CDNs wear their colours by `roles`."""
        newest_first = reversed(list(packets))
        self.fill([_record(number, at_ns, packet, roles) for number, at_ns, packet in newest_first])


def _record(number: int, at_ns: int, packet: SampledPacket, roles: dict[str, str]) -> Record:
    role = "bad" if packet.drop else "good"
    cells: dict[str, Cell] = {
        "time": (clock(at_ns), "muted"),
        "proto": (clean(packet.protocol, 8), "text"),
        "flags": (clean(packet.flags, 8), "accent"),
        "source": (end(packet.source, packet.source_port), "text"),
        "target": (end(packet.target, packet.target_port), "text"),
        "length": (str(packet.length), "muted"),
        "verdict": (("✖ " if packet.drop else "● ") + clean(packet.verdict.replace("_", " "), 32), role),
        "cdn": (clean(packet.cdn, 32), roles.get(packet.cdn, "muted")),
    }
    return Record(number, cells)


def end(address: str, port: int) -> str:
    """`198.51.100.7:443`, `[2001:db8::7]:443`; an address alone where there is no port."""
    address = clean(address, 45)
    if not address:
        return "no IP"
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def tcpdump(packet: SampledPacket, at_ns: int) -> Row:
    """One line, as tcpdump would write it."""
    ends = f"{end(packet.source, packet.source_port)} > {end(packet.target, packet.target_port)}"
    family = "IP6" if ":" in packet.source else "IP"
    tcp = packet.protocol == "tcp"
    flags = f": Flags [{clean(packet.flags, 10)}]" if tcp else f": {packet.protocol.upper()}"
    return (
        (f"{clock(at_ns)} ", "muted"),
        (f"{family} {ends}{clean(flags, 24)}, length {packet.length}", "text"),
        (f"  {clean(packet.verdict.replace('_', ' '), 32)}", "bad bold" if packet.drop else "good bold"),
        (f", {clean(packet.cdn, 32)}" if packet.cdn else "", "muted"),
    )
