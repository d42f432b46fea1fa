"""What the interface gives of limits and keys, as `shapes.py` has it of all else."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["KeyPage", "KeyShape", "LimitsShape", "RateShape"]


class RateShape(BaseModel):
    """At most `limit` starts per `per` seconds; `burst` of them may come at once after a quiet time."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"limit": 100, "per": 60}})

    limit: int
    per: float = 1.0
    burst: int | None = None


class LimitsShape(BaseModel):
    """What limits a queue over all workers, null: nothing; and how it stands."""

    queue: str
    at: datetime
    rate: RateShape | None
    concurrency: int | None
    key_rate: RateShape | None
    key_concurrency: int | None
    max_waiting: int | None
    when_full: str
    active: int = Field(description="jobs that run and hold a slot of the concurrency")
    tokens: int | None = Field(description="jobs that the rate would let start now; null without a rate")
    next_at: datetime | None = Field(description="when the rate lets the next one start; null while it does")
    held_until: datetime | None
    declared: bool = Field(description="whether code has declared limits")


class KeyShape(BaseModel):
    """What holds for a key of a queue, and how it stands; `own_…` is what was said of this key."""

    key: str
    rate: RateShape | None
    concurrency: int | None
    own_rate: RateShape | Literal["unlimited"] | None
    own_concurrency: int | Literal["unlimited"] | None
    weight: int = Field(description="how many turns it has for each turn of a key of weight 1")
    waiting: int
    blocked: int
    active: int
    tokens: int | None
    next_at: datetime | None
    held_until: datetime | None


class KeyPage(BaseModel):
    """A page of keys and the cursor of the next; null after the last."""

    keys: list[KeyShape]
    cursor: str | None
