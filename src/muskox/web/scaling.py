"""How many workers a queue needs, from how fast jobs come and how long they take. It asks no store.

By Little's law the mean number of busy slots is the rate at which runs start
times the mean seconds that one takes; docs/how-to/autoscale.md says the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from pydantic import BaseModel, Field

from muskox import Cell

__all__ = ["Advice", "advise"]


class Advice(BaseModel):
    """How many workers are recommended, and from what that comes."""

    queue: str = Field(description="empty for all queues together")
    workers: int = Field(description="recommended workers")
    slots: float = Field(description="recommended slots of all of them together")
    arrivals: float = Field(description="jobs added per second")
    attempts: float = Field(description="attempts per job that ended")
    seconds: float | None = Field(description="mean seconds of a run, null when none ended")
    busy: float = Field(description="slots that are busy on average with what arrives, by Little's law")
    backlog: int = Field(description="jobs that wait now")
    catch_up: float = Field(description="further slots that end the backlog in `within` seconds")
    window: float = Field(description="seconds that were looked at")


def advise(
    queue: str,
    cells: Sequence[Cell],
    backlog: int,
    *,
    window: float,
    slots: int,
    utilisation: float,
    within: float,
    least: int,
    most: int,
) -> Advice:
    """Recommend workers of `slots` slots each that are busy for a share of `utilisation` of their time."""
    added = sum(cell.added for cell in cells)
    ended = sum(cell.completed + cell.failed for cell in cells)
    tried = ended + sum(cell.retried + cell.stalled for cell in cells)
    number, total = sum(cell.runs.number for cell in cells), sum(cell.runs.total for cell in cells)
    seconds = total / number if number else None
    attempts = tried / ended if ended else 1.0
    arrivals = added / window
    busy = arrivals * attempts * (seconds or 0.0)
    catch_up = backlog * attempts * (seconds or 0.0) / within
    wanted = (busy + catch_up) / utilisation
    # Nothing is known of how long a run takes until one ended: somebody has to begin.
    workers = max(ceil(wanted / slots - 1e-9), 1 if (added or backlog) else 0)
    return Advice(
        queue=queue, workers=min(most, max(least, workers)), slots=round(wanted, 3), arrivals=round(arrivals, 4),
        attempts=round(attempts, 4), seconds=seconds, busy=round(busy, 4), backlog=backlog,
        catch_up=round(catch_up, 4), window=window,
    )  # fmt: skip
