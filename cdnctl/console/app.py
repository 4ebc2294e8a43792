"""The console's app: one session, one overview, themes and the way in and out."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from textual.app import App, SystemCommand
from textual.screen import Screen

from cdnctl import paths
from cdnctl.agent.client import AsyncClient, find_edge
from cdnctl.console import keys, theme
from cdnctl.console.screens.overview import SMALLEST, Overview
from cdnctl.console.session import Feed, Session
from cdnctl.errors import CdnctlError, UsageError
from cdnctl.model import Outcome

HANGUP_GRACE_S = 2.0
"""A console whose terminal is gone has so long to end in order."""


class ConsoleApp(App[int]):
    """Its return value is the process's exit status."""

    CSS_PATH = "console.tcss"
    TITLE = "cdnctl"
    BINDINGS = keys.bindings(keys.APP, priority=True)
    ALLOW_SELECT = False
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        connect: Callable[[], Feed],
        themes: Mapping[str, theme.Palette],
        *,
        theme_name: str = theme.DEFAULT,
        read_only: bool = False,
        problems: Iterable[str] = (),
    ) -> None:
        """`problems` are those of theme files; they are shown once."""
        self.palettes = dict(themes)
        super().__init__()
        self.animation_level = "none"
        self.session = Session(connect, read_only=read_only)
        self._problems = tuple(problems)
        for name in list(self.available_themes):
            self.unregister_theme(name)
        for palette in self.palettes.values():
            self.register_theme(palette.textual_theme())
        self.theme = theme_name

    @property
    def palette(self) -> theme.Palette:
        """The colours in use; every widget draws with them."""
        return self.palettes.get(self.theme) or next(iter(self.palettes.values()))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return next(iter(self.palettes.values())).variables()

    def on_mount(self) -> None:
        if not self.is_headless:
            self._heed_signals()
        overview = Overview(self.session)
        self.push_screen(overview)
        self.run_worker(self._collect(overview), name="collect")
        if self._problems:
            said = Outcome(ok=True, text="themes read", warnings=list(self._problems))
            self.call_after_refresh(overview.answer, said)

    def _heed_signals(self) -> None:
        """End when the terminal goes away; left alone, Textual would spin on a dead line."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            loop.add_signal_handler(number, self._hang_up, number)

    def _hang_up(self, number: signal.Signals) -> None:
        """Try to end in order; nobody may be reading what that writes, so do not count on it."""
        last_resort = threading.Timer(HANGUP_GRACE_S, os._exit, (128 + number,))
        last_resort.daemon = True
        last_resort.start()
        self.exit(128 + number)

    async def _collect(self, overview: Overview) -> None:
        await self.session.run(overview.news)
        self.exit(1)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette's commands: the overview's keys, by name."""
        overview = next((shown for shown in self.screen_stack if isinstance(shown, Overview)), None)
        if overview is None or overview is not screen:
            return
        for key in keys.OVERVIEW:
            if key.group != "Move":
                yield SystemCommand(
                    key.label,
                    f"{key.help} ({key.face})",
                    lambda key=key: overview.call_later(_run, overview, key),
                )

    def action_theme(self) -> None:
        """The next theme."""
        names = list(self.palettes)
        self.theme = names[(names.index(self.palette.name) + 1) % len(names)]

    def action_abandon(self) -> None:
        """Quit at once; nothing is changed."""
        self.exit(0)


async def _run(overview: Overview, key: keys.Key) -> None:
    await overview.run_action(key.bound_action)


def run(
    edge: str | None,
    *,
    read_only: bool = False,
    theme: str | None = None,
    socket: Path | None = None,
) -> int:
    """Show the console for `edge` (or the agent at `socket`) until the operator quits; an exit status.

    0 after quitting, 1 when there is no agent or the terminal will not do, 2 when the edge or the
    theme cannot be meant; what was wrong is then on standard error.
    """
    try:
        check(theme)
        app = make_app(edge, read_only=read_only, theme_name=theme, socket=socket)
    except CdnctlError as error:
        print(f"cdnctl: {error}", file=sys.stderr)
        return error.exit_code
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # exported by some shells; Textual would believe them, not the terminal
    app.run()
    if app.session.failure is not None:
        print(f"cdnctl: {app.session.failure}", file=sys.stderr)
    return app.return_value if app.return_value is not None else app.return_code or 0


def make_app(
    edge: str | None, *, read_only: bool = False, theme_name: str | None = None, socket: Path | None = None
) -> ConsoleApp:
    """The app for an edge's agent, with the themes found; raises CdnctlError."""
    palettes, name, problems = themes_for(theme_name)
    path = socket or find_edge(edge)
    return ConsoleApp(
        lambda: AsyncClient(path), palettes, theme_name=name, read_only=read_only, problems=problems
    )


def check(theme_name: str | None = None) -> None:
    """Raise CdnctlError if the console cannot be shown here, whatever the agent: ask before starting one."""
    check_terminal()
    themes_for(theme_name)


def themes_for(wanted: str | None) -> tuple[Mapping[str, theme.Palette], str, list[str]]:
    """The themes found, the name of the one to start with, and what is wrong with theme files."""
    palettes, problems = theme.load(paths.theme_dirs())
    if not palettes:
        raise CdnctlError(
            "no theme can be read", "\n".join(problems) or "reinstall cdnctl: themes/ is missing"
        )
    name = wanted or next(iter(palettes))
    if name not in palettes:
        raise UsageError(f"--theme: there is no theme {name}", f"there are {', '.join(palettes)}")
    return palettes, name, problems


def check_terminal() -> None:
    """Raise CdnctlError where the console cannot be shown: no terminal, or one too small."""
    out = sys.__stderr__  # Textual draws there, so that standard output stays free
    if out is None or not out.isatty() or not sys.stdin.isatty():
        raise CdnctlError(
            "the console needs a terminal", "without one: cdnctl status, or cdnctl status --json"
        )
    width, height = os.get_terminal_size(out.fileno())
    if (width and width < SMALLEST[0]) or (height and height < SMALLEST[1]):
        raise CdnctlError(
            f"this terminal is {width}x{height}, the console needs {SMALLEST[0]}x{SMALLEST[1]}",
            "make it larger, or: cdnctl status",
        )
