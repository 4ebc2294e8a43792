"""The planner: effective weights from what was measured, every move explained.

The kernel's reflex takes out what is dark or refusing within milliseconds. The planner looks further: at
p95 beside the peers', loss, failures, capacity, cost and what is to be expected, and moves weights a step
at a time. *Good enough plus weights*, not the fastest takes all: within a band nobody is moved, so that
operators' weights mean something, and so that load, which makes whoever has it slower, does not chase
itself round the CDNs.

All of it is a pure function of readings, wishes, the time and what it remembers; `cdnctl simulate` runs it
on recorded frames.

    reading    what is known of a CDN in a round; from frames
    judge      bad, good or in between, beside its peers
    plan       one round                  shares     what fits, how far it may go
    cells      the same for the clients of a region and a class of traffic
    memory     from round to round        cost       prices and commits
    settings   its figures                words      a shift as a sentence
"""

from cdnctl.steering.planner.cells import CellMemory, CellPlan, factors, plan_cells
from cdnctl.steering.planner.cost import Costs, Tariff, Usage
from cdnctl.steering.planner.memory import Code, Memory
from cdnctl.steering.planner.plan import Plan, Shift, Wants, plan
from cdnctl.steering.planner.reading import Capacity, Cell, Latency, Reading, Timed, readings
from cdnctl.steering.planner.settings import USUAL, Settings
from cdnctl.steering.planner.words import words

__all__ = [
    "USUAL",
    "Capacity",
    "Cell",
    "CellMemory",
    "CellPlan",
    "Code",
    "Costs",
    "Latency",
    "Memory",
    "Plan",
    "Reading",
    "Settings",
    "Shift",
    "Tariff",
    "Timed",
    "Usage",
    "Wants",
    "factors",
    "plan",
    "plan_cells",
    "readings",
    "words",
]
