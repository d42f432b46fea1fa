"""Limits as values: how many jobs of a queue, or of a key in it, may start in some time or run at once.

Also the arithmetic of the token bucket, which every store does in its own
language by these rules. Who holds which slot is kept by stores.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Literal

import msgspec

from muskox.core.errors import OptionError

__all__ = [
    "NO_LIMITS",
    "OPEN_PER_WEIGHT",
    "UNLIMITED",
    "KeyLimits",
    "Limits",
    "Rate",
    "WhenFull",
]

OPEN_PER_WEIGHT = 16
"""So many jobs of a key stand in line at once, per unit of its weight; the others are blocked until one is claimed."""

_MOST_COUNT = 10**9
# Shorter ones would be no limit, and in the end divide by zero.
_SHORTEST_PERIOD = 0.001
_LONGEST_PERIOD = 366 * 86_400.0
_SLICE = 0.05
_MOST_WEIGHT = 100
_FORGIVEN = 1e-6
"""Of a token, so that the rounding of moments never makes somebody come a moment early and in vain."""

UNLIMITED: Literal["unlimited"] = "unlimited"
"""Said of a key, in place of a rate or a concurrency, when the queue's default shall not hold for it."""


class Rate(msgspec.Struct, frozen=True):
    """At most `limit` starts per `per` seconds, evenly spread; `burst` of them may come at once after a quiet time.

    A token bucket that holds `burst` and is refilled by one each `per / limit` seconds: in any window of `per`
    seconds at most `limit + burst - 1` jobs start. Without `burst` it is 1, or what comes in a twentieth of a second
    at high rates, so that jobs can be claimed in batches.
    """

    limit: int
    per: float = 1.0
    burst: int | None = None

    def __post_init__(self) -> None:
        _check_count("rate limit", self.limit, "leave the rate out for no limit, pause the queue to stop it")
        if (
            not isinstance(self.per, int | float)
            or isinstance(self.per, bool)
            or not _SHORTEST_PERIOD <= self.per <= _LONGEST_PERIOD
        ):
            raise OptionError(f"per must be at least {_SHORTEST_PERIOD} seconds and at most a year, not {self.per!r}")
        if self.burst is not None:
            _check_count("burst", self.burst, "1 spreads the starts evenly")

    @property
    def interval(self) -> float:
        """Microseconds from one token to the next."""
        return self.per * 1_000_000 / self.limit

    @property
    def size(self) -> int:
        """How many tokens the bucket holds."""
        return self.burst or max(1, math.floor(self.limit * _SLICE / self.per))

    def tokens(self, empty: float, now: int) -> int:
        """How many jobs may start at `now`, in microseconds, from a bucket that would have been empty at `empty`."""
        return max(0, min(self.size, math.floor((now - min(empty, now)) / self.interval + _FORGIVEN)))

    def taken(self, empty: float, now: int, count: int) -> float:
        """When the bucket would have been empty after `count` tokens, which are there, were taken at `now`."""
        return max(min(empty, now), now - self.size * self.interval) + count * self.interval

    def next_at(self, empty: float, now: int) -> int | None:
        """When the next token comes; None while there is one."""
        if self.tokens(empty, now):
            return None
        empty = min(empty, now)
        at = math.ceil(empty + self.interval)
        # `empty` is exact to a quarter of a microsecond only, and so the sum may be a little early.
        return at if at > now and self.tokens(empty, at) else max(at, now) + 1


class WhenFull(StrEnum):
    """What `add` does when a queue has `max_waiting` jobs already."""

    REJECT = "reject"
    DROP_OLDEST = "drop-oldest"
    WAIT = "wait"


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for a queue, over all workers; None: no limit.

    `rate` and `concurrency` are for the queue as a whole; `key_rate` and `key_concurrency` for each key of it that has
    nothing of its own. `max_waiting` bounds how many jobs wait, and `when_full` says what becomes of more.
    """

    rate: Rate | None = None
    concurrency: int | None = None
    key_rate: Rate | None = None
    key_concurrency: int | None = None
    max_waiting: int | None = None
    when_full: WhenFull = WhenFull.REJECT

    def __post_init__(self) -> None:
        _check_rate("rate", self.rate)
        _check_rate("key_rate", self.key_rate)
        for name in ("concurrency", "key_concurrency", "max_waiting"):
            value = getattr(self, name)
            if value is not None:
                _check_count(name, value, "leave it out for no limit")


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for one key in place of the queue's `key_rate` and `key_concurrency`; None: those hold.

    `weight` is how many turns the key has for each turn of a key of weight 1.
    """

    rate: Rate | Literal["unlimited"] | None = None
    concurrency: int | Literal["unlimited"] | None = None
    weight: int = 1

    def __post_init__(self) -> None:
        if self.rate != UNLIMITED:
            _check_rate("rate", self.rate)
        if self.concurrency is not None and self.concurrency != UNLIMITED:
            _check_count("concurrency", self.concurrency, f"{UNLIMITED!r} takes the queue's default away")
        _check_count("weight", self.weight, "1 is usual", most=_MOST_WEIGHT)

    def rate_under(self, limits: Limits) -> Rate | None:
        """The rate that holds for the key in a queue with these limits."""
        return limits.key_rate if self.rate is None else None if self.rate == UNLIMITED else self.rate

    def concurrency_under(self, limits: Limits) -> int | None:
        """How many jobs of the key may run at once in a queue with these limits; None: any number."""
        if self.concurrency is None:
            return limits.key_concurrency
        return None if self.concurrency == UNLIMITED else self.concurrency


def _check_rate(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, Rate):
        raise OptionError(f"{name} must be a Rate such as Rate(100, per=60), not {value!r}")


def _check_count(name: str, value: Any, hint: str, *, most: int = _MOST_COUNT) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(f"{name} must be a whole number, not {value!r}; {hint}")
    if not 1 <= value <= most:
        raise OptionError(f"{name} must be between 1 and {most}, not {value}; {hint}")


NO_LIMITS = Limits()
