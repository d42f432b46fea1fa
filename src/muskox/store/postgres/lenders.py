"""Finds the driver's connection inside what a caller hands over.

Libraries are known by their shape, so that none of them is imported here.
Nothing is said on the connection but, where a library would else not know of
it, that a transaction begins.
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any, TypeVar

import psycopg

from muskox.core.errors import OptionError

__all__ = ["find", "find_async", "is_asynchronous"]

C = TypeVar("C", psycopg.Connection[Any], psycopg.AsyncConnection[Any])

_Status = psycopg.pq.TransactionStatus


def find(given: Any) -> psycopg.Connection[Any]:
    """The blocking connection in `given`: one itself, or one of SQLAlchemy's or Django's around it."""
    if is_asynchronous(given) or is_asynchronous(found := _unwrap(given)):
        raise OptionError(
            f"within= is an asynchronous connection or session ({type(given).__qualname__}), which blocking code "
            "cannot wait for; give it to the async verb, such as await queue.add(…)"
        )
    if not isinstance(found, psycopg.Connection):
        raise _refused(given, found)
    return _fit(found)


async def find_async(given: Any) -> psycopg.AsyncConnection[Any]:
    """The asynchronous connection in `given`: one itself, or one of SQLAlchemy's around it."""
    found = await _unwrap_async(given)
    if not isinstance(found, psycopg.AsyncConnection):
        raise _refused(given, found)
    return _fit(found)


def is_asynchronous(given: Any) -> bool:
    """Whether its verbs must be awaited."""
    return isinstance(given, psycopg.AsyncConnection) or _is_async_session(given) or _is_async_connection(given)


def _fit(connection: C) -> C:
    if connection.closed:
        raise OptionError("within= is a closed connection; give one that is open")
    status = connection.info.transaction_status
    if status == _Status.INERROR:
        raise OptionError("within= is a connection whose transaction has failed; roll it back first")
    if status == _Status.IDLE and connection.autocommit:
        raise OptionError(
            "within= is a connection that has no transaction and commits each statement; begin one first, in Django "
            "by transaction.atomic()"
        )
    return connection


def _refused(given: Any, found: Any) -> OptionError:
    inside = "" if found is given else f" around {type(found).__module__}.{type(found).__qualname__}"
    return OptionError(
        "within= takes a connection or session on PostgreSQL through psycopg, its own or SQLAlchemy's or Django's, "
        f"not {type(given).__qualname__}{inside}"
    )


def _unwrap(given: Any) -> Any:
    if _is_session(given):
        given = given.connection()  # a session: its connection, in its transaction
    if callable(getattr(given, "exec_driver_sql", None)):
        if given.closed:
            raise OptionError("within= is a closed connection; give one that is open")
        if not given.in_transaction():
            # It commits only what it knows of.
            given.exec_driver_sql("SELECT 1")
        given = given.connection  # SQLAlchemy's connection: the pool's proxy
    elif callable(getattr(given, "ensure_connection", None)):
        if given.connection is None:
            raise OptionError("within= is a connection that is not open; add the job inside transaction.atomic()")
        return given.connection  # Django's: the driver's
    return getattr(given, "driver_connection", None) or given


async def _unwrap_async(given: Any) -> Any:
    if _is_async_session(given):
        given = await given.connection()
    if not _is_async_connection(given):
        return given
    if given.sync_connection is None or given.closed:
        raise OptionError("within= is a connection that is closed or not opened yet; give one that is open")
    if not given.in_transaction():
        await given.exec_driver_sql("SELECT 1")
    return (await given.get_raw_connection()).driver_connection or given


def _is_session(given: Any) -> bool:
    # By its class: a closed connection raises when it is asked for what it has.
    return callable(getattr(type(given), "get_bind", None)) and callable(getattr(type(given), "connection", None))


def _is_async_session(given: Any) -> bool:
    return _is_session(given) and iscoroutinefunction(type(given).connection)


def _is_async_connection(given: Any) -> bool:
    return iscoroutinefunction(getattr(type(given), "get_raw_connection", None))
