"""Errors an operator can do something about.

Anything foreseeable (no root, no BCC, an interface that is missing, an agent that is gone) is raised
as a `CdnctlError`: what is wrong and where, and what to do about it. The command line prints both and
exits non-zero; a traceback is always a bug of ours.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence

_SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path sudo uses on Debian and Ubuntu (`secure_path`)."""

_SETTINGS = ("CDNCTL_EDGE", "CDNCTL_CONFIG", "CDNCTL_RUN_DIR", "CDNCTL_STATE_DIR")
"""Variables that steer cdnctl; sudo drops them, so the line to type has to carry them."""


class CdnctlError(Exception):
    """A foreseeable failure: `message` says what is wrong and where, `remedy` what to do."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class UsageError(CdnctlError):
    """The command line asks for something that cannot be meant; nothing was tried."""

    exit_code = 2


class AgentUnreachable(CdnctlError):
    """No agent answers: there is none, it is gone, or it hangs."""


class NoAgent(AgentUnreachable):
    """Nobody listens: no socket, or a socket whose agent has died."""


class AgentSilent(AgentUnreachable):
    """An agent is there but does not answer in time: stopped, hung or overloaded."""


class AgentRefused(AgentUnreachable):
    """An agent is there and well, but does not take this client: protocol version, or no seat left."""


class Uncertain(AgentUnreachable):
    """The connection was lost in the middle of a change, and nobody can say any more whether it was made."""


class AgentRuns(CdnctlError):
    """Another agent holds this edge; a status of its own, so that whoever started us waits for it."""

    exit_code = 3


class NotPermitted(CdnctlError):
    """This user may not do that; the remedy is the exact line to type."""


class RecordingError(CdnctlError):
    """A recording that cannot be read, or not be written on."""


def sudo_line(argv: Sequence[str] | None = None) -> str:
    """The command line as typed, but under sudo: `sudo cdnctl block 198.51.100.7`; root needs no sudo.

    Names the program by its full path when sudo would not find it (a virtual environment), and
    carries cdnctl's own variables over, which sudo drops.
    """
    typed = list(sys.argv if argv is None else argv) or ["cdnctl"]
    settings = [f"{name}={os.environ[name]}" for name in _SETTINGS if os.environ.get(name)]
    sudo = [] if os.geteuid() == 0 else ["sudo", *settings]
    return shlex.join([*sudo, *_program(typed[0]), *typed[1:]])


def _program(script: str) -> list[str]:
    if os.path.basename(script) == "__main__.py":
        return [sys.executable, "-m", "cdnctl"]
    if "/" not in script or shutil.which("cdnctl", path=_SUDO_PATH) == os.path.abspath(script):
        return ["cdnctl"]
    return [os.path.abspath(script)]
