"""Writes the README's tables of keys from the console's own: `make keys`.

A test holds the README against what this makes, so that no key is changed without it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cdnctl.cli.keys import keys_table, screens_table

README = Path(__file__).parents[2] / "README.md"
TABLES = {"screens": screens_table, "keys": keys_table}


def made(text: str) -> str:
    """The page with both tables as they are now; each stands between two comments that name it."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: made by `make keys` -->\n", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _old, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{README}: no place for the table of {name}: {begin.strip()} ... {end}")
        text = "".join((before, begin, "\n", "\n".join(table()), "\n\n", end, after))
    return text


if __name__ == "__main__":
    README.write_text(made(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
