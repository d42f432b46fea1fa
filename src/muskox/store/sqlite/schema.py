"""Brings the tables of a database up to date by numbered migrations.

A migration is never edited after a release; what it needs is in its SQL.
"""

from __future__ import annotations

import sqlite3

from muskox.core.errors import StoreUnsupported
from muskox.store.sql import migrations

__all__ = ["apply", "missing", "upgrade"]


def apply(db: sqlite3.Connection) -> list[str]:
    """Run the migrations that are missing, inside the transaction that is open; returns their names.

    Raises `StoreUnsupported` when the database has one that this version does not know.
    """
    steps = missing(db)
    if steps:
        db.execute("CREATE TABLE IF NOT EXISTS muskox_migrations (name TEXT PRIMARY KEY)")
    for name, statements in steps:
        for statement in statements:
            db.execute(statement)
        db.execute("INSERT INTO muskox_migrations (name) VALUES (?)", (name,))
    return [name for name, _ in steps]


def upgrade(db: sqlite3.Connection) -> None:
    """`apply` in a transaction of its own; a database that is up to date is only read, whoever holds its lock."""
    if missing(db):
        db.execute("BEGIN IMMEDIATE")
        apply(db)
        db.execute("COMMIT")


def missing(db: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    """The migrations that the database does not have yet: their names and statements."""
    known = migrations("muskox.store.sqlite")
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'muskox_migrations'").fetchone() is None:
        return known
    done = {name for (name,) in db.execute("SELECT name FROM muskox_migrations")}
    newer = done - {name for name, _ in known}
    if newer:
        raise StoreUnsupported(
            f"the database has migration {max(newer)}, which this version of Muskox does not know; upgrade Muskox"
        )
    return [(name, statements) for name, statements in known if name not in done]
