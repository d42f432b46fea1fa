"""How the job that delivers a message joins the transaction in which the message is stored.

Where jobs and messages share a database, they commit together. Where they do
not, the program brings another way, such as an outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import Connection

from muskox import Muskox, NewJob

__all__ = ["Jobs", "SharedJobs"]


class Jobs(Protocol):
    """Adds jobs within transactions of the application. Blocks."""

    def add(self, connection: Connection, queue: str, name: str, data: Any, **options: Any) -> None:
        """Have a job added when the connection's transaction commits, and never without that."""
        ...

    def add_many(self, connection: Connection, jobs: Sequence[NewJob]) -> None:
        """Have many jobs of one queue added, as `add` does."""
        ...

    def is_on_its_way(self, connection: Connection, job_id: str) -> bool:
        """Whether a job is committed and the store of the jobs does not have it yet."""
        ...


class SharedJobs:
    """Jobs in the database of the messages."""

    def __init__(self, ox: Muskox) -> None:
        self._ox = ox

    def add(self, connection: Connection, queue: str, name: str, data: Any, **options: Any) -> None:
        self._ox.queue(queue).sync.add(name, data, within=connection, **options)

    def add_many(self, connection: Connection, jobs: Sequence[NewJob]) -> None:
        if jobs:
            self._ox.queue(jobs[0].queue).sync.add_many(jobs, within=connection)

    def is_on_its_way(self, connection: Connection, job_id: str) -> bool:
        return False
