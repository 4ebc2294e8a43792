"""The wanted block list, what feeds want blocked, and the kernel's after both."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from cdnctl.datapath.blocks import Differences, KernelBlocks
from cdnctl.datapath.tables import Tables
from cdnctl.defence import codes
from cdnctl.defence.blocklist import Blocklist, Delta, Network, parse_prefix, view_of
from cdnctl.defence.listed import Edit, Groups, Listed
from cdnctl.engine.listing import combined, lasting, later, of_prefixes
from cdnctl.model import Block
from cdnctl.state.blocks import undisturbed

MANY = 10_000
AT_ONCE = 20_000
"""A longer list that is the first is quicker written as a whole."""
SLICE_S = 0.02
"""So long a step of something long may take, while frames wait."""

Held = Mapping[int, tuple[Block, ...]]
"""The wanted list by codes, copied."""


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
            self._kernel.load(combined(self.wanted.view(), self.listed), keep=keep)
        if len(self.wanted) > MANY:
            gc.freeze()  # they live as long as we do: nobody need look at each of them again and again
        self._tables.bump_generation()

    def differences(self, held: Held | None = None) -> Differences:
        """How the kernel's tables differ from what is wanted, or from what was when `held` was copied: that a
        thread may be asked, and `still` then."""
        view = view_of(self.wanted.held() if held is None else held)
        return self._kernel.differences(combined(view, self.listed))

    def settle(self) -> None:
        """Have the kernel hold exactly what is wanted. Raises OSError."""
        with undisturbed():
            self._kernel.load(combined(self.wanted.view(), self.listed))
        self._tables.bump_generation()

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
                    self.settle()
                raise
        if len(edit) > MANY:
            gc.freeze()
        return edit

    def _enforce(self, edit: Edit) -> None:
        self._edits += 1
        if len(edit) > AT_ONCE and not self._kernel.count():  # nothing is there: that is quicker
            self.settle()
            return
        if edit.put:
            self._kernel.put_all(of_prefixes(edit.put, self._own(edit) if len(self.wanted) else {}))
            self._tables.bump_generation()
        for network in edit.gone.networks():
            self._hold(network)

    def _own(self, edit: Edit) -> dict[int, int]:
        """The operators' ends, by code, of what they want as well."""
        found = (
            code if version == 4 else codes.SIX | code
            for prefixes in edit.put.values()
            for version in (4, 6)
            for code in prefixes.part(version)
        )
        return {code: end for code in found if (end := self.wanted.end_of(code)) is not None}

    def end(self, network: Network) -> int | None:
        """When nobody wants it any more, operator or feed (0: never); None if nobody does now."""
        own, listed = self.wanted.end(network), self.listed.end(network)
        if own is None or listed is None:
            return own if listed is None else listed
        return later(own, listed)

    def _hold(self, network: Network) -> bool:
        """Have the kernel hold a prefix as it is wanted now; whether it may have been free."""
        if (end_ns := self.end(network)) is None:
            self._kernel.remove(network)
            return False
        return self._kernel.put(network, end_ns)

    @property
    def prefix_count(self) -> int:
        """Prefixes that anybody wants: what should be enforced."""
        if not len(self.listed):
            return self.wanted.prefix_count
        if self._counted != (key := (self.wanted.prefix_count, len(self.listed), self._edits)):
            both = sum(self.listed.end(codes.network(code)) is not None for code in self.wanted.prefixes())
            self._counted, self._count = key, self.wanted.prefix_count + len(self.listed) - both
        return self._count

    def still(self, found: Differences) -> Differences:
        """What of it is so now, as far as a look can be had of each: of very many it is left as it is."""
        if sum(map(len, found)) > MANY:
            return found
        kernel = self._kernel
        return Differences(
            [each for each in found.missing if self.end(each) is not None and kernel.end_ns(each) is None],
            [each for each in found.excess if self.end(each) is None and kernel.end_ns(each) is not None],
            [each for each in found.otherwise if self.end(each) is not None],
        )

    def mend(self, found: Differences) -> Iterator[None]:
        """Have the kernel hold of these what is wanted by now; between two steps others may go on."""
        began_s, freed = time.monotonic(), False
        for network in (*found.missing, *found.otherwise, *found.excess):
            freed |= self._hold(network)
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
                self._kernel.put_all(lasting(self.wanted.take(blocks), self.listed))
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
                self._kernel.put_all(lasting(others, self.listed))
            for network in free:
                self._hold(network)
        self._edits += 1
        return gone

    def expire(self) -> tuple[list[Block], OSError | None]:
        """Those that have ended are wanted no more, but for what is too much at once: the kernel has let them
        go by itself. And what kept it from being tidied up."""
        now_ns = time.time_ns()
        expired, delta = self.wanted.expire(now_ns, MANY)
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

    def hits(self, network: Network) -> int:
        """Packets that a prefix in the kernel dropped, estimated."""
        return self._kernel.hits(network)

    @property
    def enforced(self) -> int:
        """How many prefixes the kernel has."""
        return self._kernel.count()

    def _write(self, delta: Delta) -> None:
        """What is new cuts live flows at once."""
        self._edits += 1
        freed = [self._hold(prefix) for prefix in (*delta.removed, *delta.changed, *delta.added)]
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
        with contextlib.suppress(OSError):
            self._hold(parse_prefix(prefix))
