"""How soon a CDN at fault gets no more new flows, HAProxy with its fastest sane checks beside it.

How it measures:

- The lab's own: three CDNs (nginx) at equal weight behind wires of 10 ms, clients of 72 networks, each
  request on a connection of its own: 500 new flows/s to a busy service (IPv4), 2 to a quiet one (IPv6). Each
  endpoint is judged by its own connects, so one fault shows both.
- Trials in turn, in rounds whose order alternates: our edge as shipped, the same with its agent stopped
  (SIGSTOP, a second before the fault: the kernel decides alone), and HAProxy in the same namespace, on the
  same addresses and links, for the same clients. Each begins afresh, and lasts until its endpoints are known.
- Faults: dark (the wire swallows everything, both ways, also what is in flight), slow (150 ms more),
  refusing (nginx ends, its kernel resets), lossy (30 % each way). A fault's time is CLOCK_MONOTONIC when the
  wire had it in force; of refusing, when it was ordered.
- Our last new flow is what the data path itself wrote down (`last_new_flow_ns`: no probes). HAProxy's, and
  all counts, are of opening segments with the kernel's stamps at the far end of the edge's cable to that CDN,
  repeats left out. HAProxy checks another port, so no check is taken for a flow.
- HAProxy: TCP mode, connects and checks have 250 ms (25 round trips; its documentation suggests seconds),
  checks every 500 ms and every 100 once in doubt, fall 2; `observe layer4`, `error-limit 3`, `on-error
  mark-down`, `option redispatch 1`.
- Allowed to us: max(3 handshakes, 100 ms) and six intervals between new flows of that CDN, as they were in
  the second before the fault.

What is not flattering is shown as well: HAProxy connects in its clients' stead, so it can try again elsewhere
long before a client re-sends its SYN after 1 s; and its checks need no flows to notice by. Where nothing at
all happened to it, one stands as the peer, or there would be no ratio.

    balancers  who is measured        trial   one of them, one fault       rows    what is stated
    syns       opening segments       suite   rounds
"""

from tests.bench.failover.suite import results

__all__ = ["results"]
