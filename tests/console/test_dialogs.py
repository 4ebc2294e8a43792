"""The dialogs: prefilled from what was meant, harmless until ctrl+s, and honest about the answer."""

from __future__ import annotations

import time

import pytest
from driver import console
from frames import Edge
from textual import events

from cdnctl.console.format import clock
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.shares import with_returning
from cdnctl.model import (
    AnyCommand,
    Arm,
    Block,
    BlockPrefix,
    Disarm,
    Drain,
    Outcome,
    SetWeights,
    Stop,
    Unblock,
    Undrain,
)


def flooded() -> Edge:
    return Edge(flood_pps=52_300.0)


# --- block ----------------------------------------------------------------------------------------


async def test_two_keys_block_the_top_talker_from_a_fresh_console() -> None:
    async with console([flooded().frame()]) as desk:
        await desk.press("b", "ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="10.66.0.0/16", lifetime_s=4 * 3600.0)]
        assert desk.app.screen is desk.overview
        assert "✔ block 10.66.0.0/16: matches 12 live flows" in desk.text


async def test_the_row_under_the_cursor_is_meant_when_the_talkers_have_the_focus() -> None:
    async with console([flooded().frame()]) as desk:
        await desk.press("tab", "tab", "j", "b", "ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="10.1.0.1/32")]


async def test_the_talker_meant_at_the_key_press_is_blocked_whatever_comes_meanwhile() -> None:
    edge = flooded()
    async with console([edge.frame()]) as desk:
        await desk.press("b")
        edge.flood_pps = 0.0
        await desk.send(edge.frame(), edge.frame())
        await desk.press("ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="10.66.0.0/16")]


async def test_what_was_frozen_is_not_told_as_of_now() -> None:
    edge = flooded()
    async with console([edge.frame()]) as desk:
        await desk.press("b")
        assert "now 5" in desk.text
        await desk.press("escape", "space")
        frozen = desk.app.session.history.newest
        assert frozen is not None
        await desk.send(edge.frame())
        await desk.press("b")
        assert f"at {clock(frozen.at_ns)}, in the past: 5" in desk.text
        assert "now 5" not in desk.text


async def test_an_answer_that_comes_while_a_dialog_closes_ends_nothing() -> None:
    async with console([flooded().frame()]) as desk:
        for key in "bq":
            await desk.press(key)
            dialog = desk.app.screen
            assert isinstance(dialog, ChangeDialog)
            dialog.dismiss(None)
            await desk.settle()
            await dialog._ask(2)
            dialog.say_problem("nobody sees this")
        assert desk.app.screen is desk.overview


async def test_lifetime_and_reason_are_typed() -> None:
    async with console([flooded().frame()]) as desk:
        await desk.press("b", "tab", "tab", "ctrl+u", *"10m")
        await desk.press("tab", *"ticket")
        assert "10.66.0.0/16 for 10m" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="10.66.0.0/16", lifetime_s=600.0, reason="ticket")]


async def test_what_is_typed_ahead_goes_into_the_field_that_it_is_meant_for() -> None:
    """As a terminal sends it that was slow for a moment: all at once."""
    async with console([flooded().frame()]) as desk:
        for key in ("b", "tab", "tab", "ctrl+u", *"10m", "tab", *"noisy", "ctrl+s"):
            desk.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await desk.until(lambda: bool(desk.feed.commands))
        assert desk.feed.commands == [BlockPrefix(prefix="10.66.0.0/16", lifetime_s=600.0, reason="noisy")]


@pytest.mark.parametrize("keys", [["enter"], ["escape"], ["b", "enter"], ["y", "enter"]])
async def test_enter_esc_and_the_trigger_key_change_nothing(keys: list[str]) -> None:
    async with console([flooded().frame()]) as desk:
        await desk.press("b", *keys)
        assert desk.app.screen is desk.overview
        assert desk.feed.commands == []


async def test_enter_in_a_field_goes_to_the_next_one() -> None:
    async with console([flooded().frame()]) as desk:
        await desk.press("b", "tab", "enter", "enter", "enter")
        assert desk.app.screen.focused is not None
        assert desk.app.screen.focused.id == "cancel"
        assert desk.feed.commands == []


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        (1, "10.1.2", "prefix: "),
        (1, "198.51.100.7/8", "has bits set beyond its /8"),
        (1, "", "write an address or a CIDR"),
        (2, "soon", "lifetime: write 10m, 4h"),
    ],
)
async def test_wrong_input_is_said_and_not_sent(field: int, typed: str, words: str) -> None:
    async with console([flooded().frame()]) as desk:
        await desk.press("b", *["tab"] * field, "ctrl+u", "ctrl+k", *typed)
        await desk.until(lambda: words in desk.text)
        await desk.press("ctrl+s")
        assert desk.feed.commands == []
        assert words in desk.text


