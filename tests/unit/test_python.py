"""Our own programs never run what lies in the directory somebody happens to be in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cdnctl.paths import PACKAGE
from cdnctl.python import environment, python_module

AS_TYPED = PACKAGE / "errors.py"
"""Repeats the operator's own command line; it starts nothing."""


def test_a_planted_module_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("print('planted')\nraise SystemExit(3)\n")
    # An empty entry of the path would be the current directory, too.
    monkeypatch.setenv("PYTHONPATH", ":")
    command = python_module("cdnctl", "--help")
    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert "planted" not in done.stdout
    assert done.returncode == 0, done.stderr


def test_every_interpreter_is_started_so() -> None:
    lines = [
        f"{file.relative_to(PACKAGE)}: {line.strip()}"
        for file in PACKAGE.rglob("*.py")
        if file != AS_TYPED
        for line in file.read_text().splitlines()
        if "sys.executable" in line
    ]
    assert lines
    assert [line for line in lines if '[sys.executable, "-P", "-m"' not in line] == []
