"""The shield's levels, as they are drawn."""

from __future__ import annotations

from cdnctl.model import ShieldLevel

LEVEL_MARKS: dict[ShieldLevel, tuple[str, str]] = {
    "calm": ("○", "good"),
    "busy": ("◔", "accent"),
    "shedding": ("◑", "warn"),
    "siege": ("●", "bad"),
}
"""A shape and a role for each: colour alone says nothing to some."""
