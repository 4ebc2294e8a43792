"""Rows of words, aligned and wrapped: what `trace` and `doctor` print."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

_PIPE_WIDTH = 160
"""Columns when stdout is no terminal."""


def print_rows(rows: Iterable[Sequence[tuple[str, str]]]) -> None:
    """Each cell is its text and its style (of rich; empty for none). The last column wraps."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cdnctl.console.format import clean

    table = Table.grid(padding=(0, 2, 0, 0))
    made = [[Text(clean(text), style) for text, style in row] for row in rows]
    if not made:
        return
    for column in range(len(made[0])):
        table.add_column(no_wrap=column < len(made[0]) - 1)
    for row in made:
        table.add_row(*row)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        print(line.rstrip())
