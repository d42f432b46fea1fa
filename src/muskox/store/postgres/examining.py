"""Looks at the server and its settings for `examine`: what is sound, what is not, and what to do. It changes nothing.

Only figures that the server keeps anyway are read, and no more than any role may see.
"""

from __future__ import annotations

from collections.abc import Iterator

from muskox.store.postgres.connections import Connection
from muskox.store.postgres.location import Location
from muskox.store.protocol import Check
from muskox.store.sql import statements

__all__ = ["examine"]

_SKEW = 60.0
_LONG = 600.0
"""Seconds after which an open transaction keeps vacuum from its work for too long."""
_OLD = 1_500_000_000
"""Transactions since the last freezing of the database; at two thousand million it stops."""

_SQL = statements("muskox.store.postgres", "examining.sql")


async def examine(connection: Connection, *, location: Location, now: float) -> list[Check]:
    """What can be said about a server without reading the tables of jobs."""
    [server] = await (await connection.execute(_SQL["server"])).fetchall()
    oldest = await (await connection.execute(_SQL["oldest_transaction"])).fetchall()
    tables = await (await connection.execute(_SQL["tables"], {"schema": location.schema})).fetchall()
    return [*_server(server, now), *_transactions(oldest), *_vacuum(tables)]


def _server(found: tuple[object, ...], now: float) -> Iterator[Check]:
    version, vacuum, safe, commit, clock, used, most, age, remote, tls = found
    assert isinstance(clock, float)
    assert isinstance(used, int)
    assert isinstance(most, int)
    assert isinstance(age, int)
    yield Check(True, f"PostgreSQL {version}, synchronous_commit {commit}")
    yield Check(
        bool(vacuum), "autovacuum is on" if vacuum else "autovacuum is off, so the tables of jobs grow without end",
        "set autovacuum and track_counts on",
    )  # fmt: skip
    yield Check(
        bool(safe), "fsync and full_page_writes are on" if safe else "fsync or full_page_writes is off",
        "set both on, or a crash of the machine may damage the whole database",
    )  # fmt: skip
    yield Check(
        used < most * 0.9, f"{used} of {most} connections are in use",
        "raise max_connections, lower pool in the URLs, or put a pooler before the server",
    )  # fmt: skip
    yield Check(
        age < _OLD, f"the database is {age:,} transactions from its last freezing",
        "vacuum has not kept up; run VACUUM FREEZE before the server refuses to write",
    )  # fmt: skip
    skew = clock - now
    yield Check(
        abs(skew) < _SKEW, f"the clocks of server and this machine differ by {abs(skew):.1f} s",
        "let both follow a time server; jobs added with at= would be due at the wrong moment",
    )  # fmt: skip
    if remote:
        yield Check(
            bool(tls), "the connection is encrypted" if tls else "the connection to another machine is not encrypted",
            "add sslmode=verify-full to the URL",
        )  # fmt: skip


def _transactions(found: list[tuple[object, ...]]) -> Iterator[Check]:
    for pid, name, state, age in found:
        assert isinstance(age, float)
        whose = f"process {pid}, {name or 'no name'}, {state}"
        yield Check(
            age < _LONG, f"the oldest open transaction is {age:.0f} s old ({whose})",
            "vacuum cannot clean up behind it; let that program end it, or set idle_in_transaction_session_timeout",
        )  # fmt: skip


def _vacuum(tables: list[tuple[object, ...]]) -> Iterator[Check]:
    for name, live, dead, times, off in tables:
        assert isinstance(live, int)
        assert isinstance(dead, int)
        if off:
            yield Check(
                False, f"autovacuum is off for the table {name}", f"ALTER TABLE {name} RESET (autovacuum_enabled)"
            )
        elif dead > 100_000 and dead > 4 * live:
            yield Check(
                False, f"the table {name} has {dead:,} dead rows to {live:,} live ones, vacuumed {times} times",
                "vacuum does not keep up; look for long transactions, or lower autovacuum_vacuum_cost_delay",
            )  # fmt: skip
