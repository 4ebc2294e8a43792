from __future__ import annotations

from pathlib import Path

import pytest

from cdnctl import paths


def test_places_can_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CDNCTL_RUN_DIR", "CDNCTL_STATE_DIR", "CDNCTL_CONFIG", "CDNCTL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert paths.socket_path("ams1") == Path("/run/cdnctl/ams1.sock")
    assert paths.view_socket_path("ams1") == Path("/run/cdnctl/ams1.view.sock")
    assert paths.state_dir("ams1") == Path("/var/lib/cdnctl/ams1")
    assert paths.config_path() == Path("/etc/cdnctl/cdnctl.toml")
    assert paths.pin_dir("ams1") == Path("/sys/fs/bpf/cdnctl/ams1")
    assert paths.tables_dir("ams1") == Path("/sys/fs/bpf/cdnctl/ams1/current")
    assert paths.cache_dir() == Path("/var/cache/cdnctl")
    monkeypatch.setenv("CDNCTL_RUN_DIR", "/tmp/r")
    monkeypatch.setenv("CDNCTL_STATE_DIR", "/tmp/s")
    monkeypatch.setenv("CDNCTL_CONFIG", "/tmp/c.toml")
    assert paths.socket_path("ams1") == Path("/tmp/r/ams1.sock")
    assert paths.state_dir("ams1") == Path("/tmp/s/ams1")
    assert paths.config_path() == Path("/tmp/c.toml")


@pytest.mark.parametrize("name", ["", "..", "a/b", "Ams", "x" * 33, "a\n"])
def test_names_cannot_leave_their_directory(name: str) -> None:
    for place in (paths.socket_path, paths.view_socket_path, paths.lock_path, paths.state_dir, paths.pin_dir):
        with pytest.raises(ValueError, match="no valid name"):
            place(name)


def test_what_is_shipped_is_found() -> None:
    assert (paths.bpf_dir() / "LICENSE").is_file()
    assert (paths.share_dir() / "cdnctl.toml.example").is_file()
    shipped, *users = paths.theme_dirs()
    assert shipped.is_dir()
    assert Path("/etc/cdnctl/themes") in users
