"""Clients at a fixed pace: requests on new connections, one after the other.

    python -m tests.bench.peers.paced '{"target": ["203.0.113.80", 80], "source": "10.1.0.1",
                                        "rate": 500, "seconds": 1}'

Request i is due at start + i/rate. One that the one before it has kept waiting counts from when it was due,
so a way that stalls is not asked less. Prints the times in microseconds, and how many requests failed.
"""

from __future__ import annotations

import gc
import json
import socket
import sys
import time

_REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
_TIMEOUT_S = 3.0
_IP_BIND_ADDRESS_NO_PORT = 24


def ask(target: tuple[str, int], source: str) -> bool:
    """One request on a connection of its own; whether it was answered, to the last byte."""
    with socket.socket() as client:
        client.settimeout(_TIMEOUT_S)
        client.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((source, 0))
        client.connect(target)
        client.sendall(_REQUEST)
        answer = b""
        while part := client.recv(65536):  # the origin closes behind its answer
            answer += part
    return answer.startswith(b"HTTP/1.1 200")


def run(target: tuple[str, int], source: str, rate: float, seconds: float) -> tuple[list[float], int]:
    """Times (us) of those that were answered, and the number of the others."""
    times: list[float] = []
    failed = 0
    begun = time.monotonic_ns()
    last = begun
    for number in range(int(rate * seconds)):
        due = begun + int(number * 1e9 / rate)
        waited = last > due
        while (now := time.monotonic_ns()) < due:
            time.sleep((due - now) / 1e9)
        try:
            answered = ask(target, source)
        except OSError:
            answered = False
        last = time.monotonic_ns()
        if answered:
            times.append((last - (due if waited else now)) / 1e3)
        else:
            failed += 1
        if last > begun + int(2e9 * seconds):
            break  # hopelessly late
    return times, failed


def main() -> None:
    """The command."""
    order = json.loads(sys.argv[1])
    host, port = order["target"]
    gc.disable()  # its pauses would be taken for the way's
    times, failed = run((host, port), order["source"], order["rate"], order["seconds"])
    print(json.dumps({"us": [round(each, 1) for each in times], "failed": failed}))


if __name__ == "__main__":
    main()
