"""Shifts in an operator's words."""

from __future__ import annotations

from cdnctl.steering.planner.plan import Shift


def words(shift: Shift) -> str:
    """`aurora 60.0 -> 50.0 % of video from eu: p95 of first bytes is 180 ms, its peers' 60 ms ...`."""
    of_what = f" of {shift.cell}" if shift.cell else ""
    return f"{shift.cdn} {100 * shift.before:.1f} -> {100 * shift.after:.1f} %{of_what}: {_why(shift)}"


def _why(shift: Shift) -> str:
    own, peers, limit = (shift.numbers.get(name, 0.0) for name in ("own", "peers", "limit"))
    match shift.code:
        case "first_byte" | "handshake":
            what = "first bytes" if shift.code == "first_byte" else "handshakes"
            return f"p95 of {what} is {own:.0f} ms, its peers' {peers:.0f} ms, bad from {limit:.0f} ms"
        case "loss":
            return f"{100 * own:.1f} % of its segments are lost, its peers' {100 * peers:.1f} %"
        case "failures":
            return f"{100 * own:.1f} % of its new flows fail, its peers' {100 * peers:.1f} %"
        case "capacity":
            return f"it takes {100 * shift.numbers.get('room', 0.0):.0f} % of what comes now"
        case "forecast":
            room, growth = shift.numbers.get("room", 0.0), shift.numbers.get("growth", 1.0)
            return f"it takes {100 * room:.0f} % of what comes now, and {growth:.2f} times that is expected"
        case "cost":
            return "its price, or its traffic near its commit"
        case "recovered":
            return "as good as its peers again"
        case "roomy":
            return "it has room again"
        case "untested":
            return "too few flows to judge it by; a little back"
        case "probed":
            return "its probes are good again; a little first"
        case "whole":
            return "what it has as a whole has changed"
        case "":
            return "operators' weights"
