"""The agent: serves one edge on Unix sockets, frames down and commands up, and its clients.

- `protocol`   what goes over the socket, and how it is framed
- `peer`       who is at the other end, by the kernel's word
- `session`    one connected client: hello, requests, and a queue that a slow reader cannot clog
- `server`     all clients of an edge, and the frame clock
- `exporter`   the page for Prometheus
- `process`    what surrounds the server: privileges, network namespace, lock, sockets, sd_notify
- `main`       `run`: what `cdnctl agent` does
- `edge`       which edge is meant
- `start`      an agent in a session of its own
- `client`     the door for everybody else: `Client` (`blocking`), `AsyncClient` (`streaming`), and both above

Imports nothing here, so that a client stays cheap.
"""
