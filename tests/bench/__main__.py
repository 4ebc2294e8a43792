"""Run the bench; exit 1 when a gated row misses its bound, or when nothing could be measured."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path

from cdnctl.errors import CdnctlError
from tests.bench import report
from tests.bench.results import Result, Unsound

SUITES = ("decisions", "drops", "peers", "failover", "control", "agent", "console", "attacks")
LONG = ("console", "attacks")
"""Not among the quick ones, unless they are named."""
PEERS = {
    "drops": {"xdp-filter": "xdp-tools"},
    "peers": {"haproxy": "haproxy", "wrk": "wrk", "nft": "nftables", "nginx": "libnginx-mod-stream"},
    "failover": {"haproxy": "haproxy"},
}
"""What a suite runs beside ours, and the package that has it."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="What the data path takes and keeps, beside its peers on the same links in the same run.",
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"only these of: {', '.join(SUITES)}; default: all"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"fewer rounds of what has a bound, without {' and '.join(LONG)}: a minute and a half",
    )
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: bench.json"
    )
    arguments = parser.parse_args()
    suites = arguments.suites or [suite for suite in SUITES if not (arguments.quick and suite in LONG)]
    if unknown := set(arguments.suites) - set(SUITES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit("ended"))
    if not os.access(arguments.json.absolute().parent, os.W_OK):
        parser.error(f"--json: {arguments.json} cannot be written")
    started = time.monotonic()
    results: list[Result] = []
    failed: dict[str, Unsound] = {}
    try:
        _check_peers(suites)
        with _alone():
            for suite in suites:
                if not sys.stderr.isatty():
                    print(f"bench: {suite}", file=sys.stderr, flush=True)
                measure: Callable[..., list[Result]] = import_module(f"tests.bench.{suite}").results
                try:
                    results += measure(quick=arguments.quick, say=lambda text, suite=suite: _say(suite, text))
                except Unsound as error:
                    failed[suite] = error  # what the others found stands
                report.write(results, arguments.json)  # and outlives whoever ends it before its time
    except CdnctlError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        _say("", "")
    report.show(results)
    print(f"\n{report.machine()}; {time.monotonic() - started:.0f} s in all")
    report.write(results, arguments.json)
    for suite, unsound in failed.items():
        print(f"bench: {suite} measured nothing: {unsound}", file=sys.stderr)
    missed = [result for result in results if result.gate and not result.holds]
    return 1 if missed or failed else 0


def _check_peers(suites: Iterable[str]) -> None:
    """Before anything is measured. Raises CdnctlError."""
    wanted = {program: package for suite in suites for program, package in PEERS.get(suite, {}).items()}
    if missing := [program for program in wanted if not shutil.which(program)]:
        packages = " ".join(wanted[program] for program in missing)
        raise CdnctlError(f"missing: {', '.join(missing)}", f"apt-get install {packages}")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One bench at a time, since each removes what a killed one left."""
    if os.geteuid() != 0:
        raise CdnctlError("the bench loads programs and makes network namespaces", "run it as root")
    # a name in the abstract namespace is free again when its holder dies, and leaves no file
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind("\0cdnctl-bench")
        except OSError as error:
            raise CdnctlError("another bench is running on this box", "wait until it is done") from error
        yield


def _say(suite: str, text: str) -> None:
    """Where it stands, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{suite}: {text}" if text else "\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
