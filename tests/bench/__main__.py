"""Run the bench; exit 1 when a gated row misses its bound, or when nothing could be measured."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from cdnctl.errors import CdnctlError
from tests.bench import report
from tests.bench.results import Result, Unsound

SUITES = ("decisions", "drops", "peers", "failover", "control")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="What the data path takes and keeps, beside its peers on the same links in the same run.",
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"only these of: {', '.join(SUITES)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: all suites in under 90 s")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: bench.json"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(SUITES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    started = time.monotonic()
    results: list[Result] = []
    failed: dict[str, Unsound] = {}
    try:
        with _alone():
            for suite in arguments.suites or SUITES:
                measure: Callable[..., list[Result]] = import_module(f"tests.bench.{suite}").results
                try:
                    results += measure(quick=arguments.quick, say=lambda text, suite=suite: _say(suite, text))
                except Unsound as error:
                    failed[suite] = error  # what the others found stands
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
