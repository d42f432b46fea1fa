"""The tables of the media application: files that were taken in, and what was asked to be made of them.

SQLAlchemy Core, and nothing that only one database understands. The state of a
job is Muskox's to know, and what was made is told by the manifest beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

__all__ = ["Moment", "files", "metadata", "runs"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware moment, kept as microseconds since 1970: exact and sortable in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData()

files = Table(
    "media_files",
    metadata,
    Column("id", String(32), primary_key=True),
    # Several files may have the same bytes; those lie there once and go with the last of them.
    Column("sha256", String(64), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("name", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("format", String(16), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("facts", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("ix_media_files_created", "created_at", "id"),
)

runs = Table(
    "media_runs",
    metadata,
    # The id of the job, which is made before the job is added.
    Column("id", String(36), primary_key=True),
    Column("file_id", ForeignKey(files.c.id, ondelete="CASCADE"), nullable=False, index=True),
    Column("recipe", String(64), nullable=False),
    Column("operations", Text, nullable=False),
    Column("queue", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("priority", Integer),
    Column("cached", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False, index=True),
)
