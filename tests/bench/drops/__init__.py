"""Drops per second on one core, beside xdp-filter's.

How it measures:

- BPF_PROG_TEST_RUN with live frames sends out of one end of a veth whose other end has a program attached:
  that of a real edge (as the suite `decisions` makes it) with a million addresses blocked, or
  xdp-filter's, set to drop by source address. Generator, link and program share one core, so that each
  rate is of all three together.
- The frame is a whole TCP SYN to a service. The generator writes the source of each, from a list in
  random order: frames are recycled and not restored, but what is dropped was not changed.
- A figure is what the program itself counted as dropped, by the time that the run took; what the link
  could not take is not in it. Each run is bounded by its number of frames.
- The two are measured in turn, in rounds whose order alternates.

xdp-filter's table holds 10,000 IPv4 addresses and no more: from sources spread over ours, a million, it
gets sources spread over its own ten thousand, all that can be asked of it.

    live    the generator, and one run      filter    xdp-filter on a link of its own      suite    the rows
"""

from tests.bench.drops.suite import results

__all__ = ["results"]
