"""Nanoseconds per decision, side by side with what the bare kernel operations cost.

How it measures:

- BPF_PROG_TEST_RUN repeats a program without restoring the frame, so that from the second packet on a
  rewriting program would see its own output. Here a small program, the shim (shim.h), runs first: it
  restores the frame, takes addresses and ports from the next entry of a prepared stream and tail-calls
  the program under test.
- The shim in front of a program that does nothing is measured on the same stream, just before, and
  subtracted.
- A row's peer is a reference program (reference.h) on the same stream and the same pinned table, or
  another row's subject. For strangers that is the table of VIPs itself: ours has cells in front of it, which
  is what makes a ratio below one possible. All are measured in turn, in many rounds whose order alternates;
  a row states medians, and the median of the rounds' own ratios: on a shared box only those are worth much.
- Segments carry no data: what a client's or CDN's data adds (a request timed, a loss noticed) is not in it.
- Every timed run is checked: the data path's counters must say that each packet got the verdict that
  the row is about.

The edge is a real one, as shipped: the engine's own set-up in a network namespace, with forwarding,
neighbours, IPv4 and IPv6, three CDNs behind NAT and two behind tunnels, a customer with limits, latency
policy, samples read by the perf reader. Flows are made by the program itself, from SYN, SYN-ACK and ACK.

    rig       the edge in its namespaces, and its removal      packets   frames and streams
    shim      compiled programs, streams, one timed run        flows     handshakes, slots put back
    subjects  what is timed, and how it is checked             rows      what is measured beside what
    rounds    the measuring                                    loading   what the verifier has to do
"""

from tests.bench.decisions.suite import results

__all__ = ["results"]
