"""The wanted block list, and the kernel's after it."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from cdnctl.datapath.blocks import Differences, KernelBlocks
from cdnctl.datapath.packing import Wanted
from cdnctl.datapath.tables import Tables
from cdnctl.defence.blocklist import Blocklist, Delta, Network, parse_prefix, view_of
from cdnctl.model import Block
from cdnctl.state.blocks import undisturbed

MANY = 10_000
SLICE_S = 0.02
"""So long a step of something long may take, while frames wait."""

Held = Mapping[int, tuple[Block, ...]]
"""The wanted list by codes, copied."""


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
            self._kernel.load(Wanted(*self.wanted.view()))
        if len(self.wanted) > MANY:
            gc.freeze()  # they live as long as we do: nobody need look at each of them again and again
        self._tables.bump_generation()

    def differences(self, held: Held | None = None) -> Differences:
        """How the kernel's tables differ from what is wanted, or from what was when `held` was copied: that a
        thread may be asked, and `still` then."""
        return self._kernel.differences(Wanted(*view_of(self.wanted.held() if held is None else held)))

    def still(self, found: Differences) -> Differences:
        """What of it is so now, as far as a look can be had of each: of very many it is left as it is."""
        if sum(map(len, found)) > MANY:
            return found
        wanted, kernel = self.wanted, self._kernel
        return Differences(
            [each for each in found.missing if wanted.end(each) is not None and kernel.end_ns(each) is None],
            [each for each in found.excess if wanted.end(each) is None and kernel.end_ns(each) is not None],
            [each for each in found.otherwise if wanted.end(each) is not None],
        )

    def mend(self, found: Differences) -> Iterator[None]:
        """Have the kernel hold of these what is wanted by now; between two steps others may go on."""
        began_s, freed = time.monotonic(), False
        for network in (*found.missing, *found.otherwise, *found.excess):
            end_ns = self.wanted.end(network)
            if end_ns is None:
                self._kernel.remove(network)
            else:
                freed |= self._kernel.put(network, end_ns)
            if time.monotonic() - began_s > SLICE_S:
                self._bump(freed)
                yield
                began_s, freed = time.monotonic(), False
        self._bump(freed)

    def _bump(self, freed: bool) -> None:
        """What may have been let through is asked about again."""
        if freed:
            self._tables.bump_generation()

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

    def take(self, blocks: Sequence[Block]) -> None:
        """Want and enforce many of one source. Raises OSError or ValueError; then all is as it was."""
        source = blocks[0].source
        with undisturbed():
            try:
                self._kernel.put_all(Wanted(*self.wanted.take(blocks)))
            except BaseException:
                with contextlib.suppress(OSError):
                    self.let_go(source)
                raise
        self._tables.bump_generation()

    def let_go(self, source: str) -> list[Block]:
        """Want nothing of a source any more; what that was. Raises OSError; then part of it is in force."""
        with undisturbed():
            gone, others, free = self.wanted.let_go(source)
            if others.addresses or others.others:
                self._kernel.put_all(Wanted(*others))
            for network in free:
                self._kernel.remove(network)
        return gone

    def expire(self) -> tuple[list[Block], OSError | None]:
        """Those that have ended are wanted no more, but for what is too much at once: the kernel has let them
        go by itself. And what kept it from being tidied up."""
        expired, delta = self.wanted.expire(time.time_ns(), MANY)
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
