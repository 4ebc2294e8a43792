"""Numbers, times and text from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cdnctl.console import format as fmt
from cdnctl.console.widgets.lines import cut


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.4, "0.4"), (7, "7"), (7.0, "7.0"), (340.0, "340"), (999.6, "1.00k"), (1204, "1.20k"),
     (50_130.0, "50.1k"), (999_600, "1.00M"), (3.4e6, "3.40M"), (12e9, "12.0G")],
)  # fmt: skip
def test_scaled(value: float, text: str) -> None:
    assert fmt.scaled(value) == text


@given(st.floats(0, 9e14))
def test_scaled_never_outgrows_its_column(value: float) -> None:
    assert len(fmt.scaled(value)) <= 5


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0%"), (0.004, "<1%"), (0.333, "33%"), (0.999, "99%"), (1.0, "100%")]
)
def test_percent_says_all_and_nothing_only_when_it_is_so(share: float, text: str) -> None:
    assert fmt.percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0s"), (9.9, "9.9s"), (42, "42s"), (59.7, "1m"), (200, "3m20s"), (14_390, "3h59m"),
     (14_400, "4h"), (525_600, "6d2h")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert fmt.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.42, "0.42"), (12.34, "12.3"), (99.96, "100"), (1204.4, "1,204")]
)
def test_ms(value: float | None, text: str) -> None:
    assert fmt.ms(value) == text


@pytest.mark.parametrize(("bps", "text"), [(0, "0"), (310e3, "0.31"), (31.2e6, "31.2"), (1.204e9, "1,204")])
def test_mbit(bps: float, text: str) -> None:
    assert fmt.mbit(bps) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (20.0, "20"), (1000.0, "1k"), (1500.0, "1.5k"), (80_000.0, "80k")]
)
def test_axis(value: float, text: str) -> None:
    assert fmt.axis(value) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("4h", 14_400), ("1h30m", 5400), (" 2 d ", 172_800), ("300", 300), ("45S", 45),
     ("never", None)],
)  # fmt: skip
def test_lifetimes(text: str, seconds: float | None) -> None:
    assert fmt.parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "h", "4x", "-4h", "4h5", "99999d", "1e3", "٣h", "9" * 40])
def test_other_lifetimes_are_refused_with_what_is_taken(text: str) -> None:
    with pytest.raises(ValueError, match="write 10m, 4h, 2d"):
        fmt.parse_lifetime(text)


def test_clean_takes_out_what_could_move_or_hide_text() -> None:
    hostile = "a\x1b[31m\x07b\u202ec\u200bd\ne\u0301\u0301\u0301 [/b]\ud800"
    assert fmt.clean(hostile) == "a[31mbcd é [/b]"


@given(st.text(st.characters()), st.integers(1, 40))
def test_clean_is_one_short_line(text: str, limit: int) -> None:
    shown = fmt.clean(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Mn", "Me", "Zl", "Zp", "Cn", "Co"])),
    st.integers(0, 30),
)
def test_fit_fills_its_cells_exactly(text: str, width: int) -> None:
    assert cell_len(fmt.fit(text, width)) == width
    assert cell_len(fmt.fit(text, width, right=True)) == width


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (20, "ab cd 日本"),
        (10, "ab cd 日本"),
        (9, "ab cd 日…"),
        (8, "ab cd  …"),
        (6, "ab cd…"),
        (1, "…"),
        (0, ""),
    ],
)
def test_a_row_that_is_too_long_ends_in_an_ellipsis(width: int, shown: str) -> None:
    row = (("ab ", "text"), ("cd ", "muted"), ("日本", "bad"))
    found = cut(row, width)
    assert "".join(text for text, _ in found) == shown
    assert cell_len(shown) <= width
