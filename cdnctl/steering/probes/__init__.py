"""Asking endpoints whether they serve: for what packets do not show, and while no flows go there.

result    what is asked, what came of it     ask      asks once: TCP, TLS, HTTP
health    rise and fall, and what real flows say beside it
"""

from cdnctl.steering.probes.ask import ask
from cdnctl.steering.probes.health import Health, Passive, Verdict, certificate_warning, combined, wait_s
from cdnctl.steering.probes.prober import Prober, Target
from cdnctl.steering.probes.result import Probe, Result

__all__ = [
    "Health",
    "Passive",
    "Probe",
    "Prober",
    "Result",
    "Target",
    "Verdict",
    "ask",
    "certificate_warning",
    "combined",
    "wait_s",
]