async def test_what_would_happen_is_asked_and_shown() -> None:
    async with console([flooded().frame()]) as desk:
        await desk.press("b")
        assert desk.feed.tried[-1] == BlockPrefix(prefix="10.66.0.0/16", dry_run=True)
        assert "→ block 10.66.0.0/16: matches 12 live flows" in desk.text


async def test_a_refusal_stays_in_the_dialog_to_be_read_and_corrected() -> None:
    def refuse(command: AnyCommand) -> Outcome:
        return Outcome(ok=False, text="it covers 203.0.113.80, the VIP of service www", warnings=["careful"])

    async with console([flooded().frame()]) as desk:
        desk.feed.answer = refuse
        await desk.press("b", "ctrl+s")
        assert desk.app.screen is not desk.overview
        assert "✖ refused: it covers 203.0.113.80" in desk.text
        assert "▲ careful" in desk.text


async def test_without_talkers_the_dialog_asks_for_a_prefix() -> None:
    edge = Edge()
    async with console([edge.frame()]) as desk:
        desk.overview.session.history.newest.talkers.clear()  # type: ignore[union-attr]
        await desk.press("b")
        assert "no talker is known" in desk.text
        await desk.press("tab", *"192.0.2.7", "ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="192.0.2.7/32")]


# --- unblock --------------------------------------------------------------------------------------


def blocked() -> Edge:
    edge = Edge()
    now_ns = time.time_ns()
    edge.extra_blocks = [
        Block(prefix="192.0.2.9/32", reason="scanner", hits=1200, expires_ns=now_ns + 3601 * 10**9),
        Block(prefix="198.18.0.0/15", reason="test nets", source="manual"),
    ]
    return edge


async def test_a_block_is_picked_and_lifted() -> None:
    async with console([blocked().frame()]) as desk:
        await desk.press("u")
        for words in ("192.0.2.9/32", "1h", "1.20k", "scanner", "forever"):
            assert words in desk.text
        await desk.press("j", "ctrl+s")
        assert desk.feed.commands == [Unblock(prefix="198.18.0.0/15")]
        assert desk.feed.tried[-1] == Unblock(prefix="198.18.0.0/15", dry_run=True)


async def test_with_nothing_blocked_there_is_nothing_to_lift() -> None:
    async with console([Edge().frame()]) as desk:
        await desk.press("u")
        assert "nothing is blocked" in desk.text
        await desk.press("j", "ctrl+s")
        assert desk.feed.commands == []


# --- weights --------------------------------------------------------------------------------------


async def test_weights_by_arrows_and_digits_with_their_shares_live() -> None:
    async with console([Edge().frame()]) as desk:
        await desk.press("w", "right", "right", "left")
        assert desk.feed.tried[-1] == SetWeights(weights={"aurora": 105}, dry_run=True)
        await desk.press("j", *"250")
        await desk.press("backspace")
        await desk.press("0", "ctrl+s")
        assert desk.feed.commands == [SetWeights(weights={"aurora": 105, "borealis": 250})]
        assert "✔ new weights" in desk.text


async def test_weights_stay_within_bounds() -> None:
    async with console([Edge().frame()]) as desk:
        await desk.press("w", *"99999", "down", "0", "left", "ctrl+s")
        assert desk.feed.commands == [SetWeights(weights={"aurora": 1000, "borealis": 0})]


async def test_the_dialog_starts_at_the_cdn_under_the_cursor_and_drains_it() -> None:
    async with console([Edge().frame()]) as desk:
        await desk.press("j", "w", "space")
        assert desk.feed.tried[-1] == Drain(cdn="borealis", dry_run=True)
        assert "drained" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == [Drain(cdn="borealis")]


async def test_changes_go_out_in_a_safe_order() -> None:
    edge = Edge(drained={"corona"})
    async with console([edge.frame()]) as desk:
        await desk.press("w", "space", "j", "right", "j", "x")
        assert desk.feed.tried[-1] == SetWeights(
            weights={"aurora": 0, "borealis": 105, "corona": 100}, dry_run=True
        )
        await desk.press("ctrl+s")
        assert desk.feed.commands == [
            Undrain(cdn="corona"),
            SetWeights(weights={"borealis": 105}),
            Drain(cdn="aurora"),
        ]


async def test_the_first_refusal_ends_the_row_and_what_was_done_is_said() -> None:
    def refuse(command: AnyCommand) -> Outcome:
        if isinstance(command, Drain) and not command.dry_run:
            return Outcome(ok=False, text="never drain over half")
        return Outcome(ok=True, text="weights set")

    async with console([Edge().frame()]) as desk:
        desk.feed.answer = refuse
        await desk.press("w", "right", "j", "space", "ctrl+s")
        assert "refused: never drain over half" in desk.text
        assert "done before that, 1 of 2: weights set" in desk.text


async def test_undone_edits_are_no_change() -> None:
    async with console([Edge().frame()]) as desk:
        await desk.press("w", "right", "left", "space", "space")
        assert "nothing to change" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == []
        assert desk.app.screen is desk.overview


def test_shares_of_cdns_that_come_back() -> None:
    shares = with_returning({"a": 0.25, "b": 0.75, "c": 0.0}, {"a": 100, "b": 300, "c": 400}, {"c"})
    assert shares == {"a": 0.125, "b": 0.375, "c": 0.5}
    assert with_returning({"a": 0.0}, {"a": 0}, set()) == {"a": 0.0}


# --- arm, quit ------------------------------------------------------------------------------------


async def test_disarm_asks_first() -> None:
    async with console([Edge().frame()]) as desk:
        await desk.press("d")
        assert "Disarm the edge" in desk.text
        assert desk.feed.tried == [Disarm(dry_run=True)]
        await desk.press("d", "enter")
        assert desk.feed.commands == []
        await desk.press("d", "ctrl+s")
        assert desk.feed.commands == [Disarm()]


@pytest.mark.parametrize("edge", [Edge(armed=False), Edge(bypassed=True)])
async def test_d_arms_an_edge_that_is_not(edge: Edge) -> None:
    async with console([edge.frame()]) as desk:
        await desk.press("d", "ctrl+s")
        assert desk.feed.commands == [Arm()]


async def test_quit_leaves_the_edge_running() -> None:
    async with console() as desk:
        await desk.press("q", "enter")
        assert desk.feed.commands == []
    assert desk.app.return_value == 0


async def test_quit_can_be_thought_better_of() -> None:
    async with console() as desk:
        await desk.press("q", "escape")
        assert desk.app.screen is desk.overview
        assert desk.app.is_running


async def test_detach_takes_a_choice_and_ctrl_s() -> None:
    async with console() as desk:
        await desk.press("q")
        await desk.press("j", "enter")
        assert desk.app.screen is desk.overview  # Enter is Cancel again
        await desk.press("q")
        await desk.press("j")
        assert desk.feed.tried == [Stop(detach=True, dry_run=True)] * 2
        await desk.press("ctrl+s")
    assert desk.feed.commands == [Stop(detach=True)]
    assert desk.app.return_value == 0


async def test_a_refused_detach_keeps_the_console() -> None:
    async with console() as desk:
        desk.feed.answer = lambda command: Outcome(ok=False, text="not now")
        await desk.press("q", "j", "ctrl+s")
        assert "refused: not now" in desk.text
        assert desk.app.is_running


async def test_ctrl_c_quits_at_once_from_anywhere() -> None:
    async with console() as desk:
        await desk.press("b", "tab", "ctrl+c")
    assert desk.app.return_value == 0
    assert desk.feed.commands == []


# --- read-only ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"), [({"role": "view"}, "may watch the edge"), ({"read_only": True}, "--read-only")]
)
@pytest.mark.parametrize("key", ["b", "u", "w", "d"])
async def test_read_only_changes_nothing_and_says_why(
    options: dict[str, object], reason: str, key: str
) -> None:
    async with console([flooded().frame()], **options) as desk:  # type: ignore[arg-type]
        assert "read only" in desk.text.splitlines()[-1]
        await desk.press(key, "ctrl+s")
        assert desk.app.screen is desk.overview
        assert reason in desk.text
        await desk.press("escape")
        assert reason not in desk.text
        assert desk.feed.commands == desk.feed.tried == []


async def test_read_only_cannot_detach_either() -> None:
    async with console(read_only=True) as desk:
        await desk.press("q", "j")
        assert "read only: this console was started with --read-only" in desk.text
        await desk.press("ctrl+s")
    assert desk.feed.commands == []
    assert desk.app.return_value == 0


async def test_an_outcome_goes_away_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdnctl.console.widgets.notices.ANSWER_S", 0.8)
    async with console([flooded().frame()]) as desk:
        await desk.press("b", "ctrl+s")
        assert "✔" in desk.text
        await desk.until(lambda: "✔" not in desk.text)
