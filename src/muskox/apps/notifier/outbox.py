"""Keeps jobs beside users and messages until they are in the store of the jobs, where that is another database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, select

from muskox import Muskox, NewJob
from muskox.contrib.outbox import Outbox

__all__ = ["OutboxJobs"]


class OutboxJobs:
    """Jobs as rows of an outbox; they reach the store while `relaying` runs in some process."""

    def __init__(self, ox: Muskox, engine: Engine) -> None:
        self._ox = ox
        self._outbox = Outbox(ox, engine)
        self.create_tables = self._outbox.sync.create_tables
        self.relaying = self._outbox.relaying

    def add(self, connection: Connection, queue: str, name: str, data: Any, **options: Any) -> None:
        self._outbox.sync.add(connection, self._ox.queue(queue), name, data, **options)

    def add_many(self, connection: Connection, jobs: Sequence[NewJob]) -> None:
        self._outbox.sync.add_many(connection, jobs)

    def is_on_its_way(self, connection: Connection, job_id: str) -> bool:
        rows = self._outbox.tables.jobs.c
        return connection.execute(select(rows.id).where(rows.job == job_id)).first() is not None
