"""Finds the SQLite connection inside what a caller hands over, and checks that it is the store's database.

Libraries are known by their shape, so that none of them is imported here.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from muskox.core.errors import OptionError
from muskox.store.sqlite.database import Location

__all__ = ["driver_connection"]


def driver_connection(given: Any, location: Location) -> sqlite3.Connection:
    """Give the `sqlite3` connection in `given`: one itself, or a SQLAlchemy connection or session.

    Raises `OptionError` for anything else, and when it is open on another database.
    """
    found = _unwrap(given)
    if not isinstance(found, sqlite3.Connection):
        raise OptionError(
            f"within= takes a sqlite3 connection or a SQLAlchemy connection or session on SQLite, not {type(given).__qualname__}"
        )
    theirs = _file_of(found)
    if location.path is None or theirs != location.path.resolve():
        raise OptionError(
            f"within= is a connection to {theirs or 'a database in memory'}, but the jobs are kept in "
            f"{location.path or 'memory'}; a transaction covers one file, so give one on the same"
        )
    return found


def _unwrap(given: Any) -> Any:
    if callable(getattr(given, "get_bind", None)) and callable(getattr(given, "connection", None)):
        given = given.connection()  # a session: its connection, in its transaction
    if hasattr(given, "exec_driver_sql"):
        given = given.connection  # SQLAlchemy's connection: the pool's proxy
    return getattr(given, "driver_connection", None) or given


def _file_of(connection: sqlite3.Connection) -> Path | None:
    for _, name, file in connection.execute("PRAGMA database_list"):
        if name == "main" and file:
            return Path(file).resolve()
    return None
