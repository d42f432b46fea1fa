"""How much a store keeps: memory of a Redis server, relations of a PostgreSQL database, files of SQLite."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

__all__ = ["size"]

_TABLES = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


def size(store: str, url: str) -> int:
    """Bytes: `used_memory`, or all tables with their indexes, or the files beside the database's."""
    kinds: dict[str, Callable[[str], int]] = {"redis": _memory, "postgres": _relations, "sqlite": _files}
    return kinds[store](url)


# The clients are imported when they are needed, as one may compare on SQLite without them.


def _memory(url: str) -> int:
    with importlib.import_module("redis").Redis.from_url(url) as client:
        return int(client.info("memory")["used_memory"])


def _relations(url: str) -> int:
    with importlib.import_module("psycopg").connect(url) as connection:
        return int(connection.execute(_TABLES).fetchone()[0])


def _files(url: str) -> int:
    folder = Path(url.removeprefix("sqlite:///")).parent
    return sum(file.stat().st_size for file in folder.iterdir())
