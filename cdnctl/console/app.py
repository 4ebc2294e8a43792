"""The console's app: one session, one overview, themes and the way in and out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from textual.app import SystemCommand
from textual.filter import LineFilter, Monochrome, NoColor
from textual.screen import Screen

from cdnctl import paths
from cdnctl.agent.client import AsyncClient, find_edge
from cdnctl.console import depth, garbage, glyphs, keymap, keys, settings, strips, theme
from cdnctl.console.commands import Grammar, NoGrammar
from cdnctl.console.display import Display
from cdnctl.console.format import Clock
from cdnctl.console.garbage import Garbage
from cdnctl.console.glyphs import GlyphFilter
from cdnctl.console.inorder import InOrder
from cdnctl.console.outside import Outside
from cdnctl.console.playback import Playback, ReplayFeed
from cdnctl.console.screens import made, warm
from cdnctl.console.screens.house import House
from cdnctl.console.session import Feed, Session
from cdnctl.console.settings import Settings
from cdnctl.console.starting import check as check
from cdnctl.console.starting import themes_for as themes_for
from cdnctl.console.terminal.driver import Terminal
from cdnctl.console.widgets.lines import Lines
from cdnctl.errors import CdnctlError
from cdnctl.model import Outcome

THEMES_LOOKED_AT_S = 1.0
WARM_EVERY_S = 0.05
"""So often something is read from disk that a key may need, once the first figures are shown."""
HANGUP_GRACE_S = 2.0
"""A console whose terminal is gone has so long to end in order."""


class ConsoleApp(InOrder):
    """Its return value is the process's exit status."""

    CSS_PATH = "console.tcss"
    TITLE = "cdnctl"
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
        settings: Settings | None = None,
        grammar: Grammar | None = None,
    ) -> None:
        """`problems` are those of theme files and settings; they are shown once."""
        self.palettes = dict(themes)
        self.settings = settings or Settings()
        self.grammar: Grammar = grammar or NoGrammar()
        self.glyph_table = glyphs.table(self.settings.glyphs)
        super().__init__(driver_class=Terminal)
        keys.bind(self, keys.app(), priority=True)
        self.animation_level = "none"
        self.session = Session(connect, read_only=read_only)
        self.view = Display(self.session, self.settings)
        self._problems = tuple(problems)
        Clock.utc = self.settings.utc
        for name in list(self.available_themes):
            self.unregister_theme(name)
        for palette in self.palettes.values():
            self.register_theme(palette.textual_theme())
        self.theme = theme_name
        self._theme_files = theme.signature(paths.theme_dirs())
        self._outside = Outside(self)
        self._is_cold = True
        self.garbage: Garbage | None = None
        """None: the process is not the console's alone."""

    @property
    def palette(self) -> theme.Palette:
        """The colours in use; every widget draws with them."""
        return self.palettes.get(self.theme) or next(iter(self.palettes.values()))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return next(iter(self.palettes.values())).variables()

    def on_mount(self) -> None:
        if not self.is_headless:
            self._heed_signals()
        self.set_interval(THEMES_LOOKED_AT_S, self._look_at_themes)
        self.set_interval(garbage.EVERY_S, self._look_for_garbage)
        self.push_screen(self._screen(keys.SCREENS[0].name))
        self.run_worker(self._collect(), name="collect")
        if self._problems:
            said = Outcome(ok=True, text="", warnings=list(self._problems))
            self.call_after_refresh(self._answer, said)

    def _answer(self, outcome: Outcome) -> None:
        if (house := self.house) is not None:
            house.answer(outcome)

    # --- screens ----------------------------------------------------------------------------------

    @property
    def house(self) -> House | None:
        """The screen that is shown, or the one under the dialog that is."""
        return next((screen for screen in reversed(self.screen_stack) if isinstance(screen, House)), None)

    def _screen(self, name: str) -> House:
        if not self.is_screen_installed(name):
            self.install_screen(made[name](self.view), name)
        screen = self.get_screen(name)
        assert isinstance(screen, House)
        return screen

    def action_go(self, name: str, back: bool = False) -> None:
        """To another screen; `back` when it is the one that was left before."""
        house = self.house
        if house is None or house is not self.screen or name == house.NAME:
            return
        if not back:
            self.view.back.append(house.NAME)
            del self.view.back[:-20]
        self.switch_screen(self._screen(name))

    def remember(self) -> None:
        """Write the settings; what keeps them from being written is said."""
        if problem := self.settings.save():
            self._answer(Outcome(ok=False, text=problem))

    def _heed_signals(self) -> None:
        """End when the terminal goes away; left alone, Textual would spin on a dead line."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hang_up, number)

    def _hang_up(self, number: signal.Signals) -> None:
        """Try to end in order; whatever keeps the loop from that, do not count on it."""
        last_resort = threading.Timer(HANGUP_GRACE_S, self._give_up, (128 + number,))
        last_resort.daemon = True
        last_resort.start()
        self.exit(128 + number)

    def _give_up(self, status: int) -> None:
        if isinstance(self._driver, Terminal):
            self._driver.restore()
        os._exit(status)

    def on_terminal_gone(self) -> None:
        """Nobody is there any more, whether or not the kernel has said so by a signal."""
        self._hang_up(signal.SIGHUP)

    def post_display_hook(self) -> None:
        """Painted, or held back: the terminal's line keeps account of it."""
        if isinstance(self._driver, Terminal):
            self._driver.displayed()

    def action_stop_process(self) -> None:
        """Stop, as ctrl+z stops any program; `fg` in the shell goes on."""
        if isinstance(self._driver, Terminal):
            self._driver.stop_process(group=True)

    async def _collect(self) -> None:
        await self.session.run(self._news)
        self.exit(1)

    def _news(self) -> None:
        if (house := self.house) is not None:
            house.news()
        self._outside.news(self.view.newest)
        if self._is_cold:
            self._is_cold = False
            self.call_after_refresh(self._warm_up)

    def _warm_up(self) -> None:
        """The first figures are shown: get ready for keys."""

        async def read() -> None:
            for _ in warm():
                await asyncio.sleep(WARM_EVERY_S)
            if self.garbage is not None:
                self.garbage.begin()

        self.run_worker(read(), name="warm")

    def _look_for_garbage(self) -> None:
        if self.garbage is not None and isinstance(self._driver, Terminal):
            self.garbage.look(self._driver.heard_s)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette's commands: the screen's keys, by name."""
        if not isinstance(screen, House):
            return
        for key in (*keys.of(screen.NAME), *keys.ways()):
            if key.group != "Move":
                yield SystemCommand(
                    key.label,
                    f"{key.help or key.label} ({key.face})" if key.face else key.help,
                    lambda key=key: screen.call_later(_run, screen, key),
                )

    def _look_at_themes(self) -> None:
        """Take up a theme file that was edited; what is wrong with it is said, and the old one stays."""
        now = theme.signature(paths.theme_dirs())
        if now == self._theme_files:
            return
        self._theme_files = now
        palettes, problems = theme.load(paths.theme_dirs())
        self.palettes |= palettes
        for palette in palettes.values():
            self.register_theme(palette.textual_theme())
        self.refresh_css(animate=False)
        self._redraw()
        said = Outcome(ok=not problems, text="; ".join(problems) or "themes read again")
        self._answer(said)

    # --- looks ------------------------------------------------------------------------------------

    def watch_theme(self, _name: str) -> None:
        """Draw anew what a theme decides besides colours: shades of a map, patterns of lines."""
        if self.house is not None:
            self.call_after_refresh(self._redraw)

    def action_theme(self) -> None:
        """The next theme."""
        names = list(self.palettes)
        self.theme = names[(names.index(self.palette.name) + 1) % len(names)]
        self.settings.theme = self.theme
        self.remember()
        self._answer(Outcome(ok=True, text=f"theme {self.theme}"))

    def action_clock(self) -> None:
        """Local time, or UTC."""
        Clock.utc = self.settings.utc = not Clock.utc
        self.remember()
        self._redraw()
        self._answer(Outcome(ok=True, text=f"times are {'UTC' if Clock.utc else 'local'}"))

    def action_bell_option(self) -> None:
        """Ring at alarms, or not."""
        self.settings.bell = not self.settings.bell
        self.remember()
        text = f"the bell {'rings' if self.settings.bell else 'is silent'} at alarms"
        self._answer(Outcome(ok=True, text=text))

    def action_glyphs(self) -> None:
        """The next set of characters."""
        now = glyphs.GLYPHS.index(self.settings.glyphs)
        self.settings.glyphs = glyphs.GLYPHS[(now + 1) % len(glyphs.GLYPHS)]
        self.remember()
        self.glyph_table = glyphs.table(self.settings.glyphs)
        self._redraw()
        self._answer(Outcome(ok=True, text=f"drawn with {self.settings.glyphs}"))

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The last step before the screen: other characters, where this terminal lacks some."""
        filters = [each for each in super().get_line_filters() if not isinstance(each, NoColor | Monochrome)]
        if self.no_color:  # greys for exact colours; the terminal's own need none
            filters.append(NoColor() if self.native_ansi_color else Monochrome())
        return [*filters, GlyphFilter(self.glyph_table)] if self.glyph_table else filters

    def _redraw(self) -> None:
        for screen in self.screen_stack:
            for widget in screen.query():
                widget.refresh()
            for lines in screen.query(Lines):
                lines.repaint_all()
            if isinstance(screen, House):
                screen.redraw_times()

    def action_abandon(self) -> None:
        """Quit at once; nothing is changed."""
        self.exit(0)


