"""What the agent takes of the box it is to protect, with many who watch.

How it measures:

- A lab's edge under 260 requests/s of real clients, and so many consoles at its agent: connections that say
  hello as a console does, and read every frame. One of them has stopped reading, as behind a dead SSH line.
- The agent's processor time is the kernel's count of all its threads: frames, samples, sweeps and sending.
  The agent without consoles is measured one right after the other.
- A frame is late by the time from its own stamp until all of it is with the reader; those of all readers but
  the stalled one are taken together. What the reader's own process takes is in it.

    consoles  the readers        suite   rounds and rows
"""

from tests.bench.agent.suite import results

__all__ = ["results"]
