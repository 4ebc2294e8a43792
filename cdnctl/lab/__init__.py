"""An edge, its clients and its CDNs in network namespaces, with real traffic and real faults.

    clients --------- edge --------- wire ===== wire process ===== CDN (one namespace each, nginx)
    HTTP clients,     the agent      one veth pair a CDN on each side, joined by one process that
    floods            and its XDP    delays, loses and paces frames
       |  \\
       |   `---------- wire ===== wire process ===== CDN: its way back, for what came in a tunnel
      far
    clients behind a hop of 1,280 bytes

Everything has IPv4 and IPv6. `lab.Lab` builds it and takes it down; everything is named after the lab,
so that several may run at once. `demo.main` plays a scenario in it (`scenarios`): *the incident*
(`scenario`), or an attack (`attacks`). What a killed run left behind is written in its run record, and
removed when a lab of that name starts again (`record.cleanup`).

The generators (`wire`, `decap`, `clients`, `flood`) are programs of their own, outside the edge's
namespace: run by `python -m`, they import nothing but the standard library and each other, take orders
on standard input, and end when it closes. This module imports nothing, for their sake. `quic`, QUIC
origins and a client, is for tests: it needs aioquic, which only they have.
"""
