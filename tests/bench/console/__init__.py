"""What the console takes of the box, of the line and of an operator's patience, in a real terminal.

How it measures:

- The console's own process at the agent's real server and codec, over a socket; the edge behind that is made
  up: 2 frames/s of 500 talkers and 8 CDNs with all that a frame may have, every figure another each time.
- The terminal is a pty of 200x50. Its bytes are stamped as they come, and drawn by another terminal emulator
  only afterwards, when what they showed, and when, is looked up: looking on costs the console nothing.
- Processor time is the kernel's count of all the console's threads, on the screen with the plots and on the
  one with all 500 talkers.
- A key's way ends with the bytes that show its effect; what would show anyway is no effect. A start ends
  with the bytes that put the first figures on the screen.

    keys  what is pressed, and what shows its effect        suite  rounds and rows
"""

from tests.bench.console.suite import results

__all__ = ["results"]
