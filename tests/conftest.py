"""Settings of all tests."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings
from pytest_rerunfailures import StatusDB

# Deadlines measure the machine, not the code. CI repeats the same examples, so that it fails for a
# reason in the change; elsewhere each run tries new ones. `make soak` asks for the whole; tests that want
# more, or fewer, say so as a multiple of `settings.default.max_examples`.
_FIXED = bool(os.environ.get("CI"))
settings.register_profile("gate", deadline=None, derandomize=_FIXED, max_examples=30)
settings.register_profile("whole", deadline=None, derandomize=_FIXED, max_examples=300)
settings.load_profile("gate")

# What is imported by then stays to the end: looked through again and again it costs a tenth of all time.
gc.set_threshold(50_000, 20, 100)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """A worker need not ask the one that gives out work, byte by byte, whether its test has crashed before.

    That is for distributing single tests: here a file is one worker's, and a crash is a failure.
    """
    if hasattr(config, "workerinput"):
        config.failures_db = StatusDB()  # type: ignore[attr-defined]


def pytest_collection_finish() -> None:
    """Leave what there is out of all later collections."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """pytest collects five times over at its end: once is enough to hear of what nobody has awaited."""
    gc.collect()
    gc.freeze()
