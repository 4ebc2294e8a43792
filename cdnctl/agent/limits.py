"""How much a client, and all clients of one user together, may ask of the agent.

Each message up costs a token, a long one more. A client has a bucket of its own, and shares one with the
user's others, so that neither one program nor a hundred of them get more than their part of the agent's
time. One client alone cannot empty its user's bucket: whoever floods takes nothing from the colleague who
works as root, too.

Who is out of tokens gets an answer that says so, and is read on only when there would be one again: a flood
is so held back at its source, by a full socket.

Some looks cost the agent much more of its time than others. All clients of a user together owe it what theirs
took, several times over, and the next look of one of them waits until that is paid off; a change waits for
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from cdnctl.agent.protocol import Role

CLIENT_RATE, CLIENT_BURST = 50.0, 100.0
"""Tokens a second, and how many are saved up: an operator's script goes as fast as changes are made."""
USER_RATE, USER_BURST = 250.0, 500.0
TOKEN_BYTES = 4096
"""A message costs a token for each begun so many bytes."""
LOOKS_PART: dict[Role, float] = {"operate": 0.5, "view": 0.2}
"""How much of the agent's time the looks of one user may take."""
LOOKS_BURST_S = 0.25
"""Seconds of it at once."""
_USERS_KEPT = 256


class Bucket:
    """Fills by `rate` tokens a second up to `burst`."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at_s = burst, clock()

    def wait_s(self, tokens: float) -> float:
        """0 when there are so many, which are then taken; else in how many seconds there would be."""
        left = self.left - tokens
        if left < 0:
            return -left / self._rate
        self._tokens = left
        return 0.0

    def give_back(self, tokens: float) -> None:
        """They were not used after all."""
        self._tokens += tokens

    def owe(self, tokens: float) -> None:
        """They were used, whether there were so many or not."""
        self._tokens = self.left - tokens

    @property
    def left(self) -> float:
        """How many there are now."""
        now_s = self._clock()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return self._tokens


class User(NamedTuple):
    """What a user's clients share."""

    messages: Bucket
    looks: Bucket
    """Seconds of the agent's time."""


class Rates:
    """Everybody's buckets."""

    def __init__(self) -> None:
        self._users: dict[tuple[Role, int], User] = {}

    def client(self, role: Role, uid: int) -> ClientRate:
        """For a new client of this user."""
        return ClientRate(Bucket(CLIENT_RATE, CLIENT_BURST), self._user(role, uid))

    def connects(self, role: Role, uid: int) -> bool:
        """Whether this user may have another connection now: each costs a token."""
        return not self._user(role, uid).messages.wait_s(1.0)

    def _user(self, role: Role, uid: int) -> User:
        found = self._users.get((role, uid))
        if found is None:
            if len(self._users) >= _USERS_KEPT:  # one with all full says no more than none
                self._users = {user: each for user, each in self._users.items() if not _is_full(each)}
            looks = Bucket(LOOKS_PART[role], LOOKS_BURST_S)
            found = self._users[role, uid] = User(Bucket(USER_RATE, USER_BURST), looks)
        return found


def _is_full(user: User) -> bool:
    return user.messages.left >= USER_BURST and user.looks.left >= LOOKS_BURST_S


class ClientRate:
    """One client's bucket before its user's."""

    def __init__(self, own: Bucket, user: User) -> None:
        self._own, self._user = own, user

    def wait_s(self, length: int) -> float:
        """0 when a message of so many bytes may be taken now, else in how many seconds the next may."""
        tokens = 1.0 + length // TOKEN_BYTES
        if own_s := self._own.wait_s(tokens):
            return own_s
        if users_s := self._user.messages.wait_s(tokens):
            self._own.give_back(tokens)
            return users_s
        return 0.0

    def spent(self, seconds: float) -> None:
        """A look took so much of the agent's time."""
        self._user.looks.owe(seconds)

    def owes_s(self) -> float:
        """In how many seconds this client may have the next look; 0: now."""
        return self._user.looks.wait_s(0.0)
