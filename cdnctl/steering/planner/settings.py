"""The planner's figures: when it moves, how far, how fast, and how slowly it comes back."""

from __future__ import annotations

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """Shares are of all new flows, 0 to 1; factors compare a CDN with the median of its peers."""

    min_samples: int = 20
    """Fewer new ones since the last round are no evidence."""
    bad_factor: float = 1.5
    bad_ms: float = 20.0
    """Bad: over both, times the peers' median and so many milliseconds above it."""
    good_factor: float = 1.2
    good_ms: float = 8.0
    """Good: under one of both. Between bad and good lies the band in which nothing moves."""
    bad_loss: float = 0.02
    good_loss: float = 0.01
    min_segments: int = 200
    bad_failures: float = 0.02
    good_failures: float = 0.005
    peers_factor: float = 2.0
    """Loss and failures are bad only above so many times the peers'."""
    bad_rounds: int = 3
    good_rounds: int = 10
    step: float = 0.1
    """The most that moves in a round."""
    back_step: float = 0.05
    """The most that a CDN gets back at a time."""
    settle_s: float = 5.0
    """After a step down, before the next: the figures look back so far."""
    back_s: float = 10.0
    """After any step, before one back up."""
    blind_s: float = 120.0
    """Too few flows to judge by for so long: a little back."""
    floor: float = 0.1
    """What a CDN keeps of its own weight, or nobody would learn that it is well again."""
    failing: float = 0.3
    """Where so many flows fail ..."""
    floor_failing: float = 0.02
    """... it keeps no more than this."""
    most_moved: float = 0.5
    """Of all weight, no more is moved away."""
    sticky: float = 0.005
    """A smaller change is not worth a shift."""
    aim: float = 0.85
    """Of its capacity, nobody gets more."""
    room_band: float = 0.1
    """A change of what it takes, relative to traffic, below this is not followed."""
    ceiling: float = 0.9
    """Of the load at which it went bad: what it gets back at most ..."""
    ceiling_s: float = 3600.0
    """... for so long."""
    try_s: float = 600.0
    """From its floor it gets one step more after this, whatever the ceiling."""
    penalty: float = 1000.0
    """For each turn for the worse (the figures of RFC 2439's route flap damping) ..."""
    suppress: float = 2000.0
    """... over this in sum nothing comes back ..."""
    reuse: float = 750.0
    """... until it has decayed to this."""
    half_life_s: float = 60.0
    penalty_most: float = 12000.0
    """Four half-lives over `reuse`: the longest that it stays away for turning often."""
    pad_from: float = 0.8
    """Of a commit: from here on a CDN whose free bursts are nearly used up gets less ..."""
    pad_least: float = 0.2
    """... down to this part of its weight at the commit itself."""
    price_pull: float = 0.5
    """Weights are multiplied by (cheapest price / own price) to this power; 0: prices move nothing."""


USUAL = Settings()
