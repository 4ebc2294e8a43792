"""Run the bench; exit 1 when a gated row misses its bound, or when nothing could be measured."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path

from cdnctl.errors import CdnctlError
from tests.bench import loading, report
from tests.bench.rig import Rig
from tests.bench.rounds import Plan, measure
from tests.bench.rows import Bench
from tests.bench.subjects import Unsound

FULL, QUICK = Plan(rounds=101, seconds=200.0), Plan(rounds=15, seconds=50.0)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Nanoseconds per decision of the data path, beside what the bare kernel operations cost.",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK.rounds} rounds instead of {FULL.rounds}"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="so many rounds, at least 5")
    parser.add_argument("--rows", default="", metavar="TEXT", help="only rows whose name contains this")
    parser.add_argument(
        "--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default: bench.json"
    )
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    if arguments.rounds is not None:
        plan = Plan(arguments.rounds, seconds=math.inf)
        if plan.rounds < plan.at_least:
            parser.error(f"--rounds: at least {plan.at_least}, or there is no spread to state")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    started = time.monotonic()
    try:
        with Rig() as rig:
            _say("an edge with its flows and blocks")
            rows = [row for row in Bench(rig).rows if arguments.rows in row.name]
            if not rows:
                parser.error(f"no row has {arguments.rows!r} in its name")
            cpu = max(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cpu})
            results, rounds = measure(rig, rows, plan, _say)
            if not arguments.rows and rig.engine.program.built:
                results += loading.results(rig.engine.program.built)
    except (CdnctlError, Unsound) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        _say("")
    report.show(results)
    print(f"\n{report.machine()}, measured on CPU {cpu}")
    print(f"medians of {rounds} interleaved rounds; {time.monotonic() - started:.0f} s in all")
    report.write(results, arguments.json)
    missed = [result for result in results if result.gate and not result.holds]
    return 1 if missed else 0


def _say(text: str) -> None:
    """Where it stands, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
