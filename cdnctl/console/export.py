"""What is seen, as files: the table as CSV, the screen as SVG."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cdnctl.console.format import clean
from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import Frame, Outcome

if TYPE_CHECKING:
    from cdnctl.console.app import ConsoleApp

WIDE = 40
"""What a cell that draws itself is asked to fill; only its words are kept."""
_DRAWN = re.compile(r"[━╸─▌▁▂▃▄▅▆▇█\u2800-\u28ff]+")
_ELSEWHERE = re.compile(r"@font-face\s*\{[^}]*\}\s*|<!--.*?-->\s*", re.DOTALL)
_CELL = 10_000
"""Characters of the longest cell."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(app: ConsoleApp, name: str, table: LiveTable | None) -> Outcome:
    """Write both into the directory that the console was started in; where they are."""
    stem = _stem(app.view.frame, name)
    files = {stem.with_suffix(".svg"): standalone(app.export_screenshot(title=f"cdnctl {name}"))}
    if table is not None:
        files[stem.with_suffix(".csv")] = csv_of(table)
    try:
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        return Outcome(ok=False, text=f"{stem}: {error.strerror or error}; start cdnctl where you may write")
    rows = f", {len(table.records)} rows of {table.id}" if table is not None else ""
    return Outcome(ok=True, text=f"written: {' and '.join(str(path) for path in files)}{rows}")


class Rows:
    """A file that rows are written to as they come: a list may be too long to be held.

    It has its name only once it is whole. Everything may raise OSError.
    """

    def __init__(self, frame: Frame | None, name: str, header: Sequence[str]) -> None:
        self.path = _stem(frame, name).with_suffix(".csv")
        self.count = 0
        self._beside = self.path.with_suffix(".csv.part")
        self._file = self._beside.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(header)

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Write these."""
        for row in rows:
            self._writer.writerow([_harmless(text) for text in row])
            self.count += 1

    def end(self, *, whole: bool) -> None:
        """All of it is there, or nothing is to stay."""
        self._file.close()
        if whole:
            self._beside.replace(self.path)
        else:
            self._beside.unlink(missing_ok=True)


def _stem(frame: Frame | None, name: str) -> Path:
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime((frame.at_ns if frame else time.time_ns()) / 1e9))
    edge = re.sub(r"[^a-zA-Z0-9-]", "_", frame.edge)[:32] if frame else "edge"
    return Path.cwd() / f"cdnctl-{edge}-{name}-{at}"


def csv_of(table: LiveTable) -> str:
    """All rows that the filter keeps, with every column there is."""
    columns: dict[str, str] = {}
    for column in table.COLUMNS:
        if column.title:
            columns.setdefault(column.name, column.title.strip())
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns.values())
    for record in table.records:
        row = []
        for name in columns:
            cell = record.cells.get(name, ("", ""))
            text = "".join(span[0] for span in cell(WIDE)) if callable(cell) else cell[0]
            text = _DRAWN.sub("", text).strip()
            row.append(_harmless(text))
        writer.writerow(row)
    return out.getvalue()


def _harmless(text: str) -> str:
    """So that no spreadsheet takes a stranger's reason for a formula; one line a cell."""
    text = clean(text, _CELL).strip()
    return f"'{text}" if text.startswith(_FORMULA) and not _number(text) else text


def _number(text: str) -> bool:
    """Whether a spreadsheet takes it for a number, and not for a formula."""
    return re.fullmatch(r"[+-]?[\d,.]+[kMGT%]?", text) is not None


def standalone(svg: str) -> str:
    """The picture without what it would fetch from elsewhere."""
    svg = _ELSEWHERE.sub("", svg)
    return svg.replace("Fira Code", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas")
