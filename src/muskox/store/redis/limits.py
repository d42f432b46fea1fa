"""The verbs for limits and keys as steps, and how what they say and show is written and read.

How limits work is in `lua/buckets.lua` and `lua/keyed.lua`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from muskox.core.limits import UNLIMITED, KeyLimits, Limits, Rate
from muskox.store.protocol import KeyState, QueueLimits
from muskox.store.redis.steps import Steps

__all__ = ["LimitSteps", "key_state", "queue_limits"]

_json = msgspec.json.Encoder()
_limits = msgspec.json.Decoder(Limits)
_own = msgspec.json.Decoder(KeyLimits)
_NO_TOKENS = -1


class LimitSteps(Steps):
    """The verbs of `LimitVerbs`."""

    async def limit(self, queue: str, limits: Limits, *, declared: bool = False) -> bool:
        asked = (
            queue, declared, _json.encode(limits).decode(), *_bucket(limits.rate), limits.concurrency or 0,
            *_bucket(limits.key_rate), limits.key_concurrency or 0,
        )  # fmt: skip
        return bool(await self._lasting_step("limit", asked))

    async def limit_key(self, queue: str, key: str, limits: KeyLimits | None) -> None:
        own: tuple[Any, ...] | bool = False
        if limits is not None and limits != KeyLimits():
            concurrency = 0 if limits.concurrency == UNLIMITED else limits.concurrency or -1
            rate = (-1, 0) if limits.rate is None else _bucket(None if limits.rate == UNLIMITED else limits.rate)
            own = _json.encode(limits).decode(), limits.weight, concurrency, *rate
        await self._lasting_step("limit_key", (queue, key, own))

    async def limits(self, queue: str) -> QueueLimits:
        now, shown = await self._step("limits", queue)
        return queue_limits(queue, now, shown)

    async def keys(
        self, queue: str, names: Sequence[str] | None = None, *, after: str = "", limit: int = 100
    ) -> list[KeyState]:
        if limit < 1 if names is None else not names:
            return []
        text, *shown = await self._step("keys", (queue, False if names is None else list(names), after, limit))
        limits = _limits.decode(text)
        return [key_state(limits, its) for its in shown]

    async def hold(self, queue: str, seconds: float, *, key: str | None = None) -> None:
        await self._lasting_step("hold", (queue, key or "", max(0, int(seconds * 1_000_000))))


def _bucket(rate: Rate | None) -> tuple[float, int]:
    """Interval and size of the bucket of a rate; zeros for none."""
    return (0, 0) if rate is None else (rate.interval, rate.size)


def queue_limits(queue: str, now: int, shown: Sequence[Any]) -> QueueLimits:
    """What holds for a queue, from what `lua/showing.lua` shows of it."""
    text, declared, active, *stand = shown
    return QueueLimits(
        queue, now, _limits.decode(text), _limits.decode(declared) if declared else None, active, *_stand(stand)
    )


def key_state(limits: Limits, shown: Sequence[Any]) -> KeyState:
    """What holds for a key in a queue with these limits, from what `lua/showing.lua` shows of it."""
    key, text, waiting, blocked, active, *stand = shown
    own = _own.decode(text)
    return KeyState(
        key.decode(), own, own.rate_under(limits), own.concurrency_under(limits), waiting, blocked, active,
        *_stand(stand),
    )  # fmt: skip


def _stand(shown: Sequence[int]) -> tuple[int | None, int | None, int | None]:
    """Tokens, when the next comes, until when it is held."""
    tokens, next_us, held_until_us = shown
    return None if tokens == _NO_TOKENS else tokens, next_us or None, held_until_us or None
