"""The screens, by the names that `keys.SCREENS` gives them.

Each is read from disk when it is made first, or by `warm`: the first picture waits for one screen only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import cast

from cdnctl.console.screens.house import House

_NAMES = (
    "overview", "cdns", "talkers", "drops", "lists", "steering", "trace", "journal", "attack",
)  # fmt: skip
_DIALOGS = (
    "block", "weights", "unblock", "change", "quit", "help", "back", "arm", "mark", "output", "columns",
)  # fmt: skip


class _Made(Mapping[str, type[House]]):
    """What makes each: the class in the module of that name."""

    def __getitem__(self, name: str) -> type[House]:
        if name not in _NAMES:
            raise KeyError(name)
        return cast("type[House]", getattr(import_module(f"{__name__}.{name}"), name.capitalize()))

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


made: Mapping[str, type[House]] = _Made()


def warm() -> Iterator[str]:
    """Read what a key may need next, one module at each step, so that no key waits for all of them."""
    for module in (*_NAMES, *(f"dialogs.{name}" for name in _DIALOGS)):
        import_module(f"{__name__}.{module}")
        yield module
