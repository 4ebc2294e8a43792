"""An edge with as much on it as a console is to bear: hundreds of talkers, eight CDNs, all of it moving."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import msgspec
import pictures
from frames import Edge

from cdnctl.model import Frame, Talker


@dataclass
class Crowd(Edge):
    """Every frame has `talkers` of them, each with another rate each time, a tenth of them others."""

    talkers: int = 500
    _dice: random.Random = field(default_factory=lambda: random.Random(11))

    def frame(self) -> Frame:
        """The next frame, with histograms, customers and endpoints besides."""
        frame = pictures.rich([super().frame()])[0]
        return msgspec.structs.replace(frame, talkers=[*frame.talkers, *self._crowd(frame)])

    def _crowd(self, frame: Frame) -> list[Talker]:
        names = [cdn.name for cdn in frame.cdns if cdn.state == "in"] or [""]
        made = []
        for index in range(self.talkers - len(frame.talkers)):
            since = self.seq // 20 if index % 10 == 0 else 0
            pps = 900.0 / (index + 2) * self._dice.uniform(0.9, 1.1)
            made.append(
                Talker(
                    prefix=f"10.{100 + since % 100}.{index // 250}.{index % 250}",
                    pps=pps, bps=pps * 5_600, drop_share=0.25 if index % 17 == 0 else 0.0,
                    cdn=names[index % len(names)], samples=int(pps) + 1, error=0.02 + index / 5_000,
                )
            )  # fmt: skip
        return made
