"""Says how long to wait before the next attempt.

A calculation from the number of the failed attempt and a dice; it knows
neither jobs nor clocks. What a job stores is one of the three classes; a
function of the user's own is kept with the processor instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from muskox.core.errors import OptionError

__all__ = ["LONGEST", "Backoff", "CustomBackoff", "Exponential", "Fixed", "Steps"]

LONGEST = 30 * 86_400.0
"""No backoff is longer than this many seconds, whatever the rule says."""

CustomBackoff = Callable[[int, BaseException | None], float]
"""Called with the attempt that failed (from 1) and its error, if it is at hand; returns seconds."""


class Fixed(msgspec.Struct, frozen=True, tag="fixed", omit_defaults=True):
    """Wait the same number of seconds each time; `jitter` 0.2 spreads it by ±20 %."""

    seconds: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("backoff seconds", self.seconds)
        _check_jitter(self.jitter)

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds after the failed `attempt`; `chance` in [0, 1) is the dice for jitter."""
        return _spread(self.seconds, self.jitter, chance, LONGEST)


class Exponential(msgspec.Struct, frozen=True, tag="exponential", omit_defaults=True):
    """Wait `seconds`, then `factor` times as long each time: `Exponential(2)` waits 2, 4, 8 … seconds.

    Never longer than `cap` seconds. `jitter` 0.2 spreads each wait by ±20 %.
    """

    seconds: float
    factor: float = 2.0
    cap: float = 86_400.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("backoff seconds", self.seconds)
        _check_seconds("backoff cap", self.cap)
        _check_jitter(self.jitter)
        if not (isinstance(self.factor, int | float) and math.isfinite(self.factor) and self.factor >= 1):
            raise OptionError(
                f"backoff factor must be a number of at least 1, not {self.factor!r}; use Fixed for no growth"
            )

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds after the failed `attempt`; `chance` in [0, 1) is the dice for jitter."""
        return _spread(_grow(self.seconds, self.factor, attempt, self.cap), self.jitter, chance, self.cap)


class Steps(msgspec.Struct, frozen=True, tag="steps", omit_defaults=True):
    """Wait the given seconds one after another; the last one repeats: `Steps((1, 10, 60))`."""

    seconds: tuple[float, ...]
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not self.seconds:
            raise OptionError("backoff steps are empty; give at least one number of seconds")
        for step in self.seconds:
            _check_seconds("backoff step", step)
        _check_jitter(self.jitter)

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds after the failed `attempt`; `chance` in [0, 1) is the dice for jitter."""
        step = self.seconds[min(attempt, len(self.seconds)) - 1]
        return _spread(step, self.jitter, chance, LONGEST)


Backoff = Fixed | Exponential | Steps


def _grow(seconds: float, factor: float, attempt: int, cap: float) -> float:
    try:
        # As floats: whole numbers would grow to millions of digits before they are cut.
        return min(seconds * float(factor) ** (attempt - 1), cap)
    except OverflowError:
        return cap if seconds else 0.0


def _spread(seconds: float, jitter: float, chance: float, cap: float) -> float:
    return max(0.0, min(seconds * (1 + jitter * (2 * chance - 1)), cap))


def _check_seconds(what: str, value: float) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= LONGEST):
        raise OptionError(f"{what} must be between 0 and {LONGEST:.0f} (30 days), not {value!r}")


def _check_jitter(value: float) -> None:
    if not (isinstance(value, int | float) and 0 <= value <= 1):
        raise OptionError(f"backoff jitter must be between 0 and 1, not {value!r}; 0.2 means plus or minus 20 %")
