"""Where things are: sockets, state, pins, and the files that come with the program.

Every function is cheap and makes nothing. The places that a test, a lab or a second edge may want
elsewhere can be moved by an environment variable: `CDNCTL_RUN_DIR`, `CDNCTL_STATE_DIR`, `CDNCTL_CONFIG`,
`CDNCTL_CACHE_DIR`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
NAME = re.compile(r"[a-z0-9-]{1,32}")
"""What edges, CDNs and services may be called: safe in a path, a label and a table cell."""

BPFFS = Path("/sys/fs/bpf")
CURRENT = "current"
"""A link among an edge's pins."""
OPERATORS_GROUP = "cdnctl"
"""Members may watch and change the edge."""
VIEWERS_GROUP = "cdnctl-view"
"""Members may watch."""
OF_DEMO = "CDNCTL_OF_DEMO"
"""A variable that tells a console that the demo, and its edge, end with it."""


def check_name(name: str) -> str:
    """Return `name`, or raise ValueError if it is no valid name (it becomes part of paths)."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no valid name: 1 to 32 of a-z, 0-9 and '-'")
    return name


def run_dir() -> Path:
    """Sockets and locks; gone after a boot."""
    return Path(os.environ.get("CDNCTL_RUN_DIR") or "/run/cdnctl")


def config_path() -> Path:
    """The operator's file."""
    return Path(os.environ.get("CDNCTL_CONFIG") or "/etc/cdnctl/cdnctl.toml")


def state_dir(edge: str) -> Path:
    """What operators changed at run time, and the journal, of one edge."""
    return Path(os.environ.get("CDNCTL_STATE_DIR") or "/var/lib/cdnctl") / check_name(edge)


def journal_path(edge: str) -> Path:
    """Who changed what on one edge, when and why."""
    return state_dir(edge) / "journal.jsonl"


def nat_log_path(edge: str) -> Path:
    """Whose each SNAT port of one edge was, if that is logged; older files have a number behind."""
    return state_dir(edge) / "nat.log"


RECORDINGS = "recordings"


def recordings_dir(edge: str) -> Path:
    """Where the agent writes what operators have it record."""
    return state_dir(edge) / RECORDINGS


def cache_dir() -> Path:
    """Compiled data paths, which may be deleted at any time: of all edges, and root's alone."""
    return Path(os.environ.get("CDNCTL_CACHE_DIR") or "/var/cache/cdnctl")


def socket_path(edge: str) -> Path:
    """Where the agent takes commands: 0660 root:cdnctl, or 0600 where that group does not exist."""
    return run_dir() / f"{check_name(edge)}.sock"


def view_socket_path(edge: str) -> Path:
    """Where the agent can only be watched: 0660 root:cdnctl-view, or 0600 without that group."""
    return run_dir() / f"{check_name(edge)}.view.sock"


def lock_path(edge: str) -> Path:
    """Held by flock by the one agent of this edge."""
    return run_dir() / f"{check_name(edge)}.lock"


def start_path(edge: str) -> Path:
    """What the last agent of this edge was started with, so that others look at the same."""
    return run_dir() / f"{check_name(edge)}.start.json"


def forwarding_path(edge: str) -> Path:
    """Which interfaces had IPv4 forwarding off before the edge was attached to them."""
    return run_dir() / f"{check_name(edge)}.forwarding.json"


def pin_dir(edge: str) -> Path:
    """All of the edge's in bpffs, which outlives every process: a directory for each layout of tables, of
    which there are two only while flows move, and a link to the one that holds."""
    return BPFFS / "cdnctl" / check_name(edge)


def tables_dir(edge: str) -> Path:
    """The edge's maps and program, by way of that link."""
    root = pin_dir(edge)
    return root if (root / "mode").exists() else root / CURRENT  # an early version had no link


def bpf_dir() -> Path:
    """The C sources of the data path."""
    return _shipped("bpf")


def share_dir() -> Path:
    """Examples and other files for people and other programs."""
    return PACKAGE / "share"


def shipped_recordings_dir() -> Path:
    """Recordings that come with the program."""
    return share_dir() / "recordings"


def theme_dirs() -> tuple[Path, ...]:
    """Directories of theme files; a theme in a later one replaces its namesake in an earlier one."""
    user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return _shipped("themes"), Path("/etc/cdnctl/themes"), user / "cdnctl" / "themes"


def keymap_path() -> Path:
    """The user's own keys for the console."""
    return theme_dirs()[-1].parent / "keys.toml"


def console_state_path() -> Path:
    """What the console remembers of its user."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "cdnctl" / "console.toml"


def _shipped(name: str) -> Path:
    """A directory that stands at the root of a checkout, and in `_data` of an installed package."""
    installed = PACKAGE / "_data" / name
    return installed if installed.is_dir() else PACKAGE.parent / name
