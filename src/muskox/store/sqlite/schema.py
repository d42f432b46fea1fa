"""Brings the tables of a database up to date by numbered migrations.

A migration is never edited after a release; what it needs is in its SQL.
"""

from __future__ import annotations

import sqlite3

from muskox.core.errors import StoreUnsupported
from muskox.store.sql import migrations

__all__ = ["apply"]


def apply(db: sqlite3.Connection) -> list[str]:
    """Run the migrations that are missing, inside the transaction that is open; returns their names.

    Raises `StoreUnsupported` when the database has one that this version does not know.
    """
    db.execute("CREATE TABLE IF NOT EXISTS muskox_migrations (name TEXT PRIMARY KEY)")
    done = {name for (name,) in db.execute("SELECT name FROM muskox_migrations")}
    known = migrations("muskox.store.sqlite")
    newer = done - {name for name, _ in known}
    if newer:
        raise StoreUnsupported(
            f"the database has migration {max(newer)}, which this version of Muskox does not know; upgrade Muskox"
        )
    missing = [(name, statements) for name, statements in known if name not in done]
    for name, statements in missing:
        for statement in statements:
            db.execute(statement)
        db.execute("INSERT INTO muskox_migrations (name) VALUES (?)", (name,))
    return [name for name, _ in missing]
