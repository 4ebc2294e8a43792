"""Proof by measurement: `python -m tests.bench [--quick]` prints *ours, peer, ratio*, writes bench.json.

Each suite is a package of its own with one function, `results`, that measures and gives the rows:

    decisions  nanoseconds per decision, beside the bare kernel operations it needs
    drops      drops per second on one core, beside xdp-filter
    peers      what a request costs the box, beside HAProxy, nginx, nftables and routing
    failover   how soon a CDN at fault gets no more new flows, beside HAProxy
    control    lists by the million, edits, starts, and reloads under traffic
    attacks    what honest clients notice of each, at the rate that a program serves at that only drops

and here is what they share:

    results    a row, and what it should be          report   the table, bench.json, the machine
"""
