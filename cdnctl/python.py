"""Starting our own modules as programs of their own, without picking up a stranger's code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from cdnctl.paths import PACKAGE


def python_module(name: str, *arguments: str) -> list[str]:
    """The command line that runs module `name` by this interpreter.

    With -P: modules are never taken from the directory somebody happens to be in, we may be root.
    """
    return [sys.executable, "-P", "-m", name, *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of our own programs: they import the package that runs now."""
    # An empty entry would mean the current directory.
    others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(PACKAGE.parent), *others)), **(extra or {})}
