"""The shield: keeps the level that the load or an operator asks for in the kernel, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from cdnctl.config import Config, ShieldConfig
from cdnctl.datapath.abi import Budget, Level, Verdict
from cdnctl.datapath.abi import Shield as KernelShield
from cdnctl.datapath.counters import CdnTotals
from cdnctl.datapath.shield import set_allowance, set_budgets, set_pending
from cdnctl.datapath.tables import Tables
from cdnctl.defence.shed import DWELL_S, Load, Policy, Turn, sudden_flows_per_s
from cdnctl.engine.window import Window
from cdnctl.model import LEVELS, Severity, Shield, ShieldLevel, ShieldWish

KEY_S = 60.0
"""Cookies get another key so often; a cookie is good for as long at least, and twice that at most."""
PENDING_AT_ONCE = 100
"""Connections of a verified source that have not come about yet: a thousand a second, a tenth of one away."""
PATIENCE_S = 0.9
"""Stacks send a SYN again after a second (RFC 6298, 2.1), and clocks are coarse."""
_TIMES: dict[ShieldLevel, float] = {"calm": 0.0, "busy": 5.0, "shedding": 1.0, "siege": 0.25}
"""The budgets of the unverified by level, over those of the configuration; 0: none is asked for."""
_SHED = tuple(verdict for verdict in Verdict if verdict.name.startswith("SHED_"))

Tell = Callable[[str, str, Severity], None]


class Offered(NamedTuple):
    """What came between two snapshots, and what became of it."""

    flows: int
    """New flows that clients wanted, let in or not."""
    by_tcp: int
    proven: int
    """Clients that answered as only one can who is where it says."""
    shed: int
    challenged: int
    proved: int
    seconds: float

    @property
    def unverified_share(self) -> float:
        """Of flows by TCP, as most UDP never proves anything."""
        return max(0.0, 1 - self.proven / self.by_tcp) if self.by_tcp > 0 else 0.0


class Totals(Protocol):
    """Of the kernel's counters, at a moment: a snapshot has them, and so has a glance."""

    @property
    def at_ns(self) -> int: ...

    @property
    def verdicts(self) -> Mapping[Verdict, tuple[int, int]]: ...

    @property
    def services(self) -> Mapping[int, int]: ...

    @property
    def cdns(self) -> Mapping[str, CdnTotals]: ...


def offered(before: Totals, now: Totals, tcp: Mapping[int, bool]) -> Offered:
    """`tcp` says of services' numbers whether that is their protocol.

    A client that is challenged, proves itself and comes again is one, not two.
    """

    def grown(*verdicts: Verdict) -> int:
        return sum(now.verdicts[each][0] - before.verdicts[each][0] for each in verdicts)

    opened = {number: flows - before.services.get(number, flows) for number, flows in now.services.items()}
    shed, challenged, proved = grown(*_SHED), grown(Verdict.CHALLENGED), grown(Verdict.PROVED)
    refused = shed + grown(Verdict.UNVERIFIED) + max(0, challenged - proved)
    return Offered(
        flows=sum(opened.values()) + refused,
        by_tcp=sum(flows for number, flows in opened.items() if tcp.get(number)) + refused,
        proven=sum(
            totals.promoted - before.cdns[name].promoted
            for name, totals in now.cdns.items()
            if name in before.cdns
        ),
        shed=shed,
        challenged=challenged,
        proved=proved,
        seconds=max((now.at_ns - before.at_ns) / 1e9, 1e-9),
    )


