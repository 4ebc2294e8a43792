"""The lines that `:` and `/` open, and what becomes of what is said there."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from cdnctl.console.commands import Spoken
from cdnctl.console.filters import Filter
from cdnctl.console.format import clean
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.notices import AnswerLine
from cdnctl.console.widgets.prompt import Prompt
from cdnctl.errors import UsageError
from cdnctl.model import AnyChange, Change, Frame, Outcome
from cdnctl.python import python_module

if TYPE_CHECKING:
    from cdnctl.console.app import ConsoleApp
    from cdnctl.console.session import Session

RUN_TIMEOUT_S = 60.0
"""A trace may have to be compiled first."""
AT_HOME = {"blocks": "lists", "customers": "steering"}
"""Verbs that only ask, and the screens that show the answer live."""
ELSEWHERE = frozenset({"agent", "demo", "init", ""})
"""Verbs that are programs of their own."""
LEAVING = ("q", "quit")
"""What hands type that know other programs; as the key does."""
SHOWN = 12


class Speaking:
    """What of a screen takes words; mixed into `House`."""

    if TYPE_CHECKING:
        needle: Filter

        @property
        def console_app(self) -> ConsoleApp: ...
        @property
        def session(self) -> Session: ...
        @property
        def frame(self) -> Frame | None: ...
        def answer(self, outcome: Outcome | None) -> None: ...
        def plan(self, *changes: AnyChange) -> None: ...
        def may_change(self) -> bool: ...
        def action_leave(self) -> None: ...
        def sift(self, needle: Filter) -> None: ...
        def query_one(self, kind: Any, *args: Any) -> Any: ...
        def run_worker(self, work: Any, **options: Any) -> Any: ...
        def _ask(self, dialog: Screen[Any]) -> None: ...
        def _draw_detail(self) -> None: ...
        def action_focus_panel(self, step: int) -> None: ...

    # --- the prompt -------------------------------------------------------------------------------

    def action_command(self) -> None:
        """Open the command line."""
        self._open(":", "")

    def action_filter(self) -> None:
        """Open the filter."""
        self._open("/", self.needle.text)

    def _open(self, sign: str, text: str) -> None:
        prompt: Prompt = self.query_one("#prompt", Prompt)
        self._focus_before = self.console_app.focused
        prompt.open(sign, text, self._complete if sign == ":" else lambda _text: ())
        self.on_prompt_typed(Prompt.Typed(sign, text))

    def _close(self) -> None:
        self.query_one("#prompt", Prompt).close()
        before = getattr(self, "_focus_before", None)
        if before is not None and before.is_attached:
            before.focus()
        else:
            self.action_focus_panel(1)
        self._draw_detail()

    def _complete(self, text: str) -> list[str]:
        return list(self.console_app.grammar.complete(text, self.frame))

    def on_prompt_typed(self, message: Prompt.Typed) -> None:
        """A filter holds at once; a command line shows how it may go on."""
        if message.sign == "/":
            self.sift(Filter(message.text))
            return
        found = self._complete(message.text)
        text = self.console_app.grammar.help(message.text)
        row: list[tuple[str, str]] = [(f"{word}  ", "accent") for word in found[:SHOWN]]
        if len(found) > SHOWN:
            row.append((f"and {len(found) - SHOWN} more  ", "muted"))
        self.query_one("#answer", AnswerLine).detail((*row, (clean(text, 200), "muted")))

    def on_prompt_left(self, message: Prompt.Left) -> None:
        """Nothing was meant; a filter that was only tried is gone."""
        if message.sign == "/":
            self.sift(Filter())
        self._close()

    def on_prompt_said(self, message: Prompt.Said) -> None:
        """Do it."""
        self._close()
        if message.sign == "/":
            self.sift(Filter(message.text))
        elif message.text:
            self.speak(message.text)

    # --- commands ---------------------------------------------------------------------------------

    def speak(self, line: str) -> None:
        """Do what a command line says; changes are shown as a plan first."""
        if line.strip() in LEAVING:
            self.action_leave()
            return
        try:
            spoken = self.console_app.grammar.parse(line)
        except UsageError as error:
            self.answer(Outcome(ok=False, text=f"{error.message}; {error.remedy}".rstrip("; ")))
            return
        if isinstance(spoken.command, Change):
            self._change(spoken.command)
        elif self.session.is_replay:
            self.answer(Outcome(ok=False, text="this is a recording: there is no edge to ask"))
        elif spoken.verb in ELSEWHERE:
            text = f"`{spoken.words[0]}` is a program of its own: run it in a shell"
            self.answer(Outcome(ok=False, text=text))
        elif spoken.verb in AT_HOME:
            self.console_app.action_go(AT_HOME[spoken.verb])
        else:
            self.run_worker(partial(self._run, spoken), exclusive=True, group="run")

    def _change(self, command: AnyChange) -> None:
        if not command.dry_run:
            self.plan(command)
        elif self.may_change():
            self.run_worker(partial(self._try, command), exclusive=True, group="run")

    async def _try(self, command: AnyChange) -> None:
        self.answer(await self.session.request(command))

    async def _run(self, spoken: Spoken) -> None:
        """What the command line does by itself, in a process of its own; shown as it says it."""
        from cdnctl.console.screens.dialogs.output import OutputDialog

        words = self.edge_words(spoken.words) if spoken.names_edge else ()
        ok, text = await run_line((*spoken.words, *words))
        rows: list[Row] = [((clean(line, 400), "text" if ok else "warn"),) for line in text.splitlines()]
        self._ask(OutputDialog(" ".join(spoken.words), rows))

    def edge_words(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """That this edge is meant, unless the words name one."""
        return () if "--edge" in words or not self.session.edge else ("--edge", self.session.edge)


async def run_line(words: tuple[str, ...]) -> tuple[bool, str]:
    """Run `cdnctl WORDS`; whether it went well, and what it said."""
    try:
        process = await asyncio.create_subprocess_exec(
            *python_module("cdnctl", *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except (ValueError, OSError) as error:  # a NUL, what is no UTF-8, too many words
        return False, f"cannot be run: {error}"
    try:
        async with asyncio.timeout(RUN_TIMEOUT_S):
            said, _ = await process.communicate()
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            return False, f"no end within {RUN_TIMEOUT_S:.0f} s; it was ended"
        raise
    return process.returncode == 0, said.decode(errors="replace")
