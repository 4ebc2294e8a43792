"""The terminal console: one Textual app over the agent's frames.

It knows the data model, the agent's client and the paths, nothing else; it changes nothing but by
sending a command. `keys.py` is the one table of key bindings, `theme.py` reads `themes/*.toml`,
`history.py` keeps what has been seen, `widgets/` draw, `screens/` put widgets and keys together.
"""
