"""The wanted block list, and the kernel's after it."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterable

from msgspec.structs import replace

from cdnctl.datapath.blocks import Differences, KernelBlocks
from cdnctl.datapath.tables import Tables
from cdnctl.defence.blocklist import Blocklist, Delta, Network, parse_prefix
from cdnctl.model import Block
from cdnctl.state.blocks import undisturbed

MANY = 10_000


class Blocks:
    """What is wanted is in force, or nothing was changed."""

    def __init__(self, kernel: KernelBlocks, tables: Tables) -> None:
        self.wanted = Blocklist()
        self._kernel = kernel
        self._tables = tables

    def load(self, blocks: Iterable[Block]) -> None:
        """Have exactly these, but for those that have ended."""
        with undisturbed():
            self.wanted.fill(blocks)
            self.wanted.expire(time.time_ns())
            self._kernel.load(self.wanted.kernel_view())
        if len(self.wanted) > MANY:
            gc.freeze()  # they live as long as we do: nobody need look at each of them again and again
        self._tables.bump_generation()

    def reload(self) -> None:
        """Have the kernel hold exactly what is wanted, whatever it holds."""
        self._kernel.load(self.wanted.kernel_view())
        self._tables.bump_generation()

    def differences(self) -> Differences:
        """How the kernel's tables differ from what is wanted."""
        return self._kernel.differences(self.wanted.kernel_view())

    def block(self, block: Block) -> None:
        """Want `block`, and enforce it. Raises OSError or ValueError; then all is as it was."""
        before = self._of(block.prefix, block.source)
        delta = self.wanted.add(block)
        try:
            self._write(delta)
        except OSError:
            self._put_back(block.prefix, block.source, before)
            raise

    def unblock(self, prefix: str, source: str) -> None:
        """Want it no longer. Raises OSError or ValueError; then all is as it was."""
        before = self._of(prefix, source)
        delta = self.wanted.remove(prefix, source)
        try:
            self._write(delta)
        except OSError:
            self._put_back(prefix, source, before)
            raise

    def expire(self) -> tuple[list[Block], OSError | None]:
        """Those that have ended are wanted no more; and what kept the kernel from letting them go."""
        expired, delta = self.wanted.expire(time.time_ns())
        try:
            if expired:
                self._write(delta)
        except OSError as error:
            return expired, error
        return expired, None

    def newest(self, count: int) -> list[Block]:
        """So many of the wanted ones, the newest first, with their hits."""
        return self.shown(self.wanted.newest(count))

    def shown(self, blocks: Iterable[Block]) -> list[Block]:
        """These, with their hits."""
        return [replace(block, hits=self._kernel.hits(parse_prefix(block.prefix))) for block in blocks]

    def hits(self, network: Network) -> int:
        """Packets that a prefix in the kernel dropped, estimated."""
        return self._kernel.hits(network)

    @property
    def enforced(self) -> int:
        """How many prefixes the kernel has."""
        return self._kernel.count()

    def _write(self, delta: Delta) -> None:
        """What is new cuts live flows at once."""
        for prefix in delta.removed:
            self._kernel.remove(prefix)
        written = {**delta.changed, **delta.added}
        freed = [self._kernel.put(prefix, expires_ns) for prefix, expires_ns in written.items()]
        if delta.added or any(freed):
            self._tables.bump_generation()

    def _of(self, prefix: str, source: str) -> list[Block]:
        return [block for block in self.wanted.find(prefix) if block.source == source]

    def _put_back(self, prefix: str, source: str, before: list[Block]) -> None:
        """The wanted list as it was, and the kernel after it, as far as the kernel lets us."""
        with contextlib.suppress(ValueError):
            self.wanted.remove(prefix, source)
        for block in before:
            self.wanted.add(block)
        network, end_ns = parse_prefix(prefix), self.wanted.end(prefix)
        with contextlib.suppress(OSError):
            if end_ns is None:
                self._kernel.remove(network)
            else:
                self._kernel.put(network, end_ns)
