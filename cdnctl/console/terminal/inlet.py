"""What comes from the terminal: bytes to events, and what was pasted apart from what was typed.

Pasted text is one event, which only fields for text take: newlines, key letters and escapes in it are
never keys. Terminals that mark what is pasted make that easy. Where they don't, more characters that arrive
together than a hand types (`LINES_AT_MOST` with ends of lines among them, `LINE_AT_MOST` on one line, which a
script may type) were pasted.
"""

from __future__ import annotations

import re
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator

from textual import events
from textual._xterm_parser import XTermParser
from textual.message import Message

from cdnctl.console.format import clean

PASTE_LIMIT = 64 << 10
"""Characters of a paste that are kept; no field takes as many."""
LINES_AT_MOST = 64
LINE_AT_MOST = 500
PASTE_PAUSE_S = 2.0
"""A paste whose end does not come is over after such a pause: the keys must work again."""
ESCAPE_S = 0.01
"""What follows an escape within this is one key with it. Terminals write a key's sequence at once, so that
even a slow line brings it in one piece; Textual's 0.1 s would be felt whenever a dialog is left."""
RUN_PAUSE_S = 0.05
"""What follows an unmarked paste so soon belongs to it."""

REST_S = 0.01
"""After more than one key at once, the rest of a paste would follow within this: terminals' buffers split it
anywhere."""

_START, _END = "\x1b[200~", "\x1b[201~"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
"""A key, the mouse, or an answer of the terminal's."""
_AMONG = re.compile(r"[\x00-\x1f](?!\Z)")
"""A key that ends a line or does something, and more after it."""


class Inlet:
    """Feeds the bytes of one terminal through; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._keys = XTermParser()
        self._held = ""
        """What may be the beginning of a mark."""
        self._pasted: list[str] | None = None
        """What was pasted so far; None: nothing is being pasted."""
        self._size = 0
        self._run_until = 0.0
        """Until then what comes belongs to an unmarked paste."""

    @property
    def due_s(self) -> float | None:
        """After how long without anything `idle` wants to be called; None: never."""
        if self._pasted is not None:
            return PASTE_PAUSE_S
        return ESCAPE_S if self._held or self._keys._timeout_time is not None else None

    def feed(self, data: bytes) -> Iterator[Message]:
        """What these bytes mean."""
        text, self._held = self._held + self._decode(data), ""
        while text:
            if self._pasted is None:
                typed, mark, text = text.partition(_START)
                if mark:
                    self._pasted, self._size = [], 0
                else:
                    typed, self._held = _split(typed, _START)
                yield from self._typed(typed)
            else:
                pasted, mark, text = text.partition(_END)
                if not mark:
                    pasted, self._held = _split(pasted, _END)
                self._keep(pasted)
                if mark:
                    yield from self._paste()

    def idle(self) -> Iterator[Message]:
        """Nothing came for a while: what was begun is all there is."""
        held, self._held = self._held, ""
        if self._pasted is not None:
            self._keep(held)
            yield from self._paste()
        else:
            yield from self._parsed(held)
            if self._keys._timeout_time is not None:
                self._keys._timeout_time = 0.0  # now
                yield from self._keys.tick()

    def _keep(self, text: str) -> None:
        if self._pasted is not None:
            self._pasted.append(text[: max(0, PASTE_LIMIT - self._size)])
            self._size += len(text)

    def _paste(self) -> Iterator[Message]:
        text, self._pasted = "".join(self._pasted or ()), None
        yield from _as_event(text)

    def _typed(self, text: str) -> Iterator[Message]:
        """Keys, unless no hand types so fast."""
        plain = _SEQUENCE.sub("", text)
        now_s = self._clock()
        goes_on = now_s < self._run_until
        most = LINES_AT_MOST if _AMONG.search(plain) else LINE_AT_MOST
        if len(plain) <= most and not (goes_on and plain):
            yield from self._parsed(text)
            return
        self._run_until = now_s + RUN_PAUSE_S
        yield from _as_event(plain)

    def _parsed(self, text: str) -> Iterator[Message]:
        """As keys, clicks and answers; what the parser cannot bear (a character beyond Unicode) is lost."""
        try:
            yield from self._keys.feed(text) if text else ()
        except (ValueError, OverflowError):
            self._keys = XTermParser()


def is_many(data: bytes) -> bool:
    """Whether it is more than a hand types at a time: more of it may be about to come."""
    return len(_SEQUENCE.sub("", data.decode("utf-8", "replace"))) > 1


def _split(text: str, mark: str) -> tuple[str, str]:
    """The text, and apart from it what at its end may be the beginning of the mark."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return text[:-length], text[-length:]
    return text, ""


def _as_event(text: str) -> Iterator[Message]:
    """Pasted text, of which nothing is left that is not to be seen."""
    lines = [clean(line, PASTE_LIMIT) for line in text.splitlines()]
    if shown := "\n".join(line for line in lines if line.strip()):
        yield events.Paste(shown)
