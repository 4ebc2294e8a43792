"""A name server for the lab: UDP, one name, the addresses that a file has when it is asked.

python name_server.py ADDRESS PORT FILE TTL
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset


def answer(question: bytes, file: Path, ttl_s: int) -> bytes:
    """What is to be said to a question."""
    asked = dns.message.from_wire(question)
    made = dns.message.make_response(asked)
    made.flags |= dns.flags.RA
    (which,) = asked.question
    wanted = {dns.rdatatype.A: ".", dns.rdatatype.AAAA: ":"}.get(which.rdtype, "?")
    found = [line for line in file.read_text().split() if wanted in line]
    if found:
        made.answer.append(dns.rrset.from_text(which.name, ttl_s, "IN", which.rdtype, *found))
    return made.to_wire()


def main() -> None:
    """Answer for ever."""
    address, port, file, ttl = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, int(port)))
        while True:
            question, client = server.recvfrom(4096)
            server.sendto(answer(question, Path(file), int(ttl)), client)


if __name__ == "__main__":
    main()
