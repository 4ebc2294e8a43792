"""The screens, by the names that `keys.SCREENS` gives them."""

from __future__ import annotations

from cdnctl.console.screens.attack import Attack
from cdnctl.console.screens.cdns import Cdns
from cdnctl.console.screens.drops import Drops
from cdnctl.console.screens.house import House
from cdnctl.console.screens.journal import Journal
from cdnctl.console.screens.lists import Lists
from cdnctl.console.screens.overview import Overview
from cdnctl.console.screens.steering import Steering
from cdnctl.console.screens.talkers import Talkers
from cdnctl.console.screens.trace import Trace

made: dict[str, type[House]] = {
    screen.NAME: screen
    for screen in (Overview, Cdns, Talkers, Drops, Lists, Steering, Trace, Journal, Attack)
}
"""What makes each."""
