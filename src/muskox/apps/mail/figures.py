"""Keeps count of what happens to messages, per minute, so that health is read and never counted.

Rows of the last two days; older ones are dropped on the way.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from muskox.apps.mail import tables
from muskox.apps.mail.states import MessageState

__all__ = ["KEPT_MINUTES", "count_one", "totals"]

KEPT_MINUTES = 2 * 24 * 60


def count_one(connection: Connection, queue: str, state: MessageState, at: datetime, n: int = 1) -> None:
    """Count that a message of `queue`, or `n` of them, came into `state`."""
    table = tables.figures
    minute = _minute(at)
    changed = connection.execute(
        update(table)
        .where(table.c.minute == minute, table.c.queue == queue, table.c.state == state)
        .values(n=table.c.n + n)
    )
    if changed.rowcount == 0:
        connection.execute(insert(table).values(minute=minute, queue=queue, state=state, n=n))
        connection.execute(delete(table).where(table.c.minute < minute - KEPT_MINUTES))


def totals(connection: Connection, now: datetime, minutes: int) -> dict[tuple[str, str], int]:
    """Give how many messages came into each state in the last `minutes`, by (queue, state)."""
    table = tables.figures
    rows = connection.execute(
        select(table.c.queue, table.c.state, func.sum(table.c.n))
        .where(table.c.minute > _minute(now) - minutes)
        .group_by(table.c.queue, table.c.state)
    )
    return {(queue, state): int(n) for queue, state, n in rows}


def _minute(at: datetime) -> int:
    return int(at.timestamp() // 60)
