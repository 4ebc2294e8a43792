"""The terminal that the console is in, which may be slow, stop reading, or be gone at any moment.

    outlet   writes beside the loop: nobody ever waits for a reader that has stopped
    shadow   what is to be seen there, cell by cell: only what differs is sent
    styles   of text, and the shortest way from one to another
    inlet    what comes in, as events; what was pasted is text, never keys
    driver   modes, sizes, signals: Textual's line to both

Textual's own driver waits for the terminal inside the event loop, so that a stalled SSH line stops
everything, signals included; it takes what is pasted for keys when it holds an escape; it ends on a byte
that is no UTF-8, and spins on a terminal that has hung up. Hence one of our own.
"""
