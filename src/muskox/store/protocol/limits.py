"""The verbs for limits and keys; `core/limits.py` says what the values mean, `verbs.py` what claims do by them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from muskox.core.job import moment
from muskox.core.limits import KeyLimits, Limits, Rate

__all__ = ["KeyState", "LimitVerbs", "QueueLimits"]


class QueueLimits(msgspec.Struct, frozen=True):
    """What holds for a queue, and how it stands at `now_us` by the store's clock.

    `tokens` is how many jobs its rate would let start now, None where it has no rate; `next_us` when the next token
    comes, None while there is one. `held_until_us` is until when nothing of it starts, None when nothing holds it.
    `declared` is what was last declared in code, None when nothing ever was.
    """

    queue: str
    now_us: int
    limits: Limits
    declared: Limits | None = None
    active: int = 0
    tokens: int | None = None
    next_us: int | None = None
    held_until_us: int | None = None

    @property
    def at(self) -> datetime:
        """The moment, by the store's clock, of which all this is true."""
        return moment(self.now_us)

    @property
    def next_at(self) -> datetime | None:
        """When the rate lets the next job start; None while it does, or where there is none."""
        return None if self.next_us is None else moment(self.next_us)

    @property
    def held_until(self) -> datetime | None:
        """Until when nothing of the queue starts; None when nothing holds it."""
        return None if self.held_until_us is None else moment(self.held_until_us)


class KeyState(msgspec.Struct, frozen=True):
    """What holds for a key of a queue, and how it stands.

    `own` is what was said of this key, `rate` and `concurrency` what holds for it in the end. `waiting` jobs of it
    stand in the line of the queue, `blocked` ones wait for their turn behind them, `active` ones run.
    """

    key: str
    own: KeyLimits
    rate: Rate | None = None
    concurrency: int | None = None
    waiting: int = 0
    blocked: int = 0
    active: int = 0
    tokens: int | None = None
    next_us: int | None = None
    held_until_us: int | None = None

    @property
    def next_at(self) -> datetime | None:
        """When the rate lets the next job of the key start; None while it does, or where there is none."""
        return None if self.next_us is None else moment(self.next_us)

    @property
    def held_until(self) -> datetime | None:
        """Until when nothing of the key starts; None when nothing holds it."""
        return None if self.held_until_us is None else moment(self.held_until_us)


class LimitVerbs(Protocol):
    """Limits of queues and keys; part of `Store`."""

    async def limit(self, queue: str, limits: Limits, *, declared: bool = False) -> bool:
        """Put what holds for a queue from now on; returns whether that changed anything.

        `declared`: said by code, and done only when it differs from what code last said, so that a deploy of
        unchanged code leaves alone what was changed at run time. Jobs that a new limit holds stay where they are, and
        those it no longer holds may be claimed at once. No limits are as good as nothing declared.
        """
        ...

    async def limit_key(self, queue: str, key: str, limits: KeyLimits | None) -> None:
        """Put what holds for one key in place of the queue's defaults; None: nothing of its own."""
        ...

    async def limits(self, queue: str) -> QueueLimits:
        """Give what holds for a queue and how it stands; of an unknown queue, that there is no limit."""
        ...

    async def keys(
        self, queue: str, names: Sequence[str] | None = None, *, after: str = "", limit: int = 100
    ) -> list[KeyState]:
        """Give keys by their names, in that order, or a page of those that have jobs in line, blocked or active, limits
        of their own, or a hold, in the order of their names after `after`.

        A key that nothing is known of has no jobs and the queue's defaults.
        """
        ...

    async def hold(self, queue: str, seconds: float, *, key: str | None = None) -> None:
        """Let no job of the queue, or of one key of it, start for so many seconds from now; 0 ends a hold.

        A longer hold that is there already stays, unless it is ended. What runs goes on.
        """
        ...
