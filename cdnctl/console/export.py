"""What is seen, as files: the table as CSV, the screen as SVG."""

from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import Outcome

if TYPE_CHECKING:
    from cdnctl.console.app import ConsoleApp

WIDE = 40
"""What a cell that draws itself is asked to fill; only its words are kept."""
_DRAWN = re.compile(r"[━╸─▌▁▂▃▄▅▆▇█\u2800-\u28ff]+")
_ELSEWHERE = re.compile(r"@font-face\s*\{[^}]*\}\s*|<!--.*?-->\s*", re.DOTALL)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(app: ConsoleApp, name: str, table: LiveTable | None) -> Outcome:
    """Write both into the directory that the console was started in; where they are."""
    frame = app.view.frame
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime((frame.at_ns if frame else time.time_ns()) / 1e9))
    stem = Path.cwd() / f"cdnctl-{frame.edge if frame else 'edge'}-{name}-{at}"
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


def csv_of(table: LiveTable) -> str:
    """All rows that the filter keeps, with every column there is."""
    columns: dict[str, str] = {}
    for column in table.COLUMNS:
        if column.title:
            columns.setdefault(column.name, column.title)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns.values())
    for record in table.records:
        row = []
        for name in columns:
            cell = record.cells.get(name, ("", ""))
            text = "".join(span[0] for span in cell(WIDE)) if callable(cell) else cell[0]
            text = _DRAWN.sub("", text).strip()
            row.append(f"'{text}" if text.startswith(_FORMULA) and not _number(text) else text)
        writer.writerow(row)
    return out.getvalue()


def _number(text: str) -> bool:
    """Whether a spreadsheet takes it for a number, and not for a formula."""
    return re.fullmatch(r"[+-]?[\d,.]+[kMGT%]?", text) is not None


def standalone(svg: str) -> str:
    """The picture without what it would fetch from elsewhere."""
    svg = _ELSEWHERE.sub("", svg)
    return svg.replace("Fira Code", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas")
