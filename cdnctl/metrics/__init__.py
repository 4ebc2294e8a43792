"""What Prometheus is told of an edge: a frame, and the histograms of its moment, as metrics.

Pure: a `Frame` in, text out; the agent's exporter serves it, `cdnctl metrics` prints it. Base units
(seconds, bytes, ratios from 0 to 1), `_total` for what only grows, and no address in any label: labels are
names from the configuration and words of the program, so their number is bounded.

    text     all of them as one text     edge     what is true of the whole edge
    cdns     each CDN, its histograms    clients  services and customers
    family   short ways to make one          times    histograms, of which a frame has only percentiles
    planner  what it keeps, probes, feeds
"""
