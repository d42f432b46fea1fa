"""Finds the SQLite connection inside what a caller hands over, and lends it for one step.

Libraries are known by their shape, so that none of them is imported here. The
transaction stays the caller's: nothing here commits it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muskox.core.errors import OptionError
from muskox.store.sqlite.database import Location

__all__ = ["borrowed"]


@contextmanager
def borrowed(given: Any, location: Location) -> Iterator[sqlite3.Connection]:
    """Lend the `sqlite3` connection in `given`: one itself, or a SQLAlchemy connection or session.

    When the step fails, what it wrote is undone and the rest of the caller's transaction stays. Raises
    `OptionError` for anything else, for a connection on another database, and for one that has no transaction.
    """
    found = _unwrap(given)
    if not isinstance(found, sqlite3.Connection):
        raise OptionError(
            "within= takes a sqlite3 connection or a SQLAlchemy connection or session on SQLite, "
            f"not {type(given).__qualname__}"
        )
    try:
        factories = found.row_factory, found.text_factory
        found.row_factory, found.text_factory = None, str
    except sqlite3.ProgrammingError as error:
        raise OptionError(f"within= cannot use this connection: {error}") from None
    try:
        _check(found, location)
        with _savepoint(found):
            yield found
    finally:
        found.row_factory, found.text_factory = factories


def _check(connection: sqlite3.Connection, location: Location) -> None:
    try:
        theirs = _file_of(connection)
    except sqlite3.ProgrammingError as error:  # closed, or of another thread
        raise OptionError(f"within= cannot use this connection: {error}") from None
    if location.path is None or theirs != location.path.resolve():
        raise OptionError(
            f"within= is a connection to {theirs or 'a database in memory'}, but the jobs are kept in "
            f"{location.path or 'memory'}; a transaction covers one file, so give one on the same"
        )
    if not connection.in_transaction and _commits_by_itself(connection):
        raise OptionError("within= is a connection that has no transaction and commits each statement; begin one first")


def _commits_by_itself(connection: sqlite3.Connection) -> bool:
    # Python 3.12 has `autocommit`; where that is not a bool, and before, `isolation_level` says it.
    mode = getattr(connection, "autocommit", None)
    return mode if isinstance(mode, bool) else connection.isolation_level is None


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    begun = not connection.in_transaction
    if begun:
        connection.execute("BEGIN IMMEDIATE")
    connection.execute("SAVEPOINT muskox_within")
    try:
        yield
    except BaseException:
        _undo(connection, all_of_it=begun)
        raise
    connection.execute("RELEASE muskox_within")


def _undo(connection: sqlite3.Connection, *, all_of_it: bool) -> None:
    try:
        if all_of_it:
            connection.execute("ROLLBACK")
        else:
            connection.execute("ROLLBACK TO muskox_within")
            connection.execute("RELEASE muskox_within")
    except sqlite3.Error:  # the first error is the one to tell; SQLite has rolled back by itself
        return


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
