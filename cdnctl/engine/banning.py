"""Blocks that set themselves: from samples to bans in the kernel, in the blocks' file and in the journal."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cdnctl.datapath.perf import Sample
from cdnctl.defence import blocklist, protected
from cdnctl.defence.autoban import Act, Autoban, Spared
from cdnctl.defence.blocklist import Network, show_prefix
from cdnctl.defence.offences import Offences
from cdnctl.engine.objects import AUTO
from cdnctl.engine.seen import Answers
from cdnctl.model import (
    FRAME_BANS,
    FRAME_INTERVAL_S,
    Actor,
    Ban,
    BanMode,
    BanWish,
    Block,
    BlockPrefix,
    Offender,
    Outcome,
    Unblock,
)
from cdnctl.model import Autoban as Picture
from cdnctl.model.lines import command_line, duration, nth

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

RECHECK_S = 5.0
"""So often it is looked whether a ban covers what is protected by now."""
_TOLD = 5
"""Of those that are spared, one by one, in a frame."""


class Banning:
    """Of one engine; `tick` with every frame."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.policy = Autoban(engine.config.autoban)
        self._offences = Offences()
        self._wish: BanWish = "config"
        self._answers = Answers()
        self._guard = Guard(engine)
        self._at_s: float | None = None
        self._rechecked_s = 0.0
        self._told: set[Network] = set()

    def use(self) -> None:
        """Follow configuration and state as they are now; take over the bans that are there."""
        engine = self._engine
        self._wish, self.policy.config = engine.state.autoban, engine.config.autoban
        self._guard.forget()
        self._adopt()

    def _adopt(self) -> None:
        """Take over the bans that are wanted and not known: found by a start, or put back by an undo."""
        wanted, now_s, now_ns = self._engine.blocks.wanted, time.monotonic(), time.time_ns()
        if wanted.by_source.get(AUTO, 0) <= sum(map(self._is_wanted, self.policy.held)):
            return  # not a look at each of a million blocks in each frame
        for block in wanted:
            network = blocklist.parse_prefix(block.prefix) if block.source == AUTO else None
            left_s = (block.expires_ns - now_ns) / 1e9
            if network is not None and network not in self.policy.held and left_s > 0:
                self.policy.adopt(network, block.reason, left_s, now_s)

    @property
    def mode(self) -> BanMode:
        """In force."""
        return self._engine.config.autoban.mode if self._wish == "config" else self._wish

    def put(self, wish: BanWish) -> None:
        """An operator's word. Off lifts the bans there are."""
        self._wish = wish
        self._guard.forget()  # what a dry run read is old

    # -- with every frame ---------------------------------------------------------------------------

    def tick(self, samples: Sequence[Sample], *, armed: bool) -> None:
        """Look at what was sampled since the last call, and act on it when the edge does."""
        now_s = time.monotonic()
        seconds = FRAME_INTERVAL_S if self._at_s is None else now_s - self._at_s
        self._at_s = now_s
        config, refuse = self._engine.config.autoban, self._guard
        # off, it need not look: a flood of samples costs the agent enough
        seen = self._answers.seen(samples if self.mode != "off" else (), self._engine.observer.endpoints)
        offences = self._offences.read(seen, seconds, config.source, config.network)
        if not {each.network for each in offences} <= self._told:
            refuse.forget()  # for somebody new it is read anew
        self._adopt()
        acting = armed and self.mode == "on"
        acts = self.policy.judge(now_s, offences, self._hits(), refuse, acting=acting)
        if self.mode != "on":
            acts += self.policy.clear(f"autoban is {'off' if self.mode == 'off' else 'a dry run'} now", now_s)
        elif self.policy.held and now_s - self._rechecked_s >= RECHECK_S:
            self._rechecked_s = now_s
            refuse.forget()
            acts += self.policy.recheck(refuse.known)
        for act in acts:
            self._do(act)
        self._tell_spared(acting=acting)

    def _hits(self) -> dict[Network, int]:
        """Of the bans that are still wanted."""
        hits = self._engine.blocks.hits
        return {network: hits(network) for network in self.policy.held if self._is_wanted(network)}

    def _is_wanted(self, network: Network) -> bool:
        """Whether it is banned, not only by this one's book."""
        return any(block.source == AUTO for block in self._engine.blocks.wanted.find(network))

    def _do(self, act: Act) -> None:
        engine, shown, now_ns = self._engine, show_prefix(act.network), time.time_ns()
        try:
            if act.kind == "lift":
                if self._is_wanted(act.network):
                    engine.blocks.unblock(shown, AUTO)
                    self._keep(shown, None)
                command = Unblock(prefix=shown, source=AUTO, reason=act.why)
                self._say(command, f"lifted the ban of {shown}: {act.why}")
                return
            block = Block(
                prefix=shown,
                reason=act.why,
                source=AUTO,
                created_ns=now_ns,
                expires_ns=now_ns + int(act.lifetime_s * 1e9),
            )
            engine.blocks.block(block)
        except (OSError, ValueError) as error:
            self.policy.failed(act, time.monotonic())
            said = {
                "ban": f"{shown} is not banned",
                "renew": f"the ban of {shown} cannot be renewed",
                "lift": f"the ban of {shown} cannot be lifted",
            }
            engine.tell("warning", f"{said[act.kind]}: {error}", "warning")
            return
        self._keep(shown, block)
        long, again = duration(act.lifetime_s), f", for the {nth(act.times)} time" if act.times > 1 else ""
        if act.kind == "renew":
            engine.tell("ban", f"the ban of {shown} goes on for {long}: {act.why}", "info")
        else:
            banned = BlockPrefix(prefix=shown, lifetime_s=act.lifetime_s, reason=act.why)
            self._say(banned, f"banned {shown} for {long}{again}: {act.why}")

    def _keep(self, shown: str, block: Block | None) -> None:
        """In the file, so that a restart goes on with it."""
        engine = self._engine
        lost = "would not survive a restart" if block else "is lifted, and would be back after a restart"
        try:
            if block is None:
                engine.store.blocks.remove(shown, AUTO, engine.state.revision)
            else:
                engine.store.blocks.add(block, engine.state.revision)
        except OSError as error:
            engine.tell("warning", f"the ban of {shown} {lost}: {error}", "warning")

    def _say(self, command: BlockPrefix | Unblock, text: str) -> None:
        engine = self._engine
        engine.tell("ban", text, "warning" if isinstance(command, BlockPrefix) else "notice")
        actor = Actor(user="autoban", uid=os.geteuid(), pid=os.getpid(), client="agent")
        try:
            engine.journal.append(actor, command, Outcome(ok=True, text=text), cli=command_line(command))
        except OSError as error:
            engine.tell("warning", f"not in the journal: {text}: {error}", "warning")

    def _tell_spared(self, *, acting: bool) -> None:
        """Once for each, while its offence lasts."""
        new = [each for each in self.policy.spared if each.offence.network not in self._told]
        self._told = {each.offence.network for each in self.policy.spared}
        if self.mode == "off":
            return
        new = [each for each in new if each.why or not acting]
        for spared in new[:_TOLD]:
            self._engine.tell("ban", _spared_words(spared, self.mode), "notice")
        if len(new) > _TOLD:
            more = f"{len(new) - _TOLD} more are over a threshold, and not banned"
            self._engine.tell("ban", f"{more}: `cdnctl autoban` says why", "notice")

    # -- for a frame --------------------------------------------------------------------------------

    def picture(self) -> Picture:
        """The newest bans, and whom they are not for."""
        now_s, now_ns = time.monotonic(), time.time_ns()
        newest = sorted(self.policy.held.values(), key=lambda held: -held.since_s)
        return Picture(
            mode=self.mode,
            wish=self._wish,
            bans=[
                Ban(
                    prefix=show_prefix(held.network),
                    why=held.why,
                    since_ns=now_ns - int((now_s - held.since_s) * 1e9),
                    ends_ns=now_ns + int((held.until_s - now_s) * 1e9),
                    times=held.times,
                    dropped_pps=held.pps,
                )
                for held in newest[:FRAME_BANS]
            ],
            bans_total=len(newest),
            most=self.policy.config.most,
            offenders=[
                Offender(prefix=show_prefix(each.offence.network), why=each.offence.why, spared=each.why)
                for each in self.policy.spared[:FRAME_BANS]
            ],
        )


