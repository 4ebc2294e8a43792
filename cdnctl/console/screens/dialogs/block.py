"""Block a prefix."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from cdnctl.console.format import clean, clock, duration, mbit, parse_lifetime, percent, scaled
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.model import AnyChange, BlockPrefix, Talker

DEFAULT_LIFETIME = "4h"
HINT = "198.51.100.7, 198.51.100.0/24 or 2001:db8::/48"


class Entry(Horizontal):
    """A label and an input field."""

    def __init__(self, name: str, label: str, value: str, hint: str) -> None:
        super().__init__(classes="entry")
        self._label = Lines(classes="label")
        self._row: Row = ((label, "muted"),)
        self.input = Input(value, placeholder=hint, id=name, compact=True, max_length=200)

    def compose(self) -> Sequence[Widget]:
        return (self._label, self.input)

    def on_mount(self) -> None:
        self._label.show([self._row])


class BlockDialog(ChangeDialog):
    """Prefix, lifetime and reason; prefilled with the talker that was meant when the key was hit."""

    TITLE_TEXT = "Block a prefix"
    CONFIRM_TEXT = "Block"

    def __init__(self, session: Session, talker: Talker | None, prefix: str = "", past_ns: int = 0) -> None:
        """`prefix` is what was meant where that is no talker; `past_ns`: when the picture was, if not now."""
        super().__init__(session)
        self._talker = talker
        self._past_ns = past_ns
        self._prefix = talker.prefix if talker else prefix

    def body(self) -> Sequence[Widget]:
        return (
            Lines(id="about"),
            Entry("prefix", "prefix", clean(self._prefix, 64), HINT),
            Entry("lifetime", "lifetime", DEFAULT_LIFETIME, "10m, 4h, 2d or forever"),
            Entry("reason", "reason", "", "for the journal and whoever is on call next"),
        )

    def on_mount(self) -> None:
        self.query_one("#about", Lines).show([self._about()])

    def _about(self) -> Row:
        talker = self._talker
        if talker is None and self._prefix:
            when = f"at {clock(self._past_ns)}, in the past" if self._past_ns else "now"
            return ((f"it sends too little to be among the talkers {when}", "muted"),)
        if talker is None:
            return (("no talker is known: tab to the prefix and type one", "muted"),)
        return (
            (f"at {clock(self._past_ns)}, in the past: " if self._past_ns else "now ", "muted"),
            (f"{scaled(talker.pps)} pps ±{percent(talker.error)}, {mbit(talker.bps)} Mbit/s, ", "muted"),
            (f"{percent(talker.drop_share)} dropped", "muted"),
            (f", mostly to {clean(talker.cdn, 16)}" if talker.cdn else "", "muted"),
        )

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.input_changed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a field goes on to the next; it never confirms."""
        event.stop()
        self.focus_next()

    def changes(self) -> list[AnyChange]:
        box = self.query_one("#box")
        box.border_subtitle = ""  # never that of an earlier entry beside a mistake
        prefix = self.query_one("#prefix", Input).value.strip()
        lifetime_s = parse_lifetime(self.query_one("#lifetime", Input).value)
        reason = self.query_one("#reason", Input).value.strip()
        if not prefix:
            raise ValueError("prefix: write an address or a CIDR, such as 198.51.100.0/24 or 2001:db8::/48")
        network = _network(prefix)
        box.border_subtitle = (
            f"{network} for {duration(lifetime_s)}"
            if lifetime_s is not None
            else f"{network} until unblocked"
        )
        return [BlockPrefix(prefix=str(network), lifetime_s=lifetime_s, reason=reason)]


def _network(prefix: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """What is typed, taken exactly; an address with bits beyond its length could mean two things."""
    try:
        meant = ipaddress.ip_interface(prefix)
    except ValueError as error:
        raise ValueError(f"prefix: {error}") from None
    if meant.ip != meant.network.network_address:
        raise ValueError(
            f"prefix: {prefix} has bits set beyond its /{meant.network.prefixlen}; "
            f"write {meant.network} for the prefix or {meant.ip} for the one address"
        )
    return meant.network
