"""Several changes that are sent as one: each is tried before any is sent, and none that is risky.

The agent takes one change at a time and has one wait at a time to be confirmed, so several cannot be
reverted together. What is risky among them is therefore not sent at all: alone it can wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from cdnctl.console import keys
from cdnctl.console.session import Session
from cdnctl.model import AnyChange, Outcome

PREVIEWED = 8
"""So many of a list are tried while one types; ctrl+s has all of them tried."""
TOLD_EACH = 10
"""Progress is told after each so many."""
_LISTED = 4

Tell = Callable[[str], None]
"""Takes words on how far it has come."""
Stopped = Callable[[], bool]
"""Whether whoever asked has thought better of it."""


def one_at_a_time(outcome: Outcome, count: int) -> Outcome:
    """The refusal to send several changes of which this is the risk."""
    text = (
        f"{outcome.risk}: that should wait to be confirmed, and {count:,} changes cannot wait together;"
        " nothing was sent: make them one at a time"
    )
    return replace(outcome, ok=False, text=text)


async def try_each(
    session: Session, wanted: Sequence[AnyChange], tell: Tell, stopped: Stopped = lambda: False
) -> Outcome:
    """What they would do, in words of the first; the first refusal or risk ends it. There is one or more."""
    first: Outcome | None = None
    warnings = dict[str, None]()
    for number, change in enumerate(wanted, 1):
        if stopped():
            return Outcome(ok=False, text="stopped: nothing was sent")
        outcome = await session.request(replace(change, dry_run=True))
        if not outcome.ok or outcome.risk:
            return outcome
        first = first or outcome
        warnings |= dict.fromkeys(outcome.warnings)
        if number % TOLD_EACH == 0:
            tell(f"tried {number:,} of {len(wanted):,}; {keys.face('cancel', 'dialog')} stops it")
    assert first is not None
    return replace(first, warnings=list(warnings))


async def send_each(
    session: Session, wanted: Sequence[AnyChange], tell: Tell, stopped: Stopped = lambda: False
) -> Outcome:
    """Send them in order; what was done, or the first refusal and what was done before it."""
    done: list[Outcome] = []
    for change in wanted:
        if stopped():
            return _ended(Outcome(ok=False, text="stopped"), done, len(wanted))
        outcome = await session.request(change)
        if not outcome.ok:
            return _ended(outcome, done, len(wanted))
        done.append(outcome)
        if len(done) % TOLD_EACH == 0:
            tell(f"done {len(done):,} of {len(wanted):,}; {keys.face('cancel', 'dialog')} stops it")
    return replace(done[-1], text=_words(done), warnings=_warnings(done))


def _ended(outcome: Outcome, done: list[Outcome], count: int) -> Outcome:
    warnings = [*_warnings(done), *outcome.warnings]
    if done:
        warnings.insert(0, f"done before that, {len(done):,} of {count:,}: {_words(done)}")
    return replace(outcome, warnings=warnings)


def _words(done: Sequence[Outcome]) -> str:
    said = "; ".join(outcome.text for outcome in done[:_LISTED])
    return f"{said}; and {len(done) - _LISTED:,} more" if len(done) > _LISTED else said


def _warnings(outcomes: Sequence[Outcome]) -> list[str]:
    """Each once: a long list of changes tends to have the same of all of them."""
    return list(dict.fromkeys(warning for outcome in outcomes for warning in outcome.warnings))
