"""The verbs of limits and keys, and their part of what is shown and audited.

What limits mean for a claim is decided in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from muskox.core.limits import NO_LIMITS, UNLIMITED, KeyLimits, Limits, Rate
from muskox.store.postgres import rows
from muskox.store.postgres.verbs import Row, Verbs
from muskox.store.protocol import KeyState, QueueLimits

__all__ = ["Limiting", "key_state", "queue_limits"]

_encode = msgspec.json.Encoder().encode
_limits = msgspec.json.Decoder(Limits)
_own = msgspec.json.Decoder(KeyLimits)


class Limiting(Verbs):
    """Keeps the limits of queues and keys; a part of the store."""

    async def limit(self, queue: str, limits: Limits, *, declared: bool = False) -> bool:
        values = (
            self._now(), queue, declared, _text(limits), limits.concurrency, *_bucket(limits.rate),
            limits.key_concurrency, *_bucket(limits.key_rate),
        )  # fmt: skip
        changed, bells = await self._one("put_limits", values)
        self._bells.ring(bells)
        return bool(changed)

    async def limit_key(self, queue: str, key: str, limits: KeyLimits | None) -> None:
        own = limits or KeyLimits()
        concurrency = 0 if own.concurrency == UNLIMITED else own.concurrency
        gap, size = (0.0, None) if own.rate == UNLIMITED else _bucket(own.rate)
        said = None if limits is None else _text(limits)
        (bells,) = await self._one("put_key", (self._now(), queue, key, said, concurrency, gap, size, own.weight))
        self._bells.ring(bells)

    async def limits(self, queue: str) -> QueueLimits:
        (now, *found), *_ = await self._all("queue_limits", (self._now(), queue))
        return queue_limits(queue, now, found)

    async def keys(
        self, queue: str, names: Sequence[str] | None = None, *, after: str = "", limit: int = 100
    ) -> list[KeyState]:
        (now, record, *_), *_ = await self._all("queue_limits", (self._now(), queue))
        limits = _read_limits(record)
        if names is None:
            found = await self._all("page_keys", (queue, after, now, max(0, limit)))
            return [key_state(row, limits, now) for row in found]
        found = await self._all("named_keys", (queue, rows.texts(dict.fromkeys(names))))
        states = {row[0]: key_state(row, limits, now) for row in found}
        return [states.get(name) or key_state((name, None, 0, 0, 0, None, None), limits, now) for name in names]

    async def hold(self, queue: str, seconds: float, *, key: str | None = None) -> None:
        (bells,) = await self._one("put_hold", (self._now(), queue, key, int(seconds * 1_000_000)))
        self._bells.ring(bells)


def queue_limits(queue: str, now: int, row: Sequence[Any]) -> QueueLimits:
    """How a queue stands, by a row of `queue_limits` after its moment."""
    record, declared, active, empty, held_until = row
    limits = _read_limits(record)
    tokens, next_us = _stand(limits.rate, empty, now)
    return QueueLimits(
        queue, now, limits, None if declared is None else _read_limits(declared), active or 0, tokens, next_us,
        _held(held_until, now),
    )  # fmt: skip


def key_state(row: Row, limits: Limits, now: int) -> KeyState:
    """How a key stands, by a row of the columns name, own, open, blocked, active, empty, held_until."""
    name, said, waiting, blocked, active, empty, held_until = row
    own = KeyLimits() if said is None else _read_own(said)
    rate = own.rate_under(limits)
    tokens, next_us = _stand(rate, empty, now)
    return KeyState(
        name, own, rate, own.concurrency_under(limits), waiting, blocked, active, tokens, next_us,
        _held(held_until, now),
    )  # fmt: skip


def _text(value: Any) -> str:
    return _encode(value).decode()


def _bucket(rate: Rate | None) -> tuple[float | None, int | None]:
    return (None, None) if rate is None else (rate.interval, rate.size)


def _stand(rate: Rate | None, empty: float | None, now: int) -> tuple[int | None, int | None]:
    """Tokens, and when the next one comes where there is none."""
    if rate is None:
        return None, None
    if empty is None:
        return rate.size, None
    return rate.tokens(empty, now), rate.next_at(empty, now)


def _held(until: int | None, now: int) -> int | None:
    return until if until is not None and until > now else None


def _read_limits(text: str | None) -> Limits:
    # One damaged record must not stop a queue; what counts for claims is in columns of its own.
    try:
        return NO_LIMITS if text is None else _limits.decode(text)
    except (msgspec.DecodeError, ValueError):
        return NO_LIMITS


def _read_own(text: str) -> KeyLimits:
    try:
        return _own.decode(text)
    except (msgspec.DecodeError, ValueError):
        return KeyLimits()
