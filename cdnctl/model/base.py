"""What all messages have in common, and the words that several of them use."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

FRAME_INTERVAL_S = 0.5
RATE_WINDOW_S = 5.0
"""Rates and percentiles in a frame look back over this many seconds."""

Severity = Literal["info", "notice", "warning", "alarm"]
EndpointState = Literal["in", "out", "probing", "drained"]
CdnState = Literal["in", "partly", "out", "probing", "drained"]
OutReason = Literal["", "dark", "refusing", "slow", "probes", "operator"]
Transport = Literal["nat", "ipip", "gue", "pass"]
EdgeMode = Literal["active", "observe"]


class Base(Struct, frozen=True, kw_only=True, omit_defaults=False, gc=False):
    """Common settings of every message: immutable, built by keyword."""