class Shielding:
    """Of one edge. `use` before anything else, and again when tables or configuration are others.

    The load is followed also while an operator holds a level: `auto` is then, at once, what it would have
    been without him.
    """

    def __init__(self, tell: Tell, wish: Callable[[], ShieldWish]) -> None:
        self._tell = tell
        self._wished = wish
        self._wish: ShieldWish = "auto"
        self._held_ns = 0
        """Since when, by an operator's word."""
        self._turn = Turn("calm", "calm", "")
        self._turned_ns = 0
        self._before: Totals | None = None
        self._glanced: Totals | None = None
        self._key_s = float("-inf")
        self._policy: Policy | None = None

    def use(self, config: Config, tables: Tables, outside: int, tcp: Mapping[int, bool]) -> None:
        """Keep these; `outside` has a bit for each link that faces the internet. Raises OSError.

        The level in force goes on, also that of tables which are taken over.
        """
        self._config, self._tables, self._outside, self._tcp = config, tables, outside, dict(tcp)
        shield, wish = tables.shield, self._wished()
        if self._policy is None:  # of a level that an operator held nobody knows what the load asked for
            found = LEVELS[min(shield.now.level, len(LEVELS) - 1)]
            self._policy = Policy(config.shield.flows_per_s, found if wish == "auto" else "calm")
        self._policy.flows_per_s = config.shield.flows_per_s
        self._wish = wish
        shield.set_amplifiers(config.shield.amplifiers)
        if not shield.has_keys:  # both: a key of zeros is everybody's
            shield.change_key()
            shield.change_key()
        self._write()

    @property
    def level(self) -> ShieldLevel:
        """In force."""
        return self.asked if self._wish == "auto" else self._wish

    @property
    def asked(self) -> ShieldLevel:
        """What the load asks for."""
        return self._policy.level if self._policy else "calm"

    def _write(self) -> None:
        self._tables.shield.now = self._wanted()

    def _wanted(self) -> KernelShield:
        """What the kernel holds, with all as it should be but the keys, which are good as they are."""
        config = self._config.shield
        shield, times = self._tables.shield.now, _TIMES[self.level]
        shield.level = Level[self.level.upper()]
        shield.syn_data = config.syn_data == "drop"
        shield.outside = self._outside
        shield.patience_ns = int(PATIENCE_S * 1e9)
        shield.trust_ns = int(config.trust_s * 1e9)
        set_budgets(shield, budgets(config, times), config.burst_ms)
        set_pending(shield, config.source_flows_per_s, PENDING_AT_ONCE)
        set_allowance(shield, sudden_flows_per_s(config.flows_per_s) if self._wish == "auto" else None)
        return shield

    def put(self, wish: ShieldWish) -> ShieldLevel:
        """An operator's word: the level from now on. Raises OSError; then the level is as it was."""
        before, self._wish = self._wish, wish
        try:
            self._write()
        except OSError:
            self._wish = before
            raise
        self._held_ns = time.time_ns()
        return self.level

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """Where the kernel has it otherwise: what, as it is wanted, as it is found. Raises OSError."""
        found, wanted = self._tables.shield.now, self._wanted()
        if found.level != wanted.level:
            yield "level", Level(wanted.level).name.lower(), _name(found.level)
        if bytes(found) != bytes(wanted) and found.level == wanted.level:
            yield "settings", "those of `[shield]`", "others"

    def tick(self, window: Window, half_open_share: float, *, armed: bool) -> None:
        """Follow the load since the last call. Raises OSError."""
        now, before = window.newest, self._before
        self._before = now
        now_s = now.at_ns / 1e9
        if now_s - self._key_s >= KEY_S:
            if self._key_s > float("-inf"):
                self._tables.shield.change_key()
            self._key_s = now_s
        if before is None or before is now or not armed or self._policy is None:
            return
        came = offered(before, now, self._tcp)
        load = Load(came.flows / came.seconds, came.unverified_share, half_open_share)
        self._take(self._policy.read(load, now_s))

    def glance(self, now: Totals, *, armed: bool) -> None:
        """Between two ticks: has something begun that cannot wait? Raises OSError."""
        before, self._glanced = self._glanced, now
        if before is None or not armed or self._policy is None:
            return
        came = offered(before, now, self._tcp)
        load = Load(came.flows / came.seconds, came.unverified_share, 0.0)
        self._take(self._policy.glance(load, now.at_ns / 1e9))

    def _take(self, turn: Turn | None) -> None:
        if turn is None:
            return
        self._turn, self._turned_ns = turn, time.time_ns()
        if self._wish != "auto":
            return
        self._write()
        harder = LEVELS.index(turn.level) > LEVELS.index(turn.before)
        severity: Severity = "notice" if not harder else "alarm" if turn.level == "siege" else "warning"
        self._tell("shield", f"shield: {turn.level}, was {turn.before}: {turn.why}", severity)

    def picture(self, window: Window, half_open_share: float) -> Shield:
        """For a frame."""
        came = offered(window.oldest, window.newest, self._tcp)
        held = self._wish != "auto"
        return Shield(
            level=self.level,
            wish=self._wish,
            why="set by an operator" if held else self._turn.why,
            since_ns=self._held_ns if held else self._turned_ns,
            cost=cost(self._config, self.level),
            offered_flows_per_s=came.flows / came.seconds,
            unverified_share=came.unverified_share,
            half_open_share=half_open_share,
            opened_per_s=came.proven / came.seconds,
            shed_per_s=came.shed / came.seconds,
            challenged_per_s=came.challenged / came.seconds,
            proved_per_s=came.proved / came.seconds,
        )


def budgets(config: ShieldConfig, times: float) -> dict[Budget, float]:
    """New flows a second at a level that gives the unverified so many times what the configuration says."""
    if not times:
        return {}
    return {
        Budget.VERIFIED: config.verified_flows_per_s * max(1.0, times),
        Budget.SOURCE: config.source_flows_per_s * times,
        Budget.NETWORK: config.network_flows_per_s * times,
        Budget.REGION: config.region_flows_per_s * times,
        Budget.SERVICE: config.flows_per_s * times,
    }


def cost(config: Config, level: ShieldLevel) -> str:
    """What a level asks of honest clients, in words."""
    if level == "calm":
        return "nothing"
    shares = budgets(config.shield, _TIMES[level])
    said = (
        f"who has not proved where he is opens at most {shares[Budget.SOURCE]:,.0f} flows/s,"
        f" a /24 (/48) {shares[Budget.NETWORK]:,.0f}, a /16 (/32) {shares[Budget.REGION]:,.0f},"
        f" and a service takes {shares[Budget.SERVICE]:,.0f} of them"
    )
    if level != "siege":
        return said
    return (
        "a client's first TCP connection takes a round trip more, or a second behind some firewalls;"
        f" of UDP, and of those, {said}"
    )


def words(wish: ShieldWish, level: ShieldLevel) -> str:
    """What was done."""
    if wish == "auto":
        return f"the shield follows the load: {level} now, and milder after {DWELL_S:.0f} s of less"
    return f"the shield is at {wish} until `cdnctl shield auto`"


def _name(level: int) -> str:
    """Of a number that anybody may have written."""
    return LEVELS[level] if level < len(LEVELS) else f"number {level}"


def outside_bits(names: tuple[str, ...], ids: Mapping[str, int]) -> int:
    """A bit for each of these links that is known."""
    return sum(1 << ids[name] for name in set(names) if name in ids)
