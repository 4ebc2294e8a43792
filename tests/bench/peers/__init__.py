"""What a request costs the box, with live peers on the same links in the same run.

How it measures:

- Clients, an edge and origins are three network namespaces joined by two veth pairs. The origins are nginx,
  the load is wrk with bounded connections and time. Five ways lead from the one to the other: straight
  routing (the floor), nftables (DNAT and SNAT), nginx (stream), HAProxy (TCP), and ours: the real agent and
  its data path as shipped, with NAT, policy `latency`, accounting, sampling and measuring on.
- They take turns, a second each, in rounds whose order alternates. What is not measured is not in the way:
  our program is detached and its agent asleep, nftables' rules (and so conntrack) are gone, servers without
  connections sleep. Each way is warmed first; a row states medians of rounds, and of the rounds' own ratios.
- Each load comes from a client's address of its own, so that no pair of address and port is met again while
  it rests. A load that fails more than one request in a thousand, or a link that drops as many frames, ends
  the bench: it would not be the way that was measured.
- Processor time is the whole box's, less what it does at rest: wrk and the origins are in it, and the same
  for all, so that no ratio can be less than what they alone make of it: see that of routing.
- The edge's own share is the run time of our programs by the kernel's own account, in passes of their own,
  since that adds about 110 ns to each run; HAProxy's is the user and system time of its process. On veth some
  of its system time is work for the far ends, which a frame that is sent is handed to at once.
- Latency is that of requests on new connections at a fixed pace, far from saturation, of clients that ask one
  after the other. Added is what comes on top of straight routing in the same round, at least a microsecond.

A request's frames cross veth: there is no offload of checksums or segments on these links, for any way, and
each frame is copied for XDP. At the far ends veth wants an XDP program for frames that are redirected there:
one that passes all is part of these links, for every way. No network card needs it; while it was there for
ours alone, and at ours' expense, our part of HAProxy's cost was 0.04 more.

    place       namespaces, links, addresses      load        wrk, and clients at a fixed pace
    servers     origins, HAProxy, nginx           paced       those clients
    ways        the five, switched on and off     processors  processor time of the box
    figures     what rounds give, and the rows    suite       the rounds
"""

from tests.bench.peers.suite import results

__all__ = ["results"]
