"""What a new answer of DNS means for the endpoints of a name: pure, for one name and family.

Answers change for good reasons and for bad ones. New addresses are added before old ones are removed; an
address has to be missing from some answers in a row, for many names give another choice each time; no
refresh changes more than a part; and no answer, an empty one, or a name that is suddenly unknown changes
nothing: the last good addresses stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from cdnctl.config.values import host_address


class Settings(NamedTuple):
    """How far answers are followed."""

    most: int = 8
    """Addresses of a name that are used."""
    absences: int = 2
    """Answers in a row that an address is missing from before it is removed."""
    change: float = 0.5
    """Of the addresses there are, no more are added, nor removed, in a refresh; one at least."""
    settle_s: float = 2.0
    """What was added has been in force for so long before anything is removed."""
    least_ttl_s: float = 5.0
    most_ttl_s: float = 3600.0
    retry_s: float = 10.0
    """After the first failure; twice as long after each more, up to the last TTL, `most_retry_s` at most."""
    most_retry_s: float = 300.0


USUAL = Settings()


class Answer(NamedTuple):
    """What DNS said."""

    addresses: tuple[str, ...] = ()
    ttl_s: float = 60.0
    failure: str = ""
    """Why there is no answer; empty: there is one."""


class Name(Struct, frozen=True, kw_only=True):
    """What is known of a name; kept over restarts. Seconds are of the caller's steady clock."""

    missing: dict[str, int] = field(default_factory=dict)
    """The addresses in force, and how many answers in a row have not had them."""
    added_at_s: float = 0.0
    failures: int = 0
    """In a row."""
    ttl_s: float = 60.0
    """Of the last answer."""

    @property
    def addresses(self) -> list[str]:
        """Those in force."""
        return list(self.missing)


class Refresh(NamedTuple):
    """What an answer leads to."""

    name: Name
    added: list[str]
    removed: list[str]
    """To be removed after what was added is in force."""
    next_in_s: float
    notes: list[str]
    """What an operator may want to know, as sentences."""


def refresh(
    known: Name,
    answer: Answer,
    now_s: float,
    settings: Settings = USUAL,
    measured: Mapping[str, float] | None = None,
) -> Refresh:
    """After an answer. `measured`: milliseconds by address; of more than are used, the quickest are."""
    good, notes = _good(answer.addresses)
    if answer.failure or not good:
        failures = known.failures + 1
        wait_s = min(settings.retry_s * 2.0 ** min(failures - 1, 20), max(known.ttl_s, settings.retry_s))
        why = answer.failure or "an answer without an address that can be used"
        kept = f"; its {len(known.missing)} last good addresses stay" if known.missing else ""
        return Refresh(
            replace(known, failures=failures),
            [],
            [],
            min(wait_s, settings.most_retry_s),
            [*notes, f"{why}{kept}"],
        )
    ttl_s = min(settings.most_ttl_s, max(settings.least_ttl_s, answer.ttl_s))
    missing = {each: 0 if each in good else count + 1 for each, count in known.missing.items()}
    part = max(1, int(settings.change * len(missing)))
    new = ranked([each for each in good if each not in missing], measured or {})
    # The old ones stay until the new are in force, but not without end: some names always answer otherwise.
    fresh = sum(1 for count in missing.values() if not count)
    room = max(0, min(settings.most - fresh, int(settings.most * (1 + settings.change)) - len(missing)))
    # At the very first there is nothing that a change could upset.
    added = new[: room if not missing else min(room, part)]
    gone = [each for each, count in missing.items() if count >= settings.absences]
    is_settled = not added and now_s - known.added_at_s >= settings.settle_s
    staying = len(missing) + len(added) - len(gone)
    removed = gone[: part if staying else max(0, len(gone) - 1)] if is_settled else []
    after = {each: count for each, count in missing.items() if each not in removed}
    after |= dict.fromkeys(added, 0)
    name = Name(
        missing=after,
        added_at_s=now_s if added else known.added_at_s,
        ttl_s=ttl_s,
    )
    is_behind = (len(new) > len(added) and len(added) < room) or len(gone) > len(removed)
    if known.failures:
        notes.append(f"answers again, after {known.failures} failures")
    return Refresh(name, added, removed, min(ttl_s, settings.least_ttl_s) if is_behind else ttl_s, notes)


def ranked(addresses: Iterable[str], measured: Mapping[str, float]) -> list[str]:
    """The quickest first; those that were never measured after them, in the order of their numbers."""
    from ipaddress import ip_address

    def key(address: str) -> tuple[bool, float, int]:
        return address not in measured, measured.get(address, 0.0), int(ip_address(address))

    return sorted(addresses, key=key)


def _good(addresses: Iterable[str]) -> tuple[dict[str, None], list[str]]:
    """The addresses that a host may have, and sentences about the others."""
    good: dict[str, None] = {}
    notes = []
    for each in addresses:
        try:
            good[host_address(each)] = None
        except ValueError as error:
            notes.append(f"{error}; it is left out")
    return good, notes
