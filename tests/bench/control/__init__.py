"""What an operator waits for: lists, edits, starts; and what a reload costs the traffic.

How it measures:

- A million addresses, or 900,000 and 100,000 /24s, are loaded by the agent's own code into tables of the
  edge's shapes: from the wanted networks to the last entry and its hints.
- An edit counts from the engine's call until the edge's program drops a packet from that source, or lets
  it pass again, with the million loaded; an operator's block from sending the command until the answer
  is there, with the state stored and the journal on the disk.
- Memory is what the kernel says of the tables, beside their bare keys and values.
- A start counts from the start of the process until it reports to be ready, with its program on every
  interface. Cold: nothing is there, and it compiles. Compiled before: it loads. In place: an agent before
  it left the data path. The agent's Python modules have their bytecode, as those of an installed package.
- During reloads 100,000 packets/s of established flows pass the edge, sent by sendmmsg at a steady pace;
  a counting program stands where they come out. What was sent and did not come out is lost. Before that,
  as long without a reload, none may be.

    a_million  a list from a file, as feeds take it: its time, its change, its memory
    blocks    lists and edits       starts    the agent's own
    steady    traffic at a pace     suite     the rows
    reloads   programs and settings swapped under it
"""

from tests.bench.control.suite import results

__all__ = ["results"]
