"""Load with bounds: wrk for what a request costs, clients at a fixed pace (`paced`) for how long it takes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from cdnctl.lab.gauges import Machine
from cdnctl.lab.processes import LabError, end, start
from cdnctl.python import python_module
from tests.bench.peers.place import CLIENTS, HOME, PORT
from tests.bench.results import Unsound

CONNECTIONS = 32
"""Of wrk, at a time."""
DOWNLOADS = 4
_SPARE_S = 15.0
"""A load that has not ended so long after its time never will."""
_FAILED = 1e-3
"""More failures than this part of all requests, and it was not the way that was measured."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
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
    """Processor time of the whole box meanwhile: clients, edge, origins, and the kernel for all of them."""

    @property
    def us_per_request(self) -> float:
        return self.busy_s * 1e6 / self.requests

    @property
    def s_per_gigabyte(self) -> float:
        return self.busy_s * 1e9 / self.bytes

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds


def new_connections(target: str, seconds: int) -> Cost:
    """As many requests as it takes, each on a connection of its own."""
    return _wrk(target, "/", seconds, ["-H", "Connection: close"])


def kept_alive(target: str, seconds: int) -> Cost:
    """The same on connections that stay."""
    return _wrk(target, "/", seconds)


def downloads(target: str, seconds: int) -> Cost:
    """Few connections, and large objects."""
    return _wrk(target, "/big", seconds, connections=DOWNLOADS)


def _wrk(
    target: str, path: str, seconds: int, options: Sequence[str] = (), *, connections: int = CONNECTIONS
) -> Cost:
    script = HOME / "summary.lua"
    if not script.exists():
        script.write_text(_SUMMARY)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "-s", str(script)]
    before = Machine.read()
    said = _finish([*command, *options, f"http://{target}:{PORT}{path}"], seconds)
    busy_s = (Machine.read().busy - before.busy) / TICKS_PER_S
    return cost(said, busy_s)


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
    if failed > _FAILED * requests or (not requests and failed):
        raise Unsound(f"{failed} of {requests + failed} requests failed")


def request_times_us(target: str, sources: Sequence[str], rate: float, seconds: float) -> list[float]:
    """Times of requests on new connections that begin at a fixed pace, from connect to the last byte."""
    order = {"target": [target, PORT], "sources": list(sources), "rate": rate, "seconds": seconds}
    command = ["nice", "-n", "-10", *python_module("tests.bench.peers.paced", json.dumps(order))]
    answer = json.loads(_finish(command, seconds))
    sound(len(answer["us"]), answer["failed"])
    if len(answer["us"]) < rate * seconds * 0.9:
        raise Unsound(f"{len(answer['us'])} requests in {seconds:g} s where {rate * seconds:g} were due")
    times: list[float] = answer["us"]
    return times


def _finish(command: Sequence[str], seconds: float) -> str:
    process = start(command, namespace=CLIENTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = process.communicate(timeout=seconds + _SPARE_S)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} does not end") from error
    finally:
        end(process)
    return said.decode(errors="replace")
