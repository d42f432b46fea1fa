"""The tables of an outbox, and jobs as rows of it. Types are kept plain, so that any database has them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from muskox import NewJob

__all__ = ["Tables", "from_row", "to_row"]

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LONG = sa.Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")


class Tables:
    """`jobs` has a row for each job that is not relayed yet; `relay` has one row, by which relays keep apart."""

    def __init__(self, metadata: sa.MetaData, name: str) -> None:
        self.jobs = sa.Table(
            name,
            metadata,
            sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
            sa.Column("job", sa.String(255), nullable=False),
            sa.Column("queue", sa.String(128), nullable=False),
            sa.Column("name", sa.String(255), nullable=False),
            sa.Column("body", _LONG, nullable=False),
            # A row's number must not be given to another after it is deleted.
            sqlite_autoincrement=True,
        )
        self.relay = sa.Table(
            f"{name}_relay",
            metadata,
            sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("outbox", sa.String(64), nullable=False),
        )

    def create(self, connection: sa.Connection) -> None:
        """Make both if they are not there."""
        self.jobs.create(connection, checkfirst=True)
        self.relay.create(connection, checkfirst=True)


class _Body(msgspec.Struct):
    """What a row says of its job: the job, and the moment at which it is due if it is delayed."""

    job: NewJob
    due: float | None = None


_decode = msgspec.json.Decoder(_Body).decode


def to_row(job: NewJob, now: float) -> dict[str, str]:
    """The row of a job that is written at the moment `now`."""
    body = _Body(job, now + job.delay if job.delay > 0 else None)
    return {"job": job.id, "queue": job.queue, "name": job.name, "body": msgspec.json.encode(body).decode()}


def from_row(body: str, now: float) -> NewJob:
    """The job in a row, its delay as it is at the moment `now`; raises `ValueError` for what is none."""
    found = _decode(body)
    if found.due is None:
        return found.job
    return msgspec.structs.replace(found.job, delay=max(0.0, found.due - now))
