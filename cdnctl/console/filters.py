"""What `/` keeps: rows that have every word, and none of those after a `!`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Filter:
    """Words that a row must have (`tcp !10.0.`), whatever their case; of no words, every row."""

    text: str = ""

    def __bool__(self) -> bool:
        return bool(self.text.strip())

    def keeps(self, row: str) -> bool:
        """Whether a row with this text is shown."""
        row = row.lower()
        for word in self.text.lower().split():
            inverted = word.startswith("!")
            wanted = word.removeprefix("!")
            if wanted and (wanted in row) == inverted:
                return False
        return True
