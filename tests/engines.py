"""SQLAlchemy's engines on the database of a store, for tests that write rows and jobs in one transaction."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.servers import postgres

_BLOCKING = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_ASYNCHRONOUS = {**_BLOCKING, "sqlite": "sqlite+aiosqlite"}


def engine(url: str) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(_with(url, _BLOCKING))


def async_engine(url: str) -> AsyncEngine:
    return create_async_engine(_with(url, _ASYNCHRONOUS))


def settings(url: str) -> str:
    """What a PostgreSQL server is told with a connection: tables of the test's are made in the schema of the store."""
    query = dict(parse_qsl(url.partition("?")[2]))
    return f"-c search_path={query['schema']}" if "schema" in query else ""


def _with(url: str, drivers: dict[str, str]) -> str:
    scheme, colon, rest = postgres.direct(url).partition(":")
    told = urlencode({"options": settings(url)}) if settings(url) else ""
    return drivers[scheme] + colon + rest.partition("?")[0] + (f"?{told}" if told else "")
