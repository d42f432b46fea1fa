"""Finds the SQLite connection inside what a caller hands over, and lends it for one step.

Libraries are known by their shape, so that none of them is imported here. The
transaction stays the caller's: nothing here commits it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, TypeVar

from muskox.core.errors import OptionError
from muskox.store.sqlite.database import Location

__all__ = ["borrow", "borrow_async", "is_asynchronous"]

T = TypeVar("T")


def borrow(given: Any, location: Location, step: Callable[[sqlite3.Connection], T]) -> T:
    """Run a step on the `sqlite3` connection in `given`: one itself, or one of SQLAlchemy's or Django's around it.

    When the step fails, what it wrote is undone and the rest of the caller's transaction stays. Raises
    `OptionError` for anything else, for a connection on another database, and for one that has no transaction.
    """
    if is_asynchronous(given) or is_asynchronous(found := _unwrap(given)):
        raise OptionError(
            f"within= is an asynchronous connection or session ({type(given).__qualname__}), which blocking code "
            "cannot wait for; give it to the async verb, such as await queue.add(…)"
        )
    if not isinstance(found, sqlite3.Connection):
        raise _refused(given, found)
    with _lent(found, location) as connection:
        return step(connection)


async def borrow_async(given: Any, location: Location, step: Callable[[sqlite3.Connection], T]) -> T:
    """`borrow` for the asynchronous connections of aiosqlite, and those and the sessions of SQLAlchemy around it.

    The step runs in the thread of that connection, after what was asked of it before. Cancelled, it is done all
    the same, and the caller's rollback undoes it.
    """
    found = await _unwrap_async(given)
    if not _is_aiosqlite(found):
        raise _refused(given, found)
    try:
        # A private name, but the only way to the connection's thread; SQLAlchemy goes it too.
        answer: T = await found._execute(partial(_run, found, location, step))  # noqa: SLF001
    except ValueError as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"within= cannot use this connection: {error}") from None
    return answer


def is_asynchronous(given: Any) -> bool:
    """Whether its verbs must be awaited."""
    return _is_async_session(given) or _is_async_connection(given) or _is_aiosqlite(given)


def _run(lender: Any, location: Location, step: Callable[[sqlite3.Connection], T]) -> T:
    with _lent(lender._conn, location) as connection:  # noqa: SLF001 - as above
        return step(connection)


def _refused(given: Any, found: Any) -> OptionError:
    inside = "" if found is given else f" around {type(found).__module__}.{type(found).__qualname__}"
    return OptionError(
        "within= takes a connection or session on SQLite, of sqlite3, aiosqlite, SQLAlchemy or Django, "
        f"not {type(given).__qualname__}{inside}"
    )


# --- lending --------------------------------------------------------------------------


@contextmanager
def _lent(found: sqlite3.Connection, location: Location) -> Iterator[sqlite3.Connection]:
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
        raise OptionError(
            "within= is a connection that has no transaction and commits each statement; begin one first, in Django "
            "by transaction.atomic()"
        )


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


def _file_of(connection: sqlite3.Connection) -> Path | None:
    for _, name, file in connection.execute("PRAGMA database_list"):
        if name == "main" and file:
            return Path(file).resolve()
    return None


# --- looking inside -------------------------------------------------------------------


def _unwrap(given: Any) -> Any:
    if _is_session(given):
        given = given.connection()  # a session: its connection, in its transaction
    if callable(getattr(given, "exec_driver_sql", None)):
        given = _begun(given).connection  # SQLAlchemy's connection: the pool's proxy
    elif callable(getattr(given, "ensure_connection", None)):
        if given.connection is None:
            raise OptionError("within= is a connection that is not open; add the job inside transaction.atomic()")
        return given.connection  # Django's: the driver's
    return getattr(given, "driver_connection", None) or given


def _begun(connection: Any) -> Any:
    """See that SQLAlchemy knows of a transaction; else it would not commit what was written past it."""
    if connection.closed:
        raise OptionError("within= is a closed connection; give one that is open")
    if not connection.in_transaction():
        connection.exec_driver_sql("SELECT 1")
    return connection


async def _unwrap_async(given: Any) -> Any:
    if _is_async_session(given):
        given = await given.connection()
    if not _is_async_connection(given):
        return given
    if given.sync_connection is None or given.closed:
        raise OptionError("within= is a connection that is closed or not opened yet; give one that is open")
    if not given.in_transaction():  # as in `_begun`
        await given.exec_driver_sql("SELECT 1")
    proxy = await given.get_raw_connection()
    return proxy.driver_connection or given


def _is_session(given: Any) -> bool:
    # By its class: a closed connection raises when it is asked for what it has.
    return callable(getattr(type(given), "get_bind", None)) and callable(getattr(type(given), "connection", None))


def _is_async_session(given: Any) -> bool:
    return _is_session(given) and iscoroutinefunction(type(given).connection)


def _is_async_connection(given: Any) -> bool:
    return iscoroutinefunction(getattr(type(given), "get_raw_connection", None))


def _is_aiosqlite(given: Any) -> bool:
    return type(given).__module__.partition(".")[0] == "aiosqlite" and hasattr(given, "_execute")