class Guard:
    """Why a prefix must not be banned. What is protected is read when somebody asks who has forgotten."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guarded: list[protected.Protected] | None = None
        self._unread: tuple[str, ...] = ()

    def forget(self) -> None:
        """What was read is old."""
        self._guarded = None

    def __call__(self, network: Network) -> str | None:
        """While not all is known that is protected, anybody may be: nobody looks who could know better."""
        if (refusal := self.known(network)) or not self._unread:
            return refusal
        return f"may be protected, which nobody can tell now: {self._unread[0]}"

    def known(self, network: Network) -> str | None:
        """Of what could be read alone: for bans that there are."""
        if self._guarded is None:
            around = protected.surroundings()
            self._unread = around.unread
            allowed = (blocklist.parse_prefix(each.prefix) for each in self._engine.state.allowed)
            self._guarded = [
                *protected.protected(self._engine.config, around),
                *(protected.Protected(each, "which an operator allowed") for each in allowed),
            ]
        return protected.refusal(network, self._guarded)


def _spared_words(spared: Spared, mode: BanMode) -> str:
    shown, why = show_prefix(spared.offence.network), spared.offence.why
    if spared.why:
        return f"{shown} is not banned, for {spared.why}: {why}"
    return f"would ban {shown}: {why}; autoban is {'a dry run' if mode == 'dry-run' else 'not acting now'}"
