"""A recording as a cast or a still: the real console, played without a terminal.

    stage      runs the app over a recording's frames, on the recording's clock, and looks at it
    picture    what is on its screen: cells, each a character and how it looks
    ansi       what has to be written to make one picture of another
    asciicast  the file of versions 2 and 3 that players of terminal sessions read
    svg        one picture for a page; `shapes` draws lines, blocks and braille as paths

Nothing waits: ten minutes of frames take as long as it takes to draw them.
"""

from __future__ import annotations

from cdnctl.console.cast.make import Made, cast, still
from cdnctl.console.cast.stage import Script, Size

__all__ = ["Made", "Script", "Size", "cast", "still"]
