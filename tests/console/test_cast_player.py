"""asciinema-player, the one on web pages, loads our version 3 and shows what the app showed."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from frames import incident
from test_cast import sights, timed  # noqa: F401

from cdnctl.console.cast import Script, Size, cast
from cdnctl.console.cast.stage import Sight

PLAYER = Path(__file__).with_name("player.mjs")
PACKAGES = ("asciinema-player@3.18.0", "jsdom@26.1.0")
_DRAWN = re.compile("[─│╭╮╰╯┤━╸▌┈●▲▸✖\u2580-\u259f\u2800-\u28ff]")
"""What the player draws on its canvas instead of writing it, or may."""

pytestmark = [
    pytest.mark.soak,  # fetches 30 MB of packages
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None,
        reason="needs node and npm: apt-get install nodejs npm",
    ),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory from which node finds the player."""
    directory = tmp_path_factory.mktemp("node")
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        directory,
        *PACKAGES,
    ]
    ran = subprocess.run(install, capture_output=True, text=True, timeout=180)
    if ran.returncode:
        pytest.skip(f"the packages cannot be had: {ran.stderr[-300:]}")
    shutil.copy(PLAYER, directory)
    return directory


@pytest.mark.parametrize("size", [Size(80, 24), Size(120, 40), Size(200, 50)], ids=str)
def test_the_player_shows_what_the_app_shows(size: Size, node: Path, sights: list[Sight]) -> None:  # noqa: F811
    out = io.StringIO()
    made = cast(timed(incident()), [(25.0, "borealis slows"), (68.0, "corona is dark")], Script(size), out)
    (node / "demo.cast").write_text(out.getvalue())
    at = [sights[number] for number in (0, 55, 56, 130, 200, -1)]
    seconds = [f"{sight.cast_s + 0.001}" for sight in at]
    ran = subprocess.run(
        ["node", "player.mjs", "demo.cast", *seconds], cwd=node, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["metadata"]["duration"] == pytest.approx(made.duration_s)
    assert answer["metadata"]["markers"] == [[25.0, "borealis slows"], [68.0, "corona is dark"]]
    for shown, sight in zip(answer["screens"], at, strict=True):
        assert _written(shown) == _written(sight.picture.text)


def _written(text: str) -> list[str]:
    return [_DRAWN.sub(" ", line).rstrip() for line in text.splitlines()]
