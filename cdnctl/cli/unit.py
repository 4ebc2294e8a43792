"""`cdnctl unit`: the systemd unit of the agents, with the paths of this installation.

cdnctl unit >/etc/systemd/system/cdnctl@.service
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from cdnctl import paths
from cdnctl.python import python_module

UNIT = "cdnctl@.service"
_PROGRAM = "/usr/local/bin/cdnctl"
"""What the file says where it is shipped."""
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))


def run(_options: argparse.Namespace) -> int:
    """Print it."""
    sys.stdout.write(unit())
    return 0


def unit(script: str | None = None) -> str:
    """The unit, for the program that was called as `script` (else as we were)."""
    called = sys.argv[0] if script is None else script
    text = (paths.share_dir() / UNIT).read_text()
    text = re.sub(
        rf"^(ExecStart=){re.escape(_PROGRAM)} ",
        lambda line: f"{line[1]}{_command(called)} ",
        text,
        flags=re.MULTILINE,
    )
    if _is_module(called):
        where = _quoted(f"PYTHONPATH={paths.PACKAGE.parent}")
        text = text.replace("[Service]\n", f"[Service]\nEnvironment={where}\n")
    used = [Path(shutil.which(called) or called).absolute(), paths.PACKAGE, Path(sys.prefix)]
    if _lies_in(_HOMES, used):
        text = _put(text, "ProtectHome", "read-only", "it is installed in a home directory")
    if _lies_in(_TEMPORARY, used):
        text = _put(text, "PrivateTmp", "no", "it is installed in a temporary directory")
    return text


def _command(called: str) -> str:
    if _is_module(called):
        return " ".join(map(_quoted, python_module("cdnctl")))
    return _quoted(os.path.abspath(shutil.which(called) or called))


def _is_module(called: str) -> bool:
    return os.path.basename(called) == "__main__.py"


def _lies_in(places: Iterable[Path], used: Iterable[Path]) -> bool:
    roots = list(places)
    return any(
        path.is_relative_to(root) for each in used for path in (each, each.resolve()) for root in roots
    )


def _put(text: str, key: str, value: str, why: str) -> str:
    return re.sub(rf"^{key}=.*$", f"# {why}:\n{key}={value}", text, flags=re.MULTILINE)


def _quoted(path: str | Path) -> str:
    """As systemd reads it: `%` is a specifier, `$` a variable, and words end at blanks."""
    text = str(path).replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if re.search(r"\s", text) else text
