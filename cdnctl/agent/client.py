"""How other parts reach an agent: find or start it, then talk to it, waiting or in asyncio.

One door to the modules behind it; the command line, which counts milliseconds, takes them one by one.
"""

from __future__ import annotations

from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import find_edge
from cdnctl.agent.start import ensure_agent
from cdnctl.agent.streaming import AsyncClient

__all__ = ["AsyncClient", "Client", "ensure_agent", "find_edge"]
