"""Keys one after the other, however quickly they come.

Over a slow line what was typed arrives all at once. Textual hands each key to whatever has the focus at that
moment, and does what it is bound to later, when it has come up to the app: `tab` and the letters behind it
would go into the same field, `b` and what was typed for its dialog to the screen below. So a key waits until
the one before has done what it does; and so does what is pasted, which is for the field that a key opens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from textual import events
from textual.app import App
from textual.driver import Driver
from textual.message_pump import MessagePump

MOST_S = 0.25
"""No key waits longer for the one before: who was to pass that on may have gone."""


class InOrder(App[int]):
    """An app that heeds one key at a time. A mark follows each through the queues that it goes through."""

    def __init__(self, *, driver_class: type[Driver] | None = None) -> None:
        super().__init__(driver_class=driver_class)
        self._typed = deque[events.Key | events.Paste]()
        self._number = 0
        self._under_way = False

    async def on_event(self, event: events.Event) -> None:
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self._typed.append(event)
        if self._under_way:
            self.set_timer(MOST_S, partial(self._done, self._number))
        else:
            await self._type()

    async def _type(self) -> None:
        """The next key, or paste, if there is one."""
        self._under_way = bool(self._typed)
        if not self._typed:
            return
        event, at = self._typed.popleft(), self.focused or self.screen
        await super().on_event(event)
        _follow(at.ancestors_with_self, self._come_up)

    def _come_up(self) -> None:
        """What it is bound to is done: a dialog, or the focus elsewhere, may be on its way yet."""
        _follow([self.screen, self], partial(self.call_later, self._done, self._number))

    async def _done(self, number: int) -> None:
        if number == self._number:
            self._number += 1
            await self._type()


def _follow(nodes: Iterable[MessagePump], then: Callable[[], object]) -> None:
    """Call `then` when each of these has done what it was told by now, one after the other."""
    left = iter(tuple(nodes))

    def step() -> None:
        for node in left:
            if node.post_message(events.Callback(callback=step)):
                return
        then()

    step()
