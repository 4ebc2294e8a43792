"""Keys of the user's own: what a file may say, what is wrong with it, and who follows it."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import readme
import tomli_w
from driver import console
from frames import Edge, incident
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Input

from cdnctl.cli import main
from cdnctl.console import keymap, keys, settings
from cdnctl.console.keytable import SECTIONS
from cdnctl.console.widgets.notices import Footer, outcome_rows
from cdnctl.model import BlockPrefix, Outcome

SIZE = (120, 40)


@pytest.fixture(autouse=True)
def _table() -> Iterator[None]:
    yield
    keys.use({})


def written(directory: Path, text: str) -> Path:
    path = directory / "keys.toml"
    path.write_text(text)
    return path


def test_names_are_unique_where_they_are_said() -> None:
    for section, table in SECTIONS.items():
        names = [key.name for key in table if key.keys]
        assert len(names) == len(set(names)), section


def test_a_table_and_a_binding_of_every_screen_stand_in_one_file(tmp_path: Path) -> None:
    assert not {key.name for key in SECTIONS[""] if key.keys} & SECTIONS.keys()
    text = 'weights = "W"\n[weights-dialog]\nmore = "f7"\n[columns-dialog]\nforget = "f8"\n'
    found, problems = keymap.load(written(tmp_path, text))
    assert problems == []
    assert found[("", "weights")] == "W"
    assert found[("weights-dialog", "more")] == "f7"


def test_what_a_file_says_is_bound_and_shown(tmp_path: Path) -> None:
    text = 'block = "B"\nfreeze = ["space", "p"]\nhelp = "f1"\n[talkers]\nfollow = "shift+f"\n'
    found, problems = keymap.load(written(tmp_path, text))
    assert problems == []
    assert found == {
        ("", "block"): "B",
        ("", "freeze"): "space,p",
        ("", "help"): "f1",
        ("talkers", "follow"): "F",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('blok = "B"', "blok: there is no such binding here; `cdnctl keys` lists all names"),
        ('follow = "F"', "follow: there is no such binding here; it is in [talkers]"),
        ('[talker]\nfollow = "F"', "[talker] follow: there is no table [talker]; there are [screens]"),
        ('block = "BB"', "block: 'BB' is no key; write one key as"),
        ("block = 3", "block: 3 is no key"),
        ("block = []", "block: [] is no key"),
        ('block = "ctrl+m"', "block: a terminal cannot tell ctrl+m from enter"),
        ('block = "hyper+b"', "block: 'hyper+b' is no key"),
        ('block = "w"', "block: w is the key of weights (weights and drains, with the shares"),
        ('block = "3"', "block: 3 is the key of [screens] talkers"),
        ('sort = "v"', "sort: v is the key of [talkers] gather"),
        ('[talkers]\nfollow = "b"', "[talkers] follow: b is the key of block"),
        ('block = "P"\nweights = "P"', "P is the key of"),
        ('[dialog]\nconfirm = "enter"', "[dialog] confirm: 'enter' would be typed, or hit by habit"),
        ('[dialog]\nconfirm = "y"', "[dialog] confirm: 'y' would be typed"),
        ('[dialog]\nconfirm = "ctrl+d"', "[dialog] confirm: ctrl+d edits the text of a field"),
        ('[dialog]\ncopy = "ctrl+e"', "[dialog] copy: ctrl+e edits the text of a field"),
        ('[dialog]\nconfirm = "ctrl+f"', "[dialog] confirm: ctrl+f is the key of page-down"),
        ('[weights-dialog]\nmore = "space"', "more: space is the key of [weights-dialog] drain"),
        ("block = ", "correct it, or delete it"),
    ],
)
def test_what_is_wrong_is_said_with_file_name_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, f"{text}\n")
    found, problems = keymap.load(path)
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: ")
    assert said in problems[0]
    assert len(found) == text.count('"P"') // 2


def test_what_fields_take_is_known() -> None:
    taken = {key for binding in Input.BINDINGS for key in binding.key.split(",")}  # type: ignore[union-attr]
    typed = {key for key in taken if re.match(r"(ctrl|alt)\+(?!shift)", key)}
    assert typed == keymap.OF_FIELDS


def test_a_wrong_line_costs_itself_only(tmp_path: Path) -> None:
    found, problems = keymap.load(written(tmp_path, 'block = "w"\nundo = "U"\n'))
    assert found == {("", "undo"): "U"}
    assert len(problems) == 1


def test_two_may_change_places(tmp_path: Path) -> None:
    found, problems = keymap.load(written(tmp_path, 'block = "w"\nweights = "b"\n'))
    assert problems == []
    assert found == {("", "block"): "w", ("", "weights"): "b"}


def test_a_file_that_is_not_there_is_no_mistake(tmp_path: Path) -> None:
    assert keymap.load(tmp_path / "keys.toml") == ({}, [])


@pytest.mark.parametrize(
    ("text", "key"),
    [("?", "question_mark"), ("+", "plus"), ("ctrl++", "ctrl+plus"), ("f5", "f5"), (" ", "space"),
     ("slash", "slash"), ("-", "minus"), ("shift+left", "shift+left"), ("alt+x", "alt+x"), (",", "comma")],
)  # fmt: skip
def test_keys_as_people_write_them(text: str, key: str) -> None:
    from textual.keys import _character_to_key

    assert keymap.key_of(text) == key
    if len(text) == 1:
        assert _character_to_key(text) == key


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=6) | st.integers() | st.lists(st.text(max_size=3)))
)
def test_any_file_is_followed_or_said_to_be_wrong(said: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "keys.toml"
        path.write_text(tomli_w.dumps(said | {"talkers": said, "block": "B"}), encoding="utf-8")
        found, problems = keymap.load(path)
        assert found[("", "block")] == "B"
        assert all(problem.startswith(f"{path}: ") for problem in problems)


async def test_footer_help_palette_and_hints_follow() -> None:
    keys.use({("", "block"): "B", ("", "freeze"): "p", ("", "help"): "f1", ("dialog", "confirm"): "ctrl+o",
              ("screens", "talkers"): "f3", ("lists", "no-marks"): "N"})  # fmt: skip
    async with console([Edge(flood_pps=50_000.0).frame()], SIZE) as desk:
        footer = desk.text.splitlines()[-1]
        assert "B block" in footer
        assert "p freeze" in footer
        await desk.press("b", "ctrl+s")
        assert desk.feed.commands == []
        await desk.press("B")
        assert "Block  ctrl+o" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == []
        await desk.press("tab", "ctrl+o")  # in a field, too
        assert desk.feed.commands == [BlockPrefix(prefix="10.66.0.0/16")]
        await desk.press("p")
        assert "p goes on" in desk.text
        await desk.press("p", "f3")
        assert desk.house.NAME == "talkers"
        assert "B blocks" in desk.text
        said = {command.help for command in desk.app.get_system_commands(desk.house)}
        assert "block what is under the cursor, or the busiest talker (B)" in said
        await desk.press("f1")
        assert "B          block what" in desk.text
        await desk.press("escape")
        await desk.go("lists")  # where M was taken by another binding, which has gone elsewhere
        await desk.press("M")
        assert "Mark this moment" in desk.text


async def test_what_is_wrong_with_the_file_is_said_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdnctl import paths
    from cdnctl.console.app import make_app

    monkeypatch.setattr(paths, "keymap_path", lambda: written(tmp_path, 'block = "w"\n'))
    monkeypatch.setattr(paths, "console_state_path", lambda: tmp_path / "console.toml")
    app = make_app(None, socket=tmp_path / "none.sock")
    assert any("keys.toml: block: w is the key of weights" in problem for problem in app._problems)
    many = "".join(f'no-{number} = "x"\n' for number in range(5))
    monkeypatch.setattr(paths, "keymap_path", lambda: written(tmp_path, many))
    app = make_app(None, socket=tmp_path / "none.sock")
    assert app._problems == (f"{tmp_path}/keys.toml: 5 lines are wrong: `cdnctl keys` says which",)
    (row,) = outcome_rows(Outcome(ok=True, text="", warnings=list(app._problems)), 200)
    assert row[0][0] == " ▲ "  # and no tick with it


def test_the_command_lists_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, 'block = "B"\nundo = "w"\n')
    assert main(["keys", str(path)]) == 1
    said = capsys.readouterr()
    assert "B                block            block what is under the cursor" in said.out
    assert f"cdnctl: {path}: undo: w is the key of weights" in said.err
    of_time = [line for line in said.out.splitlines() if "5-s-" in line or "1-min-" in line]
    assert len({line[36:] for line in of_time}) == len(of_time) == 4
    assert main(["keys", str(path), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["problems"]) == 1
    assert {"table": "", "name": "block", "keys": ["B"], "changes": True}.items() <= next(
        each for each in answer["keys"] if each["name"] == "block"
    ).items()
    assert main(["keys", str(tmp_path / "none")]) == 2


def test_the_footer_of_a_tape_follows_the_keymap() -> None:
    keys.use({("", "freeze"): "p", ("", "5-s-back"): "f5"})
    footer = Footer(keys.footer("overview"), id="footer")
    footer._playing = True
    faces = {key.action: key.face for key in footer._keys()}
    assert (faces["freeze"], faces["travel('skip', -5)"]) == ("p", "f5 → shift+← shift+→")
    assert [key.action for key in footer._keys()].count("freeze") == 1


def test_the_command_needs_no_textual() -> None:
    import subprocess

    code = "import sys; from cdnctl.cli import main; main(['keys']); sys.exit('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=False)
    assert done.returncode == 0


def test_the_readme_has_the_tables_of_keys_as_they_are() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert readme.made(text) == text, "`make keys` writes them anew"


# --- what is remembered besides ------------------------------------------------------------------------


async def test_columns_are_chosen_by_keys_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "console.toml"
    async with console(incident()[:3], (80, 24), settings=settings.load(path)[0]) as desk:
        await desk.go("talkers")
        assert "95% sure" in header(desk.text)
        assert "samples" not in header(desk.text)
        await desk.press("C")
        assert "Columns of sources" in desk.text
        await desk.press("j", "space")  # the second: what is sure
        await desk.press("G", "k", "k", "k", "space", "escape")
        assert "95% sure" not in header(desk.text)
        assert "samples" in header(desk.text)
    remembered = settings.load(path)[0]
    assert remembered.columns == {"sources": {"bounds": False, "samples": True}}
    async with console(incident()[:3], (80, 24), settings=remembered) as desk:
        await desk.go("talkers")
        assert "95% sure" not in header(desk.text)
        await desk.press("C", "backspace", "escape")
        assert "95% sure" in header(desk.text)


def header(text: str) -> str:
    """The line that names the talkers' columns."""
    return next(line for line in text.splitlines() if "pps" in line and "source" in line)


async def test_a_panel_stands_alone_and_is_so_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "console.toml"
    async with console(settings=settings.load(path)[0]) as desk:
        await desk.press("tab", "tab", "o")
        assert "top talkers" in desk.text
        assert "handshake p95" not in desk.text
        assert "one panel alone · tab the next · o shows all" in desk.text
        await desk.press("tab")
        assert "top talkers" not in desk.text
        await desk.press("shift+tab")
    async with console(settings=settings.load(path)[0]) as desk:
        assert "top talkers" in desk.text
        assert "handshake p95" not in desk.text
        await desk.press("o")
        assert "handshake p95" in desk.text
    assert settings.load(path)[0].layouts == {}
