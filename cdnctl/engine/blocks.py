"""The wanted block list, what feeds want blocked, and the kernel's after both."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from cdnctl.datapath.blocks import Differences, KernelBlocks
from cdnctl.datapath.packing import later
from cdnctl.datapath.tables import Tables
from cdnctl.defence.blocklist import Blocklist, Delta, Network, parse_prefix
from cdnctl.defence.feeds.prefixes import LENGTH_BITS, network_of
from cdnctl.defence.listed import Edit, Groups, Listed
from cdnctl.model import Block
from cdnctl.state.blocks import undisturbed

MANY = 10_000
AT_ONCE = 20_000
"""A list that changes in more prefixes is quicker written as a whole."""


class Blocks:
    """What is wanted is in force, or nothing was changed."""

    def __init__(self, kernel: KernelBlocks, tables: Tables) -> None:
        self.wanted = Blocklist()
        self.listed = Listed()
        """By feeds."""
        self._kernel = kernel
        self._tables = tables
        self._edits = 0
        self._counted: tuple[int, int, int] | None = None
        self._count = 0

    def load(self, blocks: Iterable[Block], *, keep: bool = False) -> None:
        """Have exactly these, but for those that have ended. With `keep` what the kernel has besides stays,
        until feeds have said whether it is theirs."""
        with undisturbed():
            self.wanted.fill(blocks)
            self.wanted.expire(time.time_ns())
            self._kernel.load(self.wanted.kernel_view(), self._listed(), keep=keep)
        if len(self.wanted) > MANY:
            gc.freeze()  # they live as long as we do: nobody need look at each of them again and again
        self._tables.bump_generation()

    def reload(self) -> None:
        """Have the kernel hold exactly what is wanted, whatever it holds."""
        self._kernel.load(self.wanted.kernel_view(), self._listed())
        self._tables.bump_generation()

    def differences(self) -> Differences:
        """How the kernel's tables differ from what is wanted."""
        return self._kernel.differences(self.wanted.kernel_view(), self._listed())

    def enlist(self, feed: str, groups: Groups) -> Edit:
        """Have a feed want exactly these. Raises OSError; then it wants what it wanted, as far as the kernel
        lets us."""
        before = self.listed.of(feed)
        with undisturbed():
            edit = self.listed.replace(feed, groups)
            try:
                self._enforce(edit)
            except OSError:
                self.listed.replace(feed, before)
                with contextlib.suppress(OSError):
                    self.reload()
                raise
        return edit

    def _enforce(self, edit: Edit) -> None:
        if len(edit) > AT_ONCE:
            self.reload()
            gc.freeze()
            return
        delta = Delta(
            changed={network: end for end, each in edit.put.items() for network in each.networks()},
            removed=tuple(edit.gone.networks()),
        )
        self._write(delta)

    def _listed(self) -> Iterator[tuple[int, int, Iterable[int], Iterable[Network]]]:
        """What feeds want, as the kernel's tables take a great many."""
        for end, prefixes in self.listed.view():
            yield end, LENGTH_BITS[4], prefixes.v4, (network_of(6, code) for code in prefixes.v6)

    def prefix_count(self) -> int:
        """Prefixes that anybody wants: what should be enforced."""
        if not len(self.listed):
            return self.wanted.prefix_count
        if self._counted != (key := (self.wanted.prefix_count, len(self.listed), self._edits)):
            both = sum(self.listed.end(network) is not None for network in self.wanted.prefixes())
            self._counted, self._count = key, self.wanted.prefix_count + len(self.listed) - both
        return self._count

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
        now_ns = time.time_ns()
        expired, delta = self.wanted.expire(now_ns)
        unlisted = self.listed.ended(now_ns)
        try:
            if expired:
                self._write(delta)
            if unlisted:
                self._enforce(unlisted)
        except OSError as error:
            return expired, error
        return expired, None

    def newest(self, count: int) -> list[Block]:
        """So many of the wanted ones, the newest first, with their hits."""
        return self.shown(self.wanted.newest(count))

    def shown(self, blocks: Iterable[Block]) -> list[Block]:
        """These, with their hits."""
        return [replace(block, hits=self._kernel.hits(parse_prefix(block.prefix))) for block in blocks]

    @property
    def enforced(self) -> int:
        """How many prefixes the kernel has."""
        return self._kernel.count()

    def _write(self, delta: Delta) -> None:
        """What is new cuts live flows at once. Of what both operators and feeds want the later end holds."""
        self._edits += 1
        written = {**delta.changed, **delta.added}
        if len(self.listed):
            for prefix in {**written, **dict.fromkeys(delta.removed)}:
                if (end := self.listed.end(prefix)) is not None:
                    written[prefix] = later(written[prefix], end) if prefix in written else end
        for prefix in list(written):
            if (own := self.wanted.end_of(prefix)) is not None:
                written[prefix] = later(written[prefix], own)
        for prefix in delta.removed:
            if (own := self.wanted.end_of(prefix)) is not None:
                written[prefix] = own
            elif prefix not in written:
                self._kernel.remove(prefix)
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
            listed_ns = self.listed.end(network)
            ends = [end for end in (end_ns, listed_ns) if end is not None]
            if not ends:
                self._kernel.remove(network)
            else:
                self._kernel.put(network, later(ends[0], ends[-1]))
