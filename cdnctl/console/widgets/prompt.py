"""The line that `:` and `/` open: what is typed, with history and completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input

from cdnctl.console.widgets.lines import Lines

HISTORY = 200


class _Field(Input):
    """Leaves tab, the arrows, esc and enter to the prompt."""

    def __init__(self) -> None:
        super().__init__(compact=True, max_length=500, id="prompt-field")

    async def on_key(self, event: events.Key) -> None:
        prompt = self.parent
        if isinstance(prompt, Prompt) and prompt.heed(event.key):
            event.stop()
            event.prevent_default()


class Prompt(Horizontal):
    """Hidden until it is opened; says what was typed, and when it was left."""

    class Said(Message):
        """Enter: this was meant."""

        def __init__(self, sign: str, text: str) -> None:
            super().__init__()
            self.sign, self.text = sign, text

    class Typed(Message):
        """What stands there now."""

        def __init__(self, sign: str, text: str) -> None:
            super().__init__()
            self.sign, self.text = sign, text

    class Left(Message):
        """Esc: nothing was meant."""

        def __init__(self, sign: str) -> None:
            super().__init__()
            self.sign = sign

    def __init__(self, past: dict[str, list[str]], *, id: str) -> None:
        """`past` is what was typed before, by sign; all screens share it."""
        super().__init__(id=id)
        self.sign = ""
        self._complete: Callable[[str], Sequence[str]] = lambda _text: ()
        self._past = past
        self._at = 0

    def compose(self) -> ComposeResult:
        yield Lines(id="prompt-sign")
        yield _Field()

    @property
    def field(self) -> Input:
        """Where it is typed."""
        return self.query_one(_Field)

    @property
    def is_open(self) -> bool:
        """Whether it takes the keys."""
        return bool(self.display)

    def open(self, sign: str, text: str, complete: Callable[[str], Sequence[str]]) -> None:
        """Take what is typed from now on."""
        self.sign, self._complete = sign, complete
        self._at = len(self._past.get(sign, []))
        self.display = True
        self.query_one("#prompt-sign", Lines).show([((f" {sign}", "accent bold"),)])
        self.field.value = text
        self.field.cursor_position = len(text)
        self.field.focus()

    def close(self) -> None:
        """Give the keys back."""
        self.display = False

    def heed(self, key: str) -> bool:
        """What these keys do here; False for those that are only typed."""
        match key:
            case "escape":
                self.close()
                self.post_message(self.Left(self.sign))
            case "enter":
                text = self.field.value.strip()
                if text:
                    past = self._past.setdefault(self.sign, [])
                    if past[-1:] != [text]:
                        past.append(text)
                        del past[:-HISTORY]
                self.close()
                self.post_message(self.Said(self.sign, text))
            case "tab":
                self._finish_word()
            case "up" | "down":
                self._recall(-1 if key == "up" else 1)
            case _:
                return False
        return True

    def _finish_word(self) -> None:
        text = self.field.value
        found = list(self._complete(text))
        if not found:
            return
        shared = _shared_start(found)
        begun, _, word = text.rpartition(" ")
        if len(shared) > len(word) or len(found) == 1:
            end = "" if len(found) > 1 or shared.endswith("=") else " "
            self._put(f"{begun} {shared}{end}" if begun else f"{shared}{end}")

    def _recall(self, step: int) -> None:
        past = self._past.get(self.sign, [])
        self._at = max(0, min(len(past), self._at + step))
        self._put(past[self._at] if self._at < len(past) else "")

    def _put(self, text: str) -> None:
        self.field.value = text
        self.field.cursor_position = len(text)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.is_open:
            self.post_message(self.Typed(self.sign, event.value))


def _shared_start(words: Sequence[str]) -> str:
    first, last = min(words), max(words)
    length = next((at for at, char in enumerate(first) if last[at : at + 1] != char), len(first))
    return first[:length]