async def _run(house: House, key: keys.Key) -> None:
    await house.run_action(key.bound_action)


def run(
    edge: str | None,
    *,
    read_only: bool = False,
    theme: str | None = None,
    socket: Path | None = None,
    grammar: Grammar | None = None,
    playback: Playback | None = None,
) -> int:
    """Show the console for `edge` (the agent at `socket`, or a recording) until the operator quits; an exit
    status.

    0 after quitting, 1 when there is no agent or the terminal will not do, 2 when the edge or the
    theme cannot be meant; what was wrong is then on standard error.
    """
    try:
        check(theme)
        app = make_app(
            edge,
            read_only=read_only,
            theme_name=theme,
            socket=socket,
            grammar=grammar,
            playback=playback,
        )
    except CdnctlError as error:
        print(f"cdnctl: {error}", file=sys.stderr)
        return error.exit_code
    app.garbage = Garbage()
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # exported by some shells; Textual would believe them, not the terminal
    try:
        app.run()
    except OSError:
        if app.return_value is None:  # else its last words were for a terminal that is gone
            raise
    if app.session.failure is not None:
        with contextlib.suppress(OSError):  # a terminal that is gone
            print(f"cdnctl: {app.session.failure}", file=sys.stderr)
    return app.return_value if app.return_value is not None else app.return_code or 0


def make_app(
    edge: str | None,
    *,
    read_only: bool = False,
    theme_name: str | None = None,
    socket: Path | None = None,
    grammar: Grammar | None = None,
    playback: Playback | None = None,
) -> ConsoleApp:
    """The app for an edge's agent, or a recording, with the themes found; raises CdnctlError."""
    remembered, wrong = settings.load(paths.console_state_path())
    mine, clashes = keymap.load(paths.keymap_path())
    keys.use(mine)
    if len(clashes) > 1:  # more than there is room for
        clashes = [f"{paths.keymap_path()}: {len(clashes)} lines are wrong: `cdnctl keys` says which"]
    palettes, name, problems = themes_for(theme_name, remembered.theme)
    if theme_name is None and not theme.can_be_shown(palettes[name]):
        name = theme.suited(palettes)  # what is remembered from a better terminal waits for that
    depth.prepare()
    strips.prepare()
    path = socket or (Path() if playback else find_edge(edge))
    return ConsoleApp(
        lambda: ReplayFeed(playback) if playback else AsyncClient(path),
        palettes,
        theme_name=name,
        read_only=read_only,
        problems=[*problems, *wrong, *clashes],
        settings=remembered,
        grammar=grammar,
    )
