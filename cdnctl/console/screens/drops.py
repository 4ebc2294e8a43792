"""Drops: every reason with its explanation and its course, and real packets of it, sampled live."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from textual.widget import Widget

from cdnctl.console.format import clean, mbit, scaled
from cdnctl.console.screens.house import House
from cdnctl.console.widgets.lines import Lines, Row, heading
from cdnctl.console.widgets.table import LiveTable
from cdnctl.console.widgets.verdicts import PacketTable, VerdictTable, end, tcpdump
from cdnctl.model import Frame, SampledPacket, Term

NOT_RECORDED = "packets are sampled live: a recording holds none"


class Drops(House):
    """Which packets are watched follows the cursor in the reasons, once Enter said so."""

    NAME = "drops"
    MAIN = "reasons"
    AUTO_FOCUS = "#reasons"

    chosen = ""
    """The reason whose packets are shown; empty: of all drops."""

    def panels(self) -> Iterable[Widget]:
        yield VerdictTable("drops", id="reasons")
        why = Lines(id="why", classes="panel")
        why.border_title = "why"
        yield why
        yield PacketTable("sampled packets", id="packets")

    def on_screen_resume(self) -> None:
        """Somebody looks again."""
        self._watch()

    def on_screen_suspend(self) -> None:
        """Nobody looks: let the agent sample for itself."""
        if self.console_app.house is not self:
            self.session.watch(None)

    def _watch(self) -> None:
        self.session.watch([[Term("verdict", self.chosen or "dropped")]])

    def show_frame(self, frame: Frame) -> None:
        reasons = self.query_one(VerdictTable)
        reasons.update(frame, self.session.history.frames)
        roles = {cdn.name: f"s{index}" for index, cdn in enumerate(frame.cdns)}
        packets = self.query_one(PacketTable)
        packets.refusal = NOT_RECORDED if self.session.is_recorded else self.session.no_packets
        packets.update(self.session.packets, roles)
        what = self.chosen.replace("_", " ") or "all drops"
        missed = f" · {scaled(self.session.missed)} more matched" if self.session.missed else ""
        packets.border_title = heading(f"sampled packets, 1 in {frame.sampling.one_in} · {what}{missed}")
        self._explain()

    def _explain(self) -> None:
        reasons, why = self.query_one(VerdictTable), self.query_one("#why", Lines)
        verdict = reasons.find(reasons.current)
        if verdict is None:
            why.show([])
            return
        width = max(20, why.size.width - 1)
        counted = f"{verdict.packets_total:,} packets and {verdict.bytes_total:,} bytes since load"
        rows: list[Row] = [((clean(verdict.name.replace("_", " "), 32), "text bold"),)]
        for text, role in ((clean(verdict.explanation, 400), "text"), (counted, "muted")):
            rows += [((line, role),) for line in textwrap.wrap(text, width)]
        why.show(rows)

    def cursor_moved(self, table: LiveTable) -> None:
        self._explain()

    def drill(self, table: LiveTable) -> None:
        if isinstance(table, VerdictTable):
            name = str(table.current)
            self.chosen = "" if self.chosen == name else name
            self._watch()
            self.draw()
        elif isinstance(table, PacketTable) and (found := self._packet(table.current)):
            self.view.packet = words_of(found[1])
            self.console_app.action_go("trace")

    def leave_mode(self) -> bool:
        if not self.chosen:
            return False
        self.chosen = ""
        self._watch()
        self.draw()
        return True

    def detail_of(self, table: LiveTable) -> Row:
        if isinstance(table, PacketTable) and (found := self._packet(table.current)):
            return tcpdump(found[1], found[0])
        if isinstance(table, VerdictTable) and (verdict := table.find(table.current)):
            shown = "of all drops" if self.chosen == verdict.name else "of this reason alone"
            return (
                (clean(verdict.name.replace("_", " "), 32), "text bold"),
                (f"  {scaled(verdict.pps)} pps, {mbit(verdict.bps)} Mbit/s now", "muted"),
                (f"  enter shows packets {shown}", "accent"),
            )
        return ()

    def _packet(self, number: object) -> tuple[int, SampledPacket] | None:
        return next(((at, packet) for each, at, packet in self.session.packets if each == number), None)

    def meant(self) -> str:
        table = self.query_one(PacketTable)
        found = self._packet(table.current) if self.focused is table else None
        return found[1].source if found else ""

    def lay_out(self, width: int, height: int, size: str) -> None:
        grid = self.query_one("#body").styles
        grid.grid_rows = "1fr 5 1fr" if size == "small" else "1fr 1fr"


def words_of(packet: SampledPacket) -> str:
    """The packet as `cdnctl trace` takes it; empty for what it does not take."""
    if packet.protocol not in ("tcp", "udp", "icmp") or not packet.source:
        return ""
    ends = f"{end(packet.source, packet.source_port)} {end(packet.target, packet.target_port)}"
    return f"{ends} --proto {packet.protocol}"
