"""The model of sources' manners: keeps the kernel's as operators and configuration want it, and shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec import structs

from cdnctl.config import Config
from cdnctl.datapath import abi
from cdnctl.datapath.manners import MOMENT_SHIFT, model_of, seen_of
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError
from cdnctl.model import MODEL_MODES, Fit, Manner, ModelMode, ModelWish, Suspicion

FRAME_MANNERS = 100
"""Sources in a frame; of more those that asked last."""
LATELY_S = 30.0


class Wish(NamedTuple):
    """Operators'."""

    mode: ModelWish
    fit: Fit


class Suspecting:
    """Of one edge. `use` before anything else, and again when tables or configuration are others."""

    def __init__(self, wish: Callable[[], Wish]) -> None:
        self._wish = wish
        self._shown_ns = 0

    def use(self, config: Config, tables: Tables) -> None:
        """Keep these, and have the kernel hold what is wanted. Raises OSError."""
        self._config, self._tables = config, tables
        self.put()

    @property
    def mode(self) -> ModelMode:
        """Wanted now. Without a model none is on: it would suspect nobody, and nobody would notice."""
        return self.mode_of(self._wish())

    def mode_of(self, wish: Wish) -> ModelMode:
        """What a wish comes to."""
        mode = self._config.model.mode if wish.mode == "config" else wish.mode
        return "observe" if mode == "on" and not wish.fit.name else mode

    def put(self) -> None:
        """Have the kernel hold it, by one word. Raises OSError."""
        settings = self._tables.settings
        if self._kernel_mode is abi.ModelMode.OFF:
            settings.model = 0  # the kernel asks for nothing else
        else:
            settings.model = self._tables.manners.put(settings.model, self._kernel_mode, self._wanted())
        self._tables.settings = settings

    @property
    def _kernel_mode(self) -> abi.ModelMode:
        return abi.ModelMode(MODEL_MODES.index(self.mode))

    def _wanted(self) -> abi.Model:
        fit = self._wish().fit
        return model_of(fit.row, fit.bias, self._config.model.times)

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Where the kernel has it otherwise: what, as it is wanted, as it is found. Raises OSError."""
        word = self._tables.settings.model
        found = word & ~abi.MODEL_SECOND
        if found != self._kernel_mode:
            yield "mode", self.mode, MODEL_MODES[found] if found < len(MODEL_MODES) else f"number {found}"
        elif self.mode != "off" and bytes(self._tables.manners.model(word)) != bytes(self._wanted()):
            yield "weights", self._wish().fit.name or "none", "others"

    def require_fit(self, mode: ModelWish) -> None:
        """Raise CdnctlError where there is no model to switch on."""
        if mode == "on" and not self._wish().fit.name:
            raise CdnctlError(
                "no model is loaded",
                "`cdnctl train RECORDING... -o FILE` makes one, `cdnctl model load FILE` loads it",
            )

    # -- pictures --

    def picture(self) -> tuple[Suspicion, list[Manner]]:
        """For a frame: what the model does, and the sources that asked for a flow since the last one."""
        wish, mode = self._wish(), self.mode
        said = Suspicion(mode=mode, fit=wish.fit, times=self._config.model.times)
        now_ns = time.monotonic_ns()
        before_ns, self._shown_ns = self._shown_ns, now_ns
        if mode == "off":
            return said, []
        lately = self._tables.manners.lately(now_ns, LATELY_S, FRAME_MANNERS)
        since = (before_ns >> MOMENT_SHIFT) & 0xFFFF_FFFF
        fresh = [manner for manner in lately.newest if 0 <= manner.seen - since < 1 << 31]
        shown = [Manner(**seen_of(manner)._asdict()) for manner in fresh]
        suspicious = lately.suspicious if wish.fit.name else 0
        return structs.replace(said, sources=lately.sources, suspicious=suspicious), shown


def words(mode: ModelMode, fit: Fit, times: int) -> str:
    """What is so then."""
    named = f"model {fit.name}" if fit.name else "no model"
    return {
        "off": "the manner of sources is not looked at",
        "observe": f"{named} looks at sources, and decides nothing",
        "on": f"{named}: who is suspicious gets {times} times fewer flows than his budget gives others",
    }[mode]
