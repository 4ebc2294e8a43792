"""Tables of steering: what each CDN is asked for and has room for, services, customers."""

from __future__ import annotations

from collections.abc import Sequence

from cdnctl.console import keys
from cdnctl.console.format import NONE, clean, fit, mbit, percent, scaled
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.cdns import state_words
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.console.widgets.verdicts import end
from cdnctl.model import Cdn, Customer, Service


class WantedTable(LiveTable):
    """One row a CDN: weight, share of the table, share of flows, capacity."""

    EMPTY = "no CDN is configured"
    COLUMNS = (
        Column("name", " CDN", 10, right=False, grows=True),
        Column("state", "state", 14, right=False),
        Column("weight", "weight", 6),
        Column("table", "table", 5),
        Column("share", "share", 5),
        Column("full", "full", 5),
        Column("use", "of capacity", 11, right=False, flex=True, from_width=58),
        Column("spill", "spill/s", 7, from_width=70),
        Column("video", "video", 5, from_width=80),
    )

    def update(self, cdns: Sequence[Cdn]) -> None:
        """Show these CDNs."""
        self.border_title = f"CDNs · {keys.face('weights')} changes weights and drains"
        self.fill([Record(cdn.name, _wanted(cdn, index)) for index, cdn in enumerate(cdns)])


def _wanted(cdn: Cdn, index: int) -> dict[str, Cell]:
    name, use = clean(cdn.name, 32), cdn.capacity_use
    role = "muted" if use is None else "bad" if use >= 1 else "warn" if use >= 0.8 else "good"

    def named(width: int) -> Row:
        return (("▌", f"s{index}"), (fit(name, width - 1), "text bold"))

    def stated(width: int) -> Row:
        text, its = state_words(cdn, width)
        return ((fit(text, width), its),)

    def used(width: int) -> Row:
        return ((fit("no limit", width), "muted"),) if use is None else bar(use, width, role)

    return {
        "name": named,
        "state": stated,
        "weight": (str(cdn.wanted_weight), "text"),
        "table": (percent(cdn.effective_share), "text"),
        "share": (percent(cdn.share), "text bold"),
        "full": (NONE if use is None else percent(use), role),
        "use": used,
        "spill": (scaled(cdn.spilled_per_s), "warn" if cdn.spilled_per_s else "muted"),
        "video": (percent(cdn.video_kept), "warn" if cdn.video_kept < 1 else "muted"),
    }


class ServiceTable(LiveTable):
    """One row a service and protocol."""

    EMPTY = "no service is configured"
    COLUMNS = (
        Column("name", "service", 8, right=False, grows=True),
        Column("vip", "VIP", 16, right=False, grows=True),
        Column("protocol", "proto", 5, right=False, from_width=52),
        Column("flows", "new/s", 6, from_width=60),
        Column("policy", "policy", 8, right=False, grows=True),
        Column("cdns", "CDNs", 10, right=False, flex=True),
    )

    def update(self, services: Sequence[Service], cdns: Sequence[str]) -> None:
        """Show these; `cdns` are the names of all CDNs that there are."""
        everybody = set(cdns)
        self.border_title = f"services · {len(services)}"
        self.fill(
            [
                Record(
                    f"{each.name} {each.vip} {each.port} {each.protocol}",
                    {
                        "name": (clean(each.name, 32), "text bold"),
                        "vip": (end(each.vip, each.port), "text"),
                        "protocol": (clean(each.protocol, 8), "muted"),
                        "flows": (scaled(each.new_flows_per_s), "text"),
                        "policy": (clean(each.policy, 60), "accent"),
                        "cdns": (_whom(each.cdns, everybody), "muted"),
                    },
                )
                for each in services
            ]
        )


def _whom(names: Sequence[str], everybody: set[str]) -> str:
    """The CDNs that serve something, unless all do."""
    return "all" if not names or everybody <= set(names) else clean(", ".join(names), 80)


class CustomerTable(LiveTable):
    """One row a customer: what it takes, of what it may."""

    EMPTY = "no customer is configured: [[customer]] makes one"
    SORTS = ("pps", "mbit", "flows", "dropped", "name")
    COLUMNS = (
        Column("name", "customer", 10, right=False, grows=True),
        Column("pps", "pps", 6),
        Column("pps_use", "of limit", 11, right=False, flex=True),
        Column("mbit", "Mbit/s", 7),
        Column("mbit_use", "of limit", 11, right=False, flex=True),
        Column("flows", "new/s", 6),
        Column("flows_use", "of limit", 11, right=False, flex=True, from_width=90),
        Column("dropped", "dropped", 8),
        Column("refused", "refused/s", 9, from_width=110),
        Column("by", "limit by", 8, right=False, from_width=110),
        Column("prefixes", "prefixes", 10, right=False, flex=True, from_width=130),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._customers: Sequence[Customer] = ()
        self._total = 0

    def update(self, customers: Sequence[Customer], total: int) -> None:
        """Show these, of so many."""
        self._customers, self._total = customers, total
        self.resort()

    def find(self, name: object) -> Customer | None:
        """The customer of that name."""
        return next((each for each in self._customers if each.name == name), None)

    def resort(self) -> None:
        orders = {
            "pps": lambda each: (-each.pps, each.name),
            "mbit": lambda each: (-each.bps, each.name),
            "flows": lambda each: (-each.flows_per_s, each.name),
            "dropped": lambda each: (-each.dropped_pps, each.name),
            "name": lambda each: (0.0, each.name),
        }
        ordered = sorted(self._customers, key=orders[self.sort], reverse=self.reverse)
        some = f" of {self._total:,}" if self._total > len(ordered) else ""
        self.border_title = f"customers · {len(ordered)}{some} · {keys.face('limit', 'steering')} limits"
        self.fill([Record(each.name, _customer(each)) for each in ordered])


def _customer(each: Customer) -> dict[str, Cell]:
    hit = each.dropped_pps >= 0.05 or each.refused_per_s >= 0.05
    more = f" and {each.prefix_count - 3} more" if each.prefix_count > 3 else ""
    return {
        "name": (clean(each.name, 32), "text bold"),
        "pps": (scaled(each.pps), "text"),
        "pps_use": _use(each.pps, each.pps_limit),
        "mbit": (mbit(each.bps), "text"),
        "mbit_use": _use(each.bps / 1e6, each.mbit_limit),
        "flows": (scaled(each.flows_per_s), "text"),
        "flows_use": _use(each.flows_per_s, each.flows_limit),
        "dropped": (scaled(each.dropped_pps), "bad" if hit else "muted"),
        "refused": (scaled(each.refused_per_s), "bad" if each.refused_per_s else "muted"),
        "by": (each.limited_by, "accent" if each.limited_by == "operator" else "muted"),
        "prefixes": (clean(", ".join(each.prefixes[:3]) + more, 120), "muted"),
    }


def _use(value: float, limit: float | None) -> Cell:
    """A bar and its limit; nothing of one without."""
    if not limit:
        return ("no limit", "muted")
    share = value / limit
    role = "bad" if share >= 0.98 else "warn" if share >= 0.8 else "good"

    def drawn(width: int) -> Row:
        label = scaled(float(limit)) if limit else ""
        return (*bar(share, max(2, width - 7), role), (fit(f" {label}", 7), "muted"))

    return drawn
