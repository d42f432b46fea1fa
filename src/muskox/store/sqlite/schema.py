"""Brings the tables of a database up to date by numbered migrations.

A migration is never edited after a release; what it needs is in its SQL.
"""

from __future__ import annotations

import sqlite3

from muskox.core.errors import StoreUnsupported
from muskox.store.sql import Migration, migrations, unreadable

__all__ = ["apply", "missing", "upgrade"]


def apply(db: sqlite3.Connection) -> list[str]:
    """Run the migrations that are missing, inside the transaction that is open; returns their names.

    Raises `StoreUnsupported` when the database has one that this version would have to know.
    """
    steps = missing(db)
    if steps:
        db.execute("CREATE TABLE IF NOT EXISTS muskox_migrations (name TEXT PRIMARY KEY, reader TEXT)")
    for name, statements, reader in steps:
        for statement in statements:
            db.execute(statement)
        db.execute("INSERT INTO muskox_migrations (name, reader) VALUES (?, ?)", (name, reader))
    return [step.name for step in steps]


def upgrade(db: sqlite3.Connection) -> None:
    """`apply` in a transaction of its own; a database that is up to date is only read, whoever holds its lock."""
    if missing(db):
        db.execute("BEGIN IMMEDIATE")
        apply(db)
        db.execute("COMMIT")


def missing(db: sqlite3.Connection) -> list[Migration]:
    """The migrations that the database does not have yet."""
    known = migrations("muskox.store.sqlite")
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'muskox_migrations'").fetchone() is None:
        return known
    # Readers are in a column that the first databases do not have.
    done = {name: next(iter(rest), None) for name, *rest in db.execute("SELECT * FROM muskox_migrations")}
    newer = unreadable(done, [step.name for step in known])
    if newer is not None:
        raise StoreUnsupported(
            f"the database has migration {newer}, which this version of Muskox does not know; upgrade Muskox"
        )
    return [step for step in known if step.name not in done]
