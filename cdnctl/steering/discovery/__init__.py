"""Endpoints by DNS name: answers are asked for at their TTL, and followed with care.

core       what an answer means, pure          resolver   asks
"""

from cdnctl.steering.discovery.core import USUAL, Answer, Name, Refresh, Settings, ranked, refresh
from cdnctl.steering.discovery.resolver import resolve

__all__ = ["USUAL", "Answer", "Name", "Refresh", "Settings", "ranked", "refresh", "resolve"]
