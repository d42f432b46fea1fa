"""Opens the application's database: where it can, the same file or server in which Muskox keeps the jobs.

Sharing it is what lets a user, a message and a job commit together; else an outbox does (`outbox.py`). All that
only one kind of database understands stands here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from muskox import StoreUnsupported
from muskox.apps.mail.tables import metadata
from muskox.apps.notifier.tables import users as _users

__all__ = ["create_tables", "database_file", "open_engine"]

_PATIENCE_MS = 20_000
_WRITERS = 7_305_811_520_446_029
"""The lock that writing transactions on PostgreSQL hold, one of 2^64 that a database has."""
_STORE_OPTIONS = ("schema", "durability", "patience", "pool", "prepare", "listen", "migrate")
"""What a URL may say to the store of the jobs and PostgreSQL's driver would not understand."""


def open_engine(url: str) -> Engine:
    """Make the engine for the URL of a database; raises `StoreUnsupported` where tables and jobs could not share it."""
    target = _sqlalchemy_url(url)
    if target.get_backend_name() != "sqlite":
        engine = create_engine(
            target.difference_update_query(_STORE_OPTIONS), pool_pre_ping=True, pool_size=8, max_overflow=24
        )
        event.listen(engine, "begin", _begin_postgres)
        return engine
    # The options behind the question mark are for the store; durability holds for the tables beside it too.
    full = target.query.get("durability") == "fsync"
    engine = create_engine(target.set(query={}), pool_size=8, max_overflow=24)
    event.listen(engine, "connect", partial(_prepare, synchronous="FULL" if full else "NORMAL"))
    event.listen(engine, "begin", _begin)
    return engine


def create_tables(engine: Engine) -> None:
    """Make the tables that are not there yet."""
    assert _users.metadata is metadata
    with engine.begin() as connection:
        metadata.create_all(connection)


def database_file(url: str) -> Path | None:
    """The file behind the URL, if it is one."""
    target = _sqlalchemy_url(url)
    return Path(target.database) if target.get_backend_name() == "sqlite" and target.database else None


def _sqlalchemy_url(url: str) -> URL:
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number, as in sqlite://:memory:
        target = URL.create("sqlite" if url.startswith("sqlite:") else "unknown")
    match target.get_backend_name():
        case "sqlite" if target.database and target.database != ":memory:":
            return target
        case "sqlite":
            raise StoreUnsupported(
                "the notifier keeps its tables in the file of the jobs, and a SQLite store in memory has none; "
                "use MUSKOX_URL=sqlite:///muskox.db, or set DATABASE_URL"
            )
        case "postgresql" | "postgres":
            return target.set(drivername="postgresql+psycopg")
        case _:
            raise StoreUnsupported(
                f"the notifier cannot keep users and mails in a {target.get_backend_name()} database; "
                "DATABASE_URL, or MUSKOX_URL where it is not set, must begin with sqlite:/// or postgresql://"
            )


def _prepare(connection: Any, _record: Any, *, synchronous: str) -> None:
    """Set up one connection to SQLite: we say when transactions begin, and wait for other writers."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # The store alone carries the log over into the file; two who do it at the same moment can damage it.
    cursor.execute("PRAGMA wal_autocheckpoint = 0")
    cursor.execute(f"PRAGMA synchronous = {synchronous}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA trusted_schema = OFF")
    cursor.close()


def _begin(connection: Connection) -> None:
    # IMMEDIATE: a transaction that reads first and writes later would else fail when another has written between.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _begin_postgres(connection: Connection) -> None:
    # One writer at a time, as on SQLite: what is read before something is written is then still true, and whoever
    # makes tables does not meet another. Gone with the transaction, so that a pooler may stand between.
    if not connection.get_execution_options().get("reading", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")
