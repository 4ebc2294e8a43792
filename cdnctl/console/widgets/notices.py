"""What the console has to say itself: the banner, the answer line, the footer, the too-small notice."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial

from rich.cells import cell_len

from cdnctl.console import keys
from cdnctl.console.format import clean
from cdnctl.console.widgets.lines import Lines, Row, Span, cut
from cdnctl.model import Outcome

ANSWER_S = 5.0
"""How long an outcome stays; Esc takes it away earlier."""
ANSWER_LINES = 3
READ_ONLY = "read only"
OF_A_TAPE = {"travel('skip', -5)": "5 s", "travel('chapter', -1)": "chapter"}
"""Actions that, with `freeze`, are worth a place in the footer over a tape; and their names there."""
_RANK_OF_TIME = 9


class Banner(Lines):
    """One line right under the headline, there only when something is wrong or frozen."""

    def say(self, spans: Sequence[Span]) -> None:
        """Show this; nothing takes the line away."""
        self.display = bool(spans)
        if spans:
            first, *rest = spans
            role = first[1]
            self.show(
                [((" ", role), first, *((f"  ·  {text}", role) for text, _ in rest), (" " * 200, role))]
            )
        else:
            self.show([])


class AnswerLine(Lines):
    """The line above the footer: an outcome for a few seconds, else what the focused row means."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._detail: Row = ()
        self._answer: list[Row] = []
        self._answers = 0

    def detail(self, row: Row) -> None:
        """What to show while there is no outcome."""
        self._detail = row
        self._redraw()

    def answer(self, outcome: Outcome) -> None:
        """Show an outcome: what was done in green, warnings in amber, a refusal in red."""
        self._answer = outcome_rows(outcome, max(20, self.size.width - 2))[:ANSWER_LINES]
        self._answers += 1
        self.set_timer(ANSWER_S, partial(self._expire, self._answers))
        self._redraw()

    def dismiss(self) -> bool:
        """Take the outcome away; False when there is none."""
        if not self._answer:
            return False
        self._answer = []
        self._redraw()
        return True

    def on_resize(self) -> None:
        self._redraw()

    def _expire(self, number: int) -> None:
        if number == self._answers:
            self.dismiss()

    def _redraw(self) -> None:
        rows = self._answer or [cut(((" ", ""), *self._detail), self.size.width)]
        if len(rows) != len(self.rows):
            self.styles.height = len(rows)
        self.show(rows)


def outcome_rows(outcome: Outcome, width: int) -> list[Row]:
    """An outcome as rows of at most `width` cells, the worst said first."""
    rows: list[Row] = []
    if outcome.ok:
        rows += wrapped("✔", outcome.text, width, "good") if outcome.text or not outcome.warnings else []
    else:
        told = outcome.text.rstrip().replace("\n", "; ")  # the remedy has a line of its own
        text = told if told.startswith("refused: ") else f"refused: {told}"
        rows += wrapped("✖", text, width, "bad bold")
    for warning in outcome.warnings[:4]:
        rows += wrapped("▲", warning, width, "warn")
    return rows


def wrapped(mark: str, text: str, width: int, role: str) -> list[Row]:
    """Text, cleaned, in lines of `width`: the first with a mark, the others indented under it."""
    lines = textwrap.wrap(clean(text, 1000), max(10, width - 3)) or [""]
    return [((f" {mark if number == 0 else ' '} ", role), (line, role)) for number, line in enumerate(lines)]


class Footer(Lines):
    """The keys of a screen, from their table; those that may not be used are grey."""

    def __init__(self, table: Sequence[keys.Key], *, id: str) -> None:
        super().__init__(id=id)
        self._table = table
        self.read_only = self._playing = False
        self.labels: dict[str, str] = {}
        """Labels that depend on the edge's state, by action."""

    def update(self, *, read_only: bool, labels: dict[str, str], playing: bool = False) -> None:
        """What is allowed, and how keys are called now; `playing` a tape, the keys of time come first."""
        self.read_only, self.labels, self._playing = read_only, labels, playing
        self._redraw()

    def _keys(self) -> dict[keys.Key, int]:
        """Those to show, and how long each is kept when there is too little room."""
        if not self._playing:
            return {key: key.footer for key in self._table}
        shown = [key for key in keys.house() if key.action in ("freeze", *OF_A_TAPE)]
        ranks = dict.fromkeys(shown, _RANK_OF_TIME)
        return ranks | {
            key: 1 if key.changes and self.read_only else key.footer
            for key in self._table
            if key not in ranks
        }

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        ranks = self._keys()
        items = {key: self.labels.get(key.action, key.label) for key in ranks}
        # each key has two blanks after it, of which the last are needed only before a word more
        room = self.size.width - 1 + (-len(READ_ONLY) if self.read_only else 2)
        for key in sorted(items, key=lambda key: ranks[key]):
            if sum(cell_len(item.face) + 1 + cell_len(label) + 2 for item, label in items.items()) <= room:
                break
            del items[key]
        row: list[Span] = [(" ", "")]
        for key, label in items.items():
            allowed = not (key.changes and self.read_only)
            row += [
                (key.face, "accent bold" if allowed else "muted"),
                (f" {label}  ", "muted"),
            ]
        if self.read_only:
            row.append((READ_ONLY, "warn"))
        self.show([tuple(row)])


class Tabs(Lines):
    """The screens by number, the one that is shown among them; there only where a line can be spared."""

    def __init__(self, name: str, *, id: str) -> None:
        super().__init__(id=id)
        self._screen_name = name

    def on_mount(self) -> None:
        row: list[Span] = [(" ", "")]
        for place, way in zip(keys.SCREENS, keys.ways(), strict=True):
            here = place.name == self._screen_name
            row += [
                (f" {way.face} ", "background on accent bold" if here else "accent on surface"),
                (f" {place.title} ", "text bold on cursor" if here else "muted"),
                (" ", ""),
            ]
        self.show([tuple(row)])


class TooSmall(Lines):
    """Stands in for everything when the terminal is too small."""

    def say(self, width: int, height: int, needed: tuple[int, int]) -> None:
        """Name the size there is and the size needed."""
        need = f"cdnctl needs {needed[0]}x{needed[1]}"
        texts = (need, f"this terminal is {width}x{height}", "make it larger, or q to quit")
        top = max(0, (height - len(texts)) // 2)
        rows: list[Row] = [()] * top
        rows += [((text.center(width), "warn bold" if text is need else "muted"),) for text in texts]
        self.show(rows)
