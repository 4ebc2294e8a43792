"""The agent: serves one edge on Unix sockets, frames down and commands up, and its clients.

- `protocol`   what goes over the socket, and how it is framed
- `peer`       who is at the other end, by the kernel's word, and who may come in
- `limits`     how much a client and a user may ask
- `outcomes`   what became of requests, for who asks again
- `session`    one connected client: hello, requests, and a queue that a slow reader cannot clog
- `server`     all clients of an edge, and the frame clock
- `exporter`   the page for Prometheus
- `noting`     what is refused before it is tried, and what the log has of commands and events
- `process`    what surrounds the server: privileges, network namespace, lock, sockets
- `service`    what the service manager is told
- `logs`       a line a record, for people or for programs
- `main`       `run`: what `cdnctl agent` does
- `edge`       which edge is meant
- `start`      an agent in a session of its own
- `client`     the door for everybody else: `Client` (`blocking`), `AsyncClient` (`streaming`), and both above

Imports nothing here, so that a client stays cheap.
"""
