"""Limits of queues and keys: look at them, put them, and hold what must wait."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from muskox import UNLIMITED, KeyState, QueueLimits, Rate
from muskox.web.desk import Given
from muskox.web.gate import Operator, Viewer
from muskox.web.limit_shapes import KeyPage, KeyShape, LimitsShape, RateShape
from muskox.web.problems import described

__all__ = ["router"]

router = APIRouter(tags=["limits"], responses=described(401, 403, 404, 422, 503))

_MOST = 200


class SaidLimits(BaseModel):
    """All limits of a queue; what is left out does not limit it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"rate": {"limit": 100, "per": 60}, "key_concurrency": 1}}
    )

    rate: RateShape | None = None
    concurrency: int | None = None
    key_rate: RateShape | None = None
    key_concurrency: int | None = None
    max_waiting: int | None = None
    when_full: Literal["reject", "drop-oldest", "wait"] = "reject"


class EditedLimits(SaidLimits):
    """The limits that shall be otherwise; null takes one away, and what is left out stays."""


class SaidKey(BaseModel):
    """All that holds for one key; what is left out is as the queue says."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"concurrency": 4, "weight": 2}})

    rate: RateShape | Literal["unlimited"] | None = None
    concurrency: int | Literal["unlimited"] | None = None
    weight: int = 1


class SaidHold(BaseModel):
    """For how long nothing shall start."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"seconds": 60}})

    seconds: float = Field(description="0 ends a hold")
    key: str | None = Field(None, description="of this key alone")


@router.get("/api/queues/{queue}/limits", summary="What limits a queue")
async def limits(queue: str, desk: Given, by: Viewer) -> LimitsShape:
    """Give the limits of a queue and how they stand: slots, tokens, a hold."""
    return _limits(await (await desk.queue(queue)).limits())


@router.put("/api/queues/{queue}/limits", summary="Put the limits of a queue")
async def put_limits(queue: str, said: SaidLimits, request: Request, desk: Given, by: Operator) -> LimitsShape:
    """Put all limits of a queue in place of those that are there, for all workers at once.

    They stay until the program declares other limits than it did before.
    """
    with desk.deed(by, request, "limit", queue=queue, limits=said.model_dump(exclude_none=True)):
        changes: Any = {
            **said.model_dump(exclude={"rate", "key_rate"}), "rate": _rate(said.rate), "key_rate": _rate(said.key_rate),
        }  # fmt: skip
        return _limits(await (await desk.queue(queue)).set_limits(**changes))


@router.patch("/api/queues/{queue}/limits", summary="Change some limits of a queue")
async def edit_limits(queue: str, said: EditedLimits, request: Request, desk: Given, by: Operator) -> LimitsShape:
    """Change what is named and leave the other limits as they are, in one step."""
    named = said.model_fields_set
    with desk.deed(by, request, "limit", queue=queue, limits=said.model_dump(include=named)):
        changes: Any = said.model_dump(include=named)
        changes |= {name: _rate(getattr(said, name)) for name in named & {"rate", "key_rate"}}
        return _limits(await (await desk.queue(queue)).set_limits(**changes))


@router.post("/api/queues/{queue}/hold", summary="Hold a queue or a key for a while")
async def hold(queue: str, said: SaidHold, request: Request, desk: Given, by: Operator) -> LimitsShape:
    """Have no job of the queue start for so long, or none of one key; a hold that lasts longer stays."""
    with desk.deed(by, request, "hold", queue=queue, seconds=said.seconds, key=said.key):
        line = await desk.queue(queue)
        await line.hold(said.seconds, key=said.key)
        return _limits(await line.limits())


@router.get("/api/queues/{queue}/keys", summary="The keys of a queue")
async def keys(
    queue: str,
    desk: Given,
    by: Viewer,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 50,
    after: Annotated[str, Query(description="the cursor of the page before", max_length=2000)] = "",
) -> KeyPage:
    """Give those that have jobs which have not ended, limits of their own, or a hold, by name."""
    found = await (await desk.queue(queue)).keys(after=after, limit=limit)
    return KeyPage(keys=[_key(one) for one in found], cursor=found[-1].key if len(found) == limit else None)


@router.get("/api/queues/{queue}/keys/{key:path}", summary="One key of a queue")
async def one_key(queue: str, key: str, desk: Given, by: Viewer) -> KeyShape:
    """Give what holds for a key, and how it stands; of one that nothing is known of, what the queue says."""
    return _key(await (await desk.queue(queue)).key(key))


@router.put("/api/queues/{queue}/keys/{key:path}", summary="Put the limits of one key")
async def put_key(queue: str, key: str, said: SaidKey, request: Request, desk: Given, by: Operator) -> KeyShape:
    """Put what holds for one key; `unlimited` takes the queue's default away."""
    with desk.deed(by, request, "limit key", queue=queue, key=key[:300], limits=said.model_dump(exclude_none=True)):
        line = await desk.queue(queue)
        rate = _rate(said.rate) if isinstance(said.rate, RateShape) else said.rate
        return _key(await line.set_key(key, rate=rate, concurrency=said.concurrency, weight=said.weight))


def _rate(said: RateShape | None) -> Rate | None:
    return None if said is None else Rate(said.limit, said.per, said.burst)


def _rate_shape(rate: Rate | None) -> RateShape | None:
    return None if rate is None else RateShape(limit=rate.limit, per=rate.per, burst=rate.burst)


def _limits(state: QueueLimits) -> LimitsShape:
    its = state.limits
    return LimitsShape(
        queue=state.queue,
        at=state.at,
        rate=_rate_shape(its.rate),
        concurrency=its.concurrency,
        key_rate=_rate_shape(its.key_rate),
        key_concurrency=its.key_concurrency,
        max_waiting=its.max_waiting,
        when_full=its.when_full,
        active=state.active,
        tokens=state.tokens,
        next_at=state.next_at,
        held_until=state.held_until,
        declared=state.declared is not None,
    )


def _key(state: KeyState) -> KeyShape:
    own = state.own
    return KeyShape(
        key=state.key,
        rate=_rate_shape(state.rate),
        concurrency=state.concurrency,
        own_rate=own.rate if own.rate == UNLIMITED else _rate_shape(own.rate),
        own_concurrency=own.concurrency,
        weight=own.weight,
        waiting=state.waiting,
        blocked=state.blocked,
        active=state.active,
        tokens=state.tokens,
        next_at=state.next_at,
        held_until=state.held_until,
    )
