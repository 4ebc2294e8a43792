"""Compiled data paths are kept, found again, and not trusted blindly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cdnctl.datapath import cache
from cdnctl.datapath.compiled import Compiled, MapShape

MADE = Compiled([MapShape("flows", 1, 4, 8, 16, 0, "FLOWS")], {"edge": bytes(range(256))})


class Compiler:
    """Counts how often it is asked, and what was said about the cache."""

    def __init__(self) -> None:
        self.asked = 0
        self.warnings: list[str] = []

    def __call__(self, text: str = "int edge;", *cflags: str, made: Compiled = MADE) -> Compiled:
        def compile_it() -> Compiled:
            self.asked += 1
            return made

        return cache.compiled(text, cflags, compile_it, self.warnings.append)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CDNCTL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.BYPASS, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def compiler(directory: Path) -> Compiler:
    return Compiler()


def entry(directory: Path) -> Path:
    (found,) = directory.iterdir()
    return found


def test_what_was_compiled_is_found_again(compiler: Compiler, directory: Path) -> None:
    assert compiler() == compiler() == MADE
    assert compiler.asked == 1
    assert compiler.warnings == []
    assert directory.stat().st_mode & 0o777 == 0o700
    assert entry(directory).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "cflags"),
    [("int edge; ", ()), ("int edge;", ("-DX",)), ("int edge", (";",))],
    ids=["an edited source", "another flag", "the same letters"],
)
def test_anything_else_is_compiled(compiler: Compiler, text: str, cflags: tuple[str, ...]) -> None:
    compiler()
    compiler(text, *cflags)
    assert compiler.asked == 2


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("platform.release", lambda: "9.9"),
        ("platform.machine", lambda: "abacus"),
        ("kernel.possible_cpus", lambda: 4096),
        ("_compiler", lambda: "BCC 99"),
    ],
)
def test_so_it_is_elsewhere(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, what: str, says: Callable[[], object]
) -> None:
    compiler()
    monkeypatch.setattr(f"cdnctl.datapath.cache.{what}", says)
    compiler()
    assert compiler.asked == 2


def test_the_compiler_is_known_by_its_files() -> None:
    assert "libbcc" in cache._compiler()
    assert "__version__" in cache._compiler()


@pytest.mark.parametrize(
    "broken",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
        lambda raw: raw[:5],
    ],
    ids=["empty", "cut", "a bit", "short"],
)
def test_a_broken_entry_is_written_anew(
    compiler: Compiler, directory: Path, broken: Callable[[bytes], bytes]
) -> None:
    compiler()
    whole = entry(directory).read_bytes()
    entry(directory).write_bytes(broken(whole))
    assert compiler() == MADE
    assert compiler.asked == 2
    assert entry(directory).read_bytes() == whole


def test_what_others_could_have_written_is_not_used(compiler: Compiler, directory: Path) -> None:
    compiler()
    entry(directory).chmod(0o620)
    assert compiler() == MADE
    assert compiler.asked == 2
    assert "is not used" in compiler.warnings[0]
    assert entry(directory).stat().st_mode & 0o777 == 0o600, "written anew"
    compiler()
    assert compiler.asked == 2


def test_nor_what_others_have_written(
    compiler: Compiler, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler()
    before = entry(directory).stat()
    monkeypatch.setattr(os, "geteuid", lambda: before.st_uid + 1)
    assert compiler() == MADE
    assert compiler.asked == 2
    assert len(compiler.warnings) == 2, "it can be neither used nor replaced"
    assert entry(directory).stat().st_ino == before.st_ino


def test_nor_what_a_link_leads_to(compiler: Compiler, directory: Path, tmp_path: Path) -> None:
    compiler()
    entry(directory).rename(tmp_path / "elsewhere")
    (directory / cache.key("int edge;", ())).symlink_to(tmp_path / "elsewhere")
    assert compiler() == MADE
    assert compiler.asked == 2
    assert not entry(directory).is_symlink()


def test_a_directory_that_others_may_write_to_is_not_used(compiler: Compiler, directory: Path) -> None:
    directory.mkdir(mode=0o700)
    directory.chmod(0o777)
    assert compiler() == compiler() == MADE
    assert compiler.asked == 2
    assert list(directory.iterdir()) == []


def test_without_room_it_goes_on(compiler: Compiler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CDNCTL_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert compiler() == MADE
    assert compiler.warnings


def test_it_can_be_bypassed(compiler: Compiler, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.BYPASS, "1")
    compiler()
    compiler()
    assert compiler.asked == 2
    assert not directory.exists()


def test_the_oldest_go(compiler: Compiler, directory: Path) -> None:
    for number in range(cache.KEPT + 3):
        compiler(str(number))
        os.utime(directory / cache.key(str(number), ()), (number, number))
    assert len(list(directory.iterdir())) == cache.KEPT
    assert not (directory / cache.key("2", ())).exists()
    compiler("3")  # used once more, so "4" is the oldest now
    compiler("new")
    assert (directory / cache.key("3", ())).exists()
    assert not (directory / cache.key("4", ())).exists()
