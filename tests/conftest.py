"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Deadlines measure the machine, not the code. CI repeats the same examples, so that it fails for a
# reason in the change; elsewhere each run tries new ones.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
