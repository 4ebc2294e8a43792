"""The terminal console: one Textual app over the agent's frames.

It knows the data model, the agent's client and the paths, nothing else; it changes nothing but by
sending a command. `keytable.py` is the one table of key bindings, which `keys.py` gives out with what the
user's keymap says otherwise; `theme.py` reads `themes/*.toml`, `history.py` keeps what has been seen,
`widgets/` draw, `screens/` put widgets and keys together.
"""

import os

os.environ.setdefault("TEXTUAL_FPS", "200")
"""How soon after a change Textual paints at the latest; sixty times a second, as it would, is felt."""
