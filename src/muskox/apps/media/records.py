"""Reads and writes the rows of files and of runs. What they mean is said in `media.py`; all of it blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select

from muskox.apps.media import tables
from muskox.apps.media.kinds import Kind

__all__ = [
    "FileRecord",
    "RunRecord",
    "add_file",
    "add_run",
    "count_of",
    "delete_file",
    "find_file",
    "find_files",
    "find_run",
    "runs_of",
    "runs_since",
]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file that was taken in. `name` is what its sender calls it: for people to read, and no path."""

    id: str
    sha256: str
    bytes: int
    name: str
    kind: Kind
    format: str
    media_type: str
    facts: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Something that was asked to be made of a file. `cached`: it was there already, and no job was added."""

    id: str
    file_id: str
    recipe: str
    operations: list[dict[str, Any]]
    queue: str
    name: str
    priority: int | None
    cached: bool
    created_at: datetime


def add_file(connection: Connection, record: FileRecord) -> None:
    """Write a new file down."""
    connection.execute(insert(tables.files), {**asdict(record), "facts": json.dumps(dict(record.facts))})


def add_run(connection: Connection, record: RunRecord) -> None:
    """Write a new run down."""
    connection.execute(insert(tables.runs), {**asdict(record), "operations": json.dumps(record.operations)})


def find_file(connection: Connection, id: str) -> FileRecord | None:
    """The file of that id."""
    row = connection.execute(select(tables.files).where(tables.files.c.id == id)).mappings().first()
    return None if row is None else _file(row)


def find_files(connection: Connection, *, limit: int) -> list[FileRecord]:
    """The files that came last, newest first."""
    table = tables.files
    query = select(table).order_by(table.c.created_at.desc(), table.c.id).limit(limit)
    return [_file(row) for row in connection.execute(query).mappings()]


def count_of(connection: Connection, sha256: str) -> int:
    """How many files have these bytes."""
    query = select(func.count()).select_from(tables.files).where(tables.files.c.sha256 == sha256)
    return int(connection.execute(query).scalar_one())


def delete_file(connection: Connection, id: str) -> None:
    """Forget a file and its runs."""
    connection.execute(delete(tables.runs).where(tables.runs.c.file_id == id))
    connection.execute(delete(tables.files).where(tables.files.c.id == id))


def find_run(connection: Connection, id: str) -> RunRecord | None:
    """The run of that id, which is its job's."""
    row = connection.execute(select(tables.runs).where(tables.runs.c.id == id)).mappings().first()
    return None if row is None else _run(row)


def runs_of(connection: Connection, file_id: str) -> list[RunRecord]:
    """The runs of a file, newest first."""
    table = tables.runs
    query = select(table).where(table.c.file_id == file_id).order_by(table.c.created_at.desc(), table.c.id.desc())
    return [_run(row) for row in connection.execute(query).mappings()]


def runs_since(connection: Connection, moment: datetime) -> list[RunRecord]:
    """The runs that were asked for since then and for which a job was added."""
    table = tables.runs
    query = select(table).where(table.c.created_at >= moment, table.c.cached.is_(False))
    return [_run(row) for row in connection.execute(query).mappings()]


def _file(row: RowMapping) -> FileRecord:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    return FileRecord(**{**values, "kind": Kind(values["kind"]), "facts": json.loads(values["facts"])})


def _run(row: RowMapping) -> RunRecord:
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    return RunRecord(**{**values, "operations": json.loads(values["operations"])})
