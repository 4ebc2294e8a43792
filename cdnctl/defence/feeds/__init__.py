"""Lists from outside: whom to block, and which addresses are a provider's own.

A feed goes from bytes to prefixes in steps that are each pure but the first:

    fetch      a file or a URL, with limits           store      the last good one, on disk
    formats    sniffed and parsed, or refused as a whole, with line and remedy
    screen     what is protected is left out, and said; what is empty or shrunk is refused
    prefixes   sets of prefixes as numbers: aggregated, compared
    following  a new version by what has changed in it: a tenth of the time
    origins    who wants which: removing a feed removes only what it alone brought
    schedule   when to look again

    entries    what a list says       nft, documents    two of the formats
    regions    not a feed, but as one: prefixes with labels, from a file
"""
