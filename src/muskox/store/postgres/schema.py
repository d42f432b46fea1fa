"""The statements and migrations of a schema, and what brings its tables up to date.

A migration is never edited after a release; what it needs is in its SQL.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from psycopg import Connection as Blocking
from psycopg.errors import LockNotAvailable

from muskox.core.errors import StoreError, StoreReadOnly, StoreUnavailable, StoreUnsupported
from muskox.store.postgres.connections import Connection, pause
from muskox.store.postgres.location import Location
from muskox.store.sql import reader, statements, unreadable

__all__ = ["OLDEST", "Schema"]

log = logging.getLogger("muskox.store")

OLDEST = 150_000
"""The oldest server that the suite runs on."""

LOCK_WAIT = 1.0
"""Seconds for which a migration waits for a lock at most, and everybody else behind it; then all others go first."""

TRIES = 3

_PACKAGE = "muskox.store.postgres"
_STATEMENTS = {
    name: body
    for file in ("statements.sql", "schedules.sql", "limits.sql", "flows.sql", "history.sql")
    for name, body in statements(_PACKAGE, file).items()
}
_FILES = {
    entry.name.removesuffix(".sql"): entry.read_text()
    for entry in sorted(files(_PACKAGE).joinpath("migrations").iterdir(), key=lambda entry: entry.name)
    if entry.name.endswith(".sql")
}


class Schema:
    """Everything that is said to the database, with the name of the schema in it."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._lock_wait = min(LOCK_WAIT, location.patience / 8)
        self._sql = {name: self._named(body.replace("{job}", _STATEMENTS["job"])) for name, body in _STATEMENTS.items()}

    def __getitem__(self, name: str) -> str:
        return self._sql[name]

    def _named(self, text: str) -> str:
        if self._location.schema == "muskox":
            return text
        quoted = self._location.schema
        return text.replace("muskox.", f"{quoted}.").replace(
            "SCHEMA IF NOT EXISTS muskox;", f"SCHEMA IF NOT EXISTS {quoted};"
        )

    async def prepare(self, connection: Connection) -> list[str]:
        """Check the server and bring the tables up to date where the URL allows it; returns what was applied."""
        [(version, encoding, migrated, standby, replicas, commit)] = await (
            await connection.execute(self["check"])
        ).fetchall()
        self._check(version, encoding, standby, replicas, commit)
        missing = await self._missing(connection) if migrated else list(_FILES)
        if not missing:
            return []
        if not self._location.migrate:
            raise StoreUnsupported(
                f"the tables of schema {self._location.schema} lack {', '.join(missing)}; run `muskox migrate`, "
                "or leave migrate=no out of the URL"
            )
        return await self.apply(connection)

    async def apply(self, connection: Connection) -> list[str]:
        """Apply the migrations that are missing, each in a transaction of its own; returns their names."""
        done = [name for name, text in _FILES.items() if await self._apply(connection, name, text)]
        if done:
            log.info("schema %s: applied the migrations %s", self._location.schema, ", ".join(done))
        return done

    async def _apply(self, connection: Connection, name: str, text: str) -> bool:
        """Apply one if it is missing. Should it wait for a lock, it steps back and tries again a few times."""
        for tries_left in reversed(range(TRIES)):
            try:
                async with connection.transaction():
                    await connection.execute(self["lock"])
                    await connection.execute(self["hurry"], (f"{self._lock_wait * 1000:.0f}",))
                    await connection.execute(self["make"])
                    if name not in await self._missing(connection):
                        return False
                    await connection.execute(self._named(text))
                    await connection.execute(self["note"], (name, reader(name, text)))
                    return True
            except LockNotAvailable as error:
                if not tries_left:
                    raise StoreUnavailable(await self._held_up(connection, name)) from error
            await pause(self._lock_wait)
        raise AssertionError("the last try returns or raises")

    def apply_here(self, connection: Blocking) -> None:
        """`apply` on a blocking connection that commits each statement, with one try for each."""
        for name, text in _FILES.items():
            with connection.transaction():
                connection.execute(self["lock"])
                connection.execute(self["hurry"], (f"{self._lock_wait * 1000:.0f}",))
                connection.execute(self["make"])
                if name in self._lacking(connection.execute(self["migrated"]).fetchall()):
                    connection.execute(self._named(text))
                    connection.execute(self["note"], (name, reader(name, text)))

    async def _held_up(self, connection: Connection, name: str) -> str:
        holders = await (await connection.execute(self["holders"], (self._location.schema,))).fetchall()
        said = ", ".join(f"process {pid} ({who}, {state}, since {age} s)" for pid, who, state, age in holders)
        return (
            f"migration {name} of schema {self._location.schema} could not lock its tables, which others hold: "
            f"{said or 'nobody any more'}; let them end and run `muskox migrate` again, nothing was changed"
        )

    async def _missing(self, connection: Connection) -> list[str]:
        return self._lacking(await (await connection.execute(self["migrated"])).fetchall())

    def _lacking(self, migrated: Sequence[tuple[Any, ...]]) -> list[str]:
        done = dict(migrated)
        newer = unreadable(done, _FILES)
        if newer is not None:
            raise StoreUnsupported(
                f"schema {self._location.schema} has migration {newer}, which this version of Muskox does not "
                "know; upgrade Muskox"
            )
        return [name for name in _FILES if name not in done]

    def _check(self, version: int, encoding: str, standby: bool, replicas: bool, commit: str) -> None:
        location = self._location
        fault: StoreError | None = None
        if version < OLDEST:
            fault = StoreUnsupported(
                f"PostgreSQL {version // 10_000} at {location.said} is too old; {OLDEST // 10_000} is needed"
            )
        elif encoding != "UTF8":
            fault = StoreUnsupported(
                f"the database at {location.said} is encoded as {encoding}, which cannot hold all text; use one in UTF8"
            )
        elif standby:
            fault = StoreReadOnly(
                f"PostgreSQL at {location.said} is a standby; give the primary, "
                "or all hosts with target_session_attrs=read-write"
            )
        elif location.durability == "replicated" and not replicas:
            fault = StoreUnsupported(
                f"durability=replicated needs a synchronous standby, and {location.said} has none; "
                "set synchronous_standby_names, or use durability=fsync"
            )
        if fault is not None:
            raise fault
        if location.durability == "default" and commit == "off":
            log.warning(
                "synchronous_commit is off at %s: a crash of the server may lose the jobs of the last moments; "
                "durability=fsync prevents it",
                location.said,
            )
