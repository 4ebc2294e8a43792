"""What a configuration costs, and what its numbers mean together. `cdnctl check` prints it."""

from __future__ import annotations

from cdnctl.config.schema import Config

# Bytes an entry takes in the kernel. A slot's is the struct's own size, as arrays have no overhead; the
# others are estimates: key, value, the kernel's book-keeping (about 50) and a bucket's share.
FLOW_BYTES = 120
REVERSE_SLOT_BYTES = 56
BLOCK_BYTES = 80
BLOCK_FILTER_BYTES = 2**24 * 2 // 8  # two bits for each IPv4 /24


def ports(config: Config) -> int:
    """Ports of each SNAT address."""
    first, last = config.edge.snat_ports
    return last - first + 1


def slots(config: Config) -> int:
    """Reverse slots: one for each SNAT address, endpoint (those there is room for) and port."""
    return len(config.edge.snat) * config.limits.endpoints * ports(config)


def memory(config: Config) -> dict[str, int]:
    """Bytes of kernel memory by table, estimated, with every table full."""
    limits = config.limits
    return {
        "established flows": limits.flows * FLOW_BYTES,
        "half-open flows": limits.half_open * FLOW_BYTES,
        "reverse slots": slots(config) * REVERSE_SLOT_BYTES,
        "block list": limits.block_entries * BLOCK_BYTES,
        "block filter": BLOCK_FILTER_BYTES,
    }


def notes(config: Config) -> list[str]:
    """What is right but worth knowing, one sentence each; `check` prints them."""
    said = []
    endpoints = sum(len(cdn.endpoints) for cdn in config.cdns)
    bindings = len(config.edge.snat) * endpoints * ports(config)
    if bindings < config.limits.flows:
        said.append(
            f"limits.flows is {config.limits.flows}, but no more than {bindings} flows can be open at once:"
            f" SNAT addresses ({len(config.edge.snat)}) x endpoints ({endpoints}) x ports ({ports(config)})"
        )
    said += (
        f"{cdn.name} has weight 0: it gets no new flows until an operator gives it a weight"
        for cdn in config.cdns
        if cdn.weight == 0
    )
    return said
