"""SQLAlchemy's engines on the database of a store, for tests that write rows and jobs in one transaction."""

from __future__ import annotations

import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_BLOCKING = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_ASYNCHRONOUS = {**_BLOCKING, "sqlite": "sqlite+aiosqlite"}


def engine(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(_with(url, _BLOCKING))


def async_engine(url: str) -> AsyncEngine:
    return create_async_engine(_with(url, _ASYNCHRONOUS))


def _with(url: str, drivers: dict[str, str]) -> str:
    scheme, colon, rest = url.partition(":")
    return drivers[scheme] + colon + rest.partition("?")[0]
