"""Lists that are blocked as one change: sent in parts, looked at as a whole, lifted as a whole.

A list's blocks have a source of their own, so that what an operator or another list blocks stays blocked when
it is lifted, and nothing of what was before need be kept to take it back.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from cdnctl.datapath import abi
from cdnctl.defence import blocklist, codes, protected
from cdnctl.engine import consequences, objects
from cdnctl.engine.planned import Planned
from cdnctl.errors import CdnctlError
from cdnctl.model import Block, BlockList, ListPart, Outcome, Talker
from cdnctl.model.lines import duration
from cdnctl.state.blocks import list_source

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

MOST = 250_000
"""Prefixes of one list."""
_KEPT, _KEPT_S = 4, 300.0
"""Lists whose parts have come and which are not blocked yet; the oldest goes first."""
_LONGEST_LIFETIME_S = 366 * 86400.0
_NAMED = 3
_TALKERS = 100


class _Parts:
    """What has come of a list."""

    def __init__(self) -> None:
        self.codes: dict[int, None] = {}
        self.at_s = time.monotonic()


class Lists:
    """Of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parts: dict[str, _Parts] = {}
        self._made: tuple[str, list[Block]] = "", []
        """The list that is being blocked: its source, and its blocks."""

    def take(self, part: ListPart) -> Outcome:
        """Another part."""
        if part.dry_run or part.confirm_s:
            raise CdnctlError("a part of a list changes nothing", "say so of the list itself")
        now_s = time.monotonic()
        self._parts = {name: each for name, each in self._parts.items() if now_s - each.at_s < _KEPT_S}
        staged = self._parts.setdefault(part.list, _Parts())
        staged.at_s = now_s
        staged.codes.update(dict.fromkeys(codes.unpack(part.four, part.six)))
        if len(staged.codes) > MOST:
            del self._parts[part.list]
            raise CdnctlError(f"a list of more than {MOST:,} prefixes", "cut it into several")
        while len(self._parts) > _KEPT:
            del self._parts[min(self._parts, key=lambda name: self._parts[name].at_s)]
        return Outcome(ok=True, text=f"took {len(staged.codes):,} prefixes so far")

    def plan(self, command: BlockList) -> Planned:
        """Block all of it. Raises CdnctlError or ValueError."""
        engine, lifetime = self._engine, command.lifetime_s
        if lifetime is not None and not 0 < lifetime <= _LONGEST_LIFETIME_S:
            raise ValueError(f"a lifetime of {lifetime} s; say 1 s to 366 days, or forever")
        found = self._whole(command)
        around = protected.surroundings()
        self._check_protected(found, protected.protected(engine.config, around))
        now_ns, source = time.time_ns(), list_source(engine.state.revision + 1)
        if not command.dry_run:
            self._made = (
                source,
                [
                    Block(
                        prefix=codes.show(code),
                        reason=command.reason or f"from {command.name}",
                        source=source,
                        created_ns=now_ns,
                        expires_ns=0 if lifetime is None else now_ns + int(lifetime * 1e9),
                    )
                    for code in found
                ],
            )
        how_long = "until undone" if lifetime is None else f"for {duration(lifetime)}"
        what = f"{len(found):,} prefixes of {command.name} {how_long}"
        matched = self._matched(found)
        warnings = list(around.unread)
        if not command.dry_run and not engine.state.armed:
            warnings.append("the edge is disarmed: the blocks take effect when it is armed again")
        return Planned(
            after={source: {"count": len(found)}},
            would=f"would block {what}; {consequences.block_words(matched)}",
            done=lambda: self._done(command, f"blocked {what}, as {source}"),
            warnings=warnings,
            risk=consequences.block_risk(matched),
        )

    def blocks_of(self, source: str) -> list[Block]:
        """The blocks of the list that is being blocked. Raises CdnctlError for another."""
        if self._made[0] != source:
            raise CdnctlError(
                f"the prefixes of {objects.words(source)} are not kept", "block it from its file"
            )
        return self._made[1]

    def _done(self, command: BlockList, text: str) -> str:
        self._parts.pop(command.list, None)
        self._made = "", []
        return text

    def _whole(self, command: BlockList) -> list[int]:
        staged = self._parts.get(command.list)
        count = len(staged.codes) if staged else 0
        if staged is None or count != command.count or not count:
            raise CdnctlError(
                f"of {command.count:,} prefixes of {command.name} {count:,} have come", "send the list again"
            )
        found = sorted(staged.codes)
        for code in found:
            if why := blocklist.why_no_block(code):
                raise CdnctlError(f"{command.name}: {why}", "mend that line; nothing was blocked")
        engine = self._engine
        room = engine.config.limits.block_entries - len(engine.blocks.wanted)
        if count > room:
            raise CdnctlError(
                f"the block list has room for {max(0, room):,} more, and {command.name} has {count:,}",
                "unblock something, or raise [limits] block_entries",
            )
        return found

    def _matched(self, found: list[int]) -> consequences.Matched:
        engine, talkers, open_flows = self._engine, list[Talker](), 0
        if hasattr(engine, "observer"):
            talkers = engine.observer.talkers.top(_TALKERS)
            open_flows = sum(row[abi.SlotState.ESTABLISHED] for row in engine.sweep.open.values())
        return consequences.matched_list(engine.tables, talkers, found, open_flows)

    def _check_protected(self, found: list[int], guarded: list[protected.Protected]) -> None:
        """By what is protected, which is little, and not by each of the list's."""
        within, bad = set(found), dict[int, None]()
        for network in {each.network for each in guarded}:
            code = codes.of_network(network)
            bad |= dict.fromkeys(wider for wider in (*codes.around(code), code) if wider in within)
            first, last = codes.span(code)
            at = bisect_left(found, first)
            bad |= dict.fromkeys(found[at : min(bisect_left(found, last, at), at + _NAMED)])
        if not bad:
            return
        said = [
            f"{codes.show(code)} {protected.refusal(codes.network(code), guarded)}"
            for code in sorted(bad)[:_NAMED]
        ]
        more = " and others" if len(bad) > _NAMED else ""
        raise CdnctlError(f"refused: {'; '.join(said)}{more}", "leave them out of the list")
