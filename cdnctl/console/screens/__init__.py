"""The screens, by the names that `keys.SCREENS` gives them."""

from __future__ import annotations

from cdnctl.console.screens.house import House
from cdnctl.console.screens.overview import Overview

made: dict[str, type[House]] = {screen.NAME: screen for screen in (Overview,)}
"""What makes each."""
