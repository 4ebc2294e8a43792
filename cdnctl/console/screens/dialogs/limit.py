"""What a customer may take."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from cdnctl.console.format import clean, mbit, scaled
from cdnctl.console.screens.dialogs.block import Entry
from cdnctl.console.screens.dialogs.edit import EntryDialog
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines
from cdnctl.model import AnyChange, Customer, SetLimit

_FIELDS = {"pps": "packets/s", "mbit": "Mbit/s", "flows": "new flows/s"}


class LimitDialog(EntryDialog):
    """Three limits; an empty field stays as it is, `none` is no limit."""

    TITLE_TEXT = "Limit a customer"
    CONFIRM_TEXT = "Apply"

    def __init__(self, session: Session, customer: Customer) -> None:
        super().__init__(session)
        self._customer = customer
        self._now = {"pps": customer.pps_limit, "mbit": customer.mbit_limit, "flows": customer.flows_limit}

    def body(self) -> Sequence[Widget]:
        return (
            Lines(id="about"),
            *(
                Entry(name, label, f"{limit:g}" if limit else "none", "a number, or none")
                for (name, label), limit in zip(_FIELDS.items(), self._now.values(), strict=True)
            ),
            Entry("reason", "reason", "", "for the journal and whoever is on call next"),
        )

    def on_mount(self) -> None:
        customer = self._customer
        self.query_one("#about", Lines).show(
            [
                (
                    (f"{clean(customer.name, 32)}  ", "text bold"),
                    (f"takes {scaled(customer.pps)} pps, {mbit(customer.bps)} Mbit/s, ", "muted"),
                    (f"{scaled(customer.flows_per_s)} new flows/s now", "muted"),
                )
            ]
        )

    def changes(self) -> list[AnyChange]:
        wanted = {name: self._number(name) for name in _FIELDS}
        given = {name: value for name, value in wanted.items() if value != (self._now[name] or 0.0)}
        if not given:
            return []
        return [
            SetLimit(
                customer=self._customer.name,
                pps=given.get("pps"),
                mbit=given.get("mbit"),
                flows_per_s=given.get("flows"),
                reason=self.value("reason"),
            )
        ]

    def _number(self, name: str) -> float:
        text = self.value(name).lower()
        if text in ("none", "0"):
            return 0.0
        try:
            number = float(text) if text else self._now[name] or 0.0
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1e9:
            raise ValueError(f"{_FIELDS[name]}: {clean(text, 20)!r}; a number above 0, or none")
        return number
