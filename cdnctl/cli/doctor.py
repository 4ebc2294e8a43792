"""`cdnctl doctor`."""

from __future__ import annotations

import argparse


def run(options: argparse.Namespace) -> int:
    """Look at the box."""
    raise NotImplementedError
