"""How long the console waits: for an answer, and before it asks once more when it asked too much at once."""

from __future__ import annotations

import asyncio
import re

from cdnctl.model import AnyCommand, BlockList, Detach, Diff, Outcome, Reload, Repair, Revert, Stop, Undo

QUICK_S = 10.0
"""For what the agent answers between two frames."""
DETACH_S = 30.0
"""Drivers take their time to let a program go."""
SLOW_S = 150.0
"""What may put another configuration into force, or looks at all the kernel holds: a program may have to be
compiled. The command line waits as long."""
MOST_TURNS = 200
"""So often one request is sent once more, each time after the wait that the agent asks for."""
_LONGEST_WAIT_S = 5.0

_TURNED_AWAY = re.compile(r"too many requests .* this one was not looked at")
_AGAIN = re.compile(r"try again in (\d+(?:\.\d+)?) s")


async def pause(seconds: float) -> None:
    """Let so much time go by."""
    await asyncio.sleep(seconds)


def timeout_s(command: AnyCommand) -> float:
    """How long its answer may take."""
    if isinstance(command, BlockList | Reload | Revert | Undo | Repair | Diff):
        return SLOW_S
    return DETACH_S if isinstance(command, Detach | Stop) else QUICK_S


def wait_s(outcome: Outcome) -> float:
    """After how long a request that the agent has not looked at may be sent again; 0: it has an answer."""
    if outcome.ok or not _TURNED_AWAY.match(outcome.text):
        return 0.0
    found = _AGAIN.search(outcome.remedy)
    return min(float(found[1]), _LONGEST_WAIT_S) if found else 1.0
