"""What the tests of the breaker share: connects that are answered, refused, slow, or not answered at all.

Times pass by sleeping a little, or by making what the edge remembers older.
"""

from __future__ import annotations

import time
from collections import Counter

from harness import AURORA, CDNS, MS, DataPath
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Breaker, Verdict

USUAL_US = 30_000
"""A CDN that `learn` made known: over 110 ms is slow, unanswered for 90 ms says something."""
PATIENCE_MS = 90


def client(n: int) -> str:
    """A client of the n-th /24."""
    return f"10.{n // 250}.{n % 250}.7"


def learn(path: DataPath) -> None:
    """Aurora's usual time is known."""
    path.change_health(
        AURORA, samples=20, baseline_us=USUAL_US, ewma_us=USUAL_US, ewma_at_ns=time.monotonic_ns()
    )
    new_window(path)


def wait(path: DataPath, ms: float) -> None:
    """Let aurora's unanswered connects grow older by so much."""
    health = path.health(AURORA)
    shift = int(ms * MS)
    path.change_health(
        AURORA,
        dark_ns=health.dark_ns - shift,
        last_answer_ns=health.last_answer_ns - shift if health.last_answer_ns else 0,
    )


def new_window(path: DataPath) -> None:
    """Let the tenth of a second pass over which slow handshakes must be the most."""
    path.change_health(AURORA, window_ns=1)


def is_out(path: DataPath, cdn: str = AURORA) -> bool:
    """Whether the CDN is out; the weight that is out must say the same."""
    health = path.health(cdn)
    others = sum(path.health(other).reserved_weight for other in CDNS if other != cdn)
    assert path.tables.weight_out(abi.Pool.TCP4) == health.reserved_weight + others
    return health.state == Breaker.OUT


def connect(path: DataPath, n: int, service: str = "solo") -> Session:
    """A SYN of the n-th network."""
    session = Session(path, service, client=client(n))
    assert session.syn().verdict is Verdict.FORWARDED
    return session


def refuse(path: DataPath, n: int, service: str = "solo") -> None:
    """A connect that is answered by a reset."""
    assert connect(path, n, service).refuse().verdict is Verdict.REPLIED


def take_out(path: DataPath) -> None:
    """Aurora refuses three connects."""
    for n in range(3):
        refuse(path, n)
    assert is_out(path)


def slow_handshake(path: DataPath, n: int, ms: float = 200) -> None:
    """One that takes so long."""
    session = connect(path, n)
    session.age(ms)
    session.syn_ack()


def spread(path: DataPath, count: int = 120, service: str = "www") -> Counter[str]:
    """Where new flows go; nobody answers them, and nobody is blamed for it."""
    path.change(dark_connects=1_000_000)
    found: Counter[str] = Counter()
    for n in range(count):
        found[connect(path, 100 + n, service).cdn] += 1
    return found
