"""When memory is looked through for cycles that nobody needs: while nobody waits.

A whole round of Python's collector looks at each object there is, history and screens: over a tenth of a
second, once a second while screens are opened and closed, and felt as keys that hang. So whole rounds wait
for a pause between keys. What has outlived one is put out of the collector's sight (gc.freeze) until the
next: a round that cannot wait looks only at what has come since.
"""

from __future__ import annotations

import gc
import time

EVERY_S = 1.0
PAUSE_S = 0.4
"""Without a key for so long, nobody waits."""
REST_S = 10.0
"""Between rounds while nobody does anything."""
LATEST_S = 8.0
"""After so long a round is due, whoever waits: each dialog that was left is a cycle, and the memory of many
would not come back."""
_YOUNG, _MIDDLE, _NEVER = 2_000, 10, 1_000_000


class Garbage:
    """Of one process that is nothing but a console."""

    def __init__(self) -> None:
        """What has been imported stays."""
        gc.freeze()
        gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)
        self._last_s = time.monotonic()

    def begin(self) -> None:
        """All that any key needs has been read, and stays. What comes later may go again, and must not."""
        gc.collect()
        gc.freeze()
        self._last_s = time.monotonic()

    def look(self, key_s: float) -> None:
        """Called every `EVERY_S`; the last key was at `key_s` of the monotonic clock."""
        now_s = time.monotonic()
        since_s, was_used = now_s - self._last_s, key_s > self._last_s
        if since_s > REST_S or (was_used and now_s - key_s > PAUSE_S):
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._last_s = now_s
        elif was_used and since_s > LATEST_S:
            gc.collect()
            self._last_s = now_s
