"""`.ci/setup.sh`: what it finds missing for which purpose, and what it has pip install, how often."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cdnctl import paths
from cdnctl.cli.parser import grammar

ROOT = paths.PACKAGE.parent
TOOLS = ("bash", "env", "dirname", "sha256sum", "rm", "chmod", "mkdir", "ln", "make", "ip")
RECORDER = """#!/bin/sh
case "$*" in *install*) echo "$*" >>pip.log ;; esac
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout, with a Python that notes what pip is asked for, and a path without the lab's tools."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or pytest.skip(f"no {tool} here"))
    (tmp_path / ".ci").mkdir()
    for name in (".ci/setup.sh", "pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "cdnctl"):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(RECORDER)
        program.chmod(0o755)
    return tmp_path


def run(where: Path, *words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path or str(where / "bin"), "HOME": str(where)}
    return subprocess.run(words, cwd=where, env=environment, capture_output=True, text=True, timeout=20)


def asked(where: Path) -> list[str]:
    """What pip was asked to install, each time."""
    log = where / "pip.log"
    return [line.split()[-1] for line in log.read_text().splitlines()] if log.exists() else []


def test_an_edge_needs_nothing_of_the_lab(bare: Path) -> None:
    done = run(bare, ".ci/setup.sh", "edge")
    assert done.returncode == 0, done.stderr
    assert asked(bare) == ["."]
    lab = run(bare, ".ci/setup.sh")
    assert lab.returncode == 1
    for package in ("nginx-light", "tmux", "asciinema", "strace", "sudo"):
        assert package in lab.stderr.split(), lab.stderr
    assert "prometheus" in run(bare, ".ci/setup.sh", "test").stderr.split()
    assert run(bare, ".ci/setup.sh", "egde").returncode == 2


def test_pip_runs_once_for_a_purpose(bare: Path) -> None:
    everything = os.environ["PATH"]
    for purpose in ("edge", "edge", "lab", "lab", "edge"):
        done = run(bare, ".ci/setup.sh", purpose, path=everything)
        assert done.returncode == 0, done.stderr
    assert asked(bare) == [".", ".[dev]"], "an edge's is not enough for developers, but theirs for an edge"
    (bare / "pyproject.toml").write_text("# changed\n")
    assert run(bare, ".ci/setup.sh", "edge").returncode == 0
    assert asked(bare) == [".", ".[dev]", "."]


def test_install_links_and_replaces_nobodys_file(bare: Path) -> None:
    place = bare / "local"
    for _ in range(2):
        done = run(bare, "make", "install", f"BINDIR={place}")
        assert done.returncode == 0, done.stderr
    assert (place / "cdnctl").readlink() == bare / ".venv" / "bin" / "cdnctl"
    (place / "cdnctl").unlink()
    (place / "cdnctl").write_text("somebody's")
    done = run(bare, "make", "install", f"BINDIR={place}")
    assert done.returncode
    assert "none of ours" in done.stderr
    assert (place / "cdnctl").read_text() == "somebody's"


def test_the_readme_names_the_program_before_it_stands_on_a_path() -> None:
    text = (ROOT / "README.md").read_text()
    first = re.search(r"^ {4}\S*cdnctl .*$", text, re.MULTILINE)
    assert first
    assert first[0].split()[0] == ".venv/bin/cdnctl"
    assert "make install" in text.partition("## Install it on a real edge")[2].partition("    cdnctl init")[0]


@pytest.mark.parametrize("verb", ["journal", "report"])
def test_the_readme_has_the_options_of_verbs_that_look_back(verb: str) -> None:
    rows = [
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| `cdnctl {verb}")
    ]
    assert len(rows) == 1
    parser = next(action.choices[verb] for action in grammar()._actions if isinstance(action.choices, dict))
    own = {action.option_strings[0] for action in parser._actions if action.option_strings}
    said = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rows[0]))
    missing = {each for each in own - {"-h", "--json", "--edge", "-c", "--netns"} if each not in said}
    assert missing <= {"--redact"}, "the contrary of the default is what is said"


def test_a_linked_environment_is_left_alone(bare: Path) -> None:
    """It is another checkout's, and pip would have it run this one's code."""
    theirs = bare.parent / "theirs"
    (bare / ".venv").rename(theirs)
    (bare / ".venv").symlink_to(theirs)
    done = run(bare, ".ci/setup.sh", path=os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    assert ".venv is a link, and left as it is" in done.stderr
    assert asked(bare) == []
    assert not (theirs / ".set-up").exists()
    (theirs / "bin" / "cdnctl").unlink()
    done = run(bare, ".ci/setup.sh", "edge", path=os.environ["PATH"])
    assert done.returncode == 1
    assert f"a link to {theirs}" in done.stderr
    assert asked(bare) == []
