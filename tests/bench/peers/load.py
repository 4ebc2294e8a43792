"""Load with bounds: wrk for what a request costs, clients at a fixed pace (`paced`) for how long it takes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cdnctl.lab import netns
from cdnctl.lab.processes import LabError, end, start
from cdnctl.python import python_module
from tests.bench.peers.place import CLIENTS, HOME, ORIGINS, PORT
from tests.bench.peers.processors import Processors
from tests.bench.results import Unsound

CONNECTIONS = 32
"""Of wrk, at a time."""
DOWNLOADS = 4
_BEGINNING_S, _END_S = 0.2, 0.1
"""Of a load, not counted."""
_SNMP = Path("/proc/self/net/snmp")
_SPARE_S = 15.0
"""A load that has not ended so long after its time never will."""
_FAILED = 1e-3
"""More failures than this part of all requests, and it was not the way that was measured."""
_PUNCTUAL = 0.9
"""Fewer requests than this part of those that were due, and the pace was not what it should be."""
_SUMMARY = """\
done = function(summary)
  local e = summary.errors
  io.write(string.format('\\nSUMMARY {"requests": %d, "bytes": %d, "us": %d, "failed": %d}\\n',
    summary.requests, summary.bytes, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Cost(NamedTuple):
    """What a load did, and what the box had to do for it."""

    requests: int
    bytes: int
    seconds: float
    busy_s: float
    """Processor time of the whole box meanwhile, also of wrk's own start."""
    own_s: float = 0.0
    """And of the way's own processes."""

    def without(self, at_rest: float) -> Cost:
        """But for what the box does anyway: so many seconds of work in a second."""
        return self._replace(busy_s=self.busy_s - at_rest * self.seconds)

    @property
    def us_per_request(self) -> float:
        return self.busy_s * 1e6 / self.requests

    @property
    def own_us_per_request(self) -> float:
        return self.own_s * 1e6 / self.requests

    @property
    def ms_per_gigabyte(self) -> float:
        return self.busy_s * 1e12 / self.bytes

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds


def new_connections(target: str, seconds: int, own_s: Callable[[], float] = lambda: 0.0) -> Cost:
    """As many requests as it takes, each on a connection of its own; `own_s` reads the way's own clock.

    Counted from within: neither wrk's own start is in it, nor its end. How many there were meanwhile the
    origins' kernel says, which took just as many connections.
    """
    process = _start(_command(target, "/", seconds, ["-H", "Connection: close"], CONNECTIONS))
    try:
        time.sleep(_BEGINNING_S)
        accepted, own, before = _accepted(), own_s(), Processors.read()
        time.sleep(max(0.1, seconds - _BEGINNING_S - _END_S))
        after, own, requests = Processors.read(), own_s() - own, _accepted() - accepted
        whole = cost(_said(process, seconds), before.busy_until(after))
    finally:
        end(process)
    if not requests:
        raise Unsound(f"of {whole.requests} requests to {target} the origins saw no connection meanwhile")
    return whole._replace(requests=requests, seconds=after.at_s - before.at_s, own_s=own)


def _accepted() -> int:
    """Connections that the origins' kernel has taken so far."""
    with netns.entered(ORIGINS):
        names, values = (line.split() for line in _SNMP.read_text().splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("PassiveOpens")])


def kept_alive(target: str, seconds: int) -> Cost:
    """The same on connections that stay."""
    return _wrk(target, "/", seconds)


def downloads(target: str, seconds: int) -> Cost:
    """Few connections, and large objects."""
    return _wrk(target, "/big", seconds, connections=DOWNLOADS)


def _wrk(
    target: str, path: str, seconds: int, options: Sequence[str] = (), *, connections: int = CONNECTIONS
) -> Cost:
    before = Processors.read()
    said = _finish(_command(target, path, seconds, options, connections), seconds)
    return cost(said, before.busy_until(Processors.read()))


def _command(target: str, path: str, seconds: int, options: Sequence[str], connections: int) -> list[str]:
    script = HOME / "summary.lua"
    if not script.exists():
        script.write_text(_SUMMARY)
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(script)]
    return [*wrk, *options, f"http://{target}:{PORT}{path}"]


def cost(said: str, busy_s: float) -> Cost:
    """By wrk's own summary. Raises Unsound when requests have failed, or none was answered."""
    found = [line for line in said.splitlines() if line.startswith("SUMMARY ")]
    if not found:
        raise Unsound(f"wrk gave no summary: {said.strip()}")
    summary = json.loads(found[-1].removeprefix("SUMMARY "))
    sound(summary["requests"], summary["failed"])
    return Cost(summary["requests"], summary["bytes"], summary["us"] / 1e6, busy_s)


def sound(requests: int, failed: int) -> None:
    """Raises Unsound."""
    if not requests or failed > _FAILED * requests:
        raise Unsound(f"{failed} of {requests + failed} requests failed")


def request_times_us(target: str, sources: Sequence[str], rate: float, seconds: float) -> list[float]:
    """Times of requests on new connections that begin at a fixed pace, from connect to the last byte.

    One process for each source takes its part of the rate.
    """
    each = rate / len(sources)
    paced = []
    try:
        for source in sources:
            order = {"target": [target, PORT], "source": source, "rate": each, "seconds": seconds}
            command = ["nice", "-n", "-10", *python_module("tests.bench.peers.paced", json.dumps(order))]
            paced.append(_start(command))
        said = [_said(process, seconds) for process in paced]
    finally:
        for process in paced:
            end(process)
    answers = [json.loads(text) for text in said]
    times = [time_us for answer in answers for time_us in answer["us"]]
    sound(len(times), sum(answer["failed"] for answer in answers))
    if len(times) < _PUNCTUAL * rate * seconds:
        raise Unsound(f"{len(times)} requests in {seconds:g} s where {rate * seconds:g} were due")
    return times


def _finish(command: Sequence[str], seconds: float) -> str:
    process = _start(command)
    try:
        return _said(process, seconds)
    finally:
        end(process)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return start(command, namespace=CLIENTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _said(process: subprocess.Popen[bytes], seconds: float) -> str:
    try:
        said, _ = process.communicate(timeout=seconds + _SPARE_S)
    except subprocess.TimeoutExpired as error:
        raise LabError("a load does not end") from error
    return said.decode(errors="replace")
