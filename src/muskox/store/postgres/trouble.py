"""Says in our words what PostgreSQL and its driver complain about, and what may be done about it.

One table over SQLSTATEs; it does nothing about any of them.
"""

from __future__ import annotations

from enum import Enum

import msgspec
import psycopg

from muskox.core.errors import (
    MuskoxError,
    QueueFull,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsupported,
)
from muskox.store.postgres.location import Location

__all__ = ["Remedy", "remedy", "translate"]


FULL = "MX010"
"""The state of the error that `keep_bounds` raises; see migrations/0018.sql."""


class Remedy(Enum):
    """What helps: nothing here, saying it again, or saying it again on a new connection."""

    NONE = 0
    AGAIN = 1
    RECONNECT = 2


_Meaning = tuple[type[StoreError], Remedy, str]
_LOST: _Meaning = (StoreUnavailable, Remedy.RECONNECT, "the connection is lost; it is made anew when it is needed")

_STATES: dict[str, _Meaning] = {
    "40001": (StoreUnavailable, Remedy.AGAIN, "another transaction came between; repeating it is safe"),
    "40P01": (StoreUnavailable, Remedy.AGAIN, "a deadlock was broken; repeating it is safe"),
    "40003": _LOST,
    "55P03": (StoreUnavailable, Remedy.AGAIN, "a lock was not to be had in time (lock_timeout); look who holds it"),
    "57014": (StoreUnavailable, Remedy.NONE, "the statement was cancelled (statement_timeout?); allow it more time"),
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": (StoreUnavailable, Remedy.NONE, "the server is starting or stopping; try again soon"),
    "57P05": _LOST,
    "25P03": _LOST,
    "25P04": _LOST,
    "53300": (StoreUnavailable, Remedy.NONE, "no connection is left; raise max_connections or lower ?pool="),
    "53100": (StoreFull, Remedy.NONE, "its disk is full; make room"),
    "53200": (StoreUnavailable, Remedy.NONE, "it is out of memory"),
    "53400": (StoreUnavailable, Remedy.NONE, "a configured limit is reached; raise it"),
    "25006": (
        StoreReadOnly,
        # After a failover the address may lead to another server.
        Remedy.RECONNECT,
        "it is a standby or read-only; give the primary, or all hosts with target_session_attrs=read-write",
    ),
    "28000": (StoreUnavailable, Remedy.NONE, "it refuses this user; check user and pg_hba.conf"),
    "28P01": (StoreUnavailable, Remedy.NONE, "it refuses the password; check it"),
    "3D000": (StoreUnavailable, Remedy.NONE, "there is no such database; create it first"),
    "42501": (StoreUnavailable, Remedy.NONE, "grant this user what docs/explanation/postgresql.md lists"),
    "3F000": (StoreUnsupported, Remedy.NONE, "the tables are missing; run `muskox migrate`"),
    "42P01": (StoreUnsupported, Remedy.NONE, "tables are missing; run `muskox migrate`"),
    "42883": (StoreUnsupported, Remedy.NONE, "functions are missing; run `muskox migrate`"),
    "XX001": (StoreCorrupt, Remedy.NONE, "data is damaged; restore a backup"),
    "XX002": (StoreCorrupt, Remedy.NONE, "an index is damaged; REINDEX it"),
}  # fmt: skip

_CLASSES: dict[str, _Meaning] = {
    "08": _LOST,
    "28": _STATES["28000"],
    "53": _STATES["53400"],
    "57": _STATES["57014"],
    "58": (StoreUnavailable, Remedy.NONE, "the server's machine is in trouble; see its log"),
}


def remedy(error: BaseException) -> Remedy:
    """What helps against an error of the driver."""
    return _meaning(error)[1] if isinstance(error, psycopg.Error) else Remedy.NONE


def translate(error: psycopg.Error, location: Location) -> MuskoxError:
    """The error in our words, to be raised from the driver's own."""
    if error.sqlstate == FULL:
        return QueueFull(**msgspec.json.decode(error.diag.message_primary or "{}"))
    kind, _, hint = _meaning(error)
    state = f" ({error.sqlstate})" if error.sqlstate else ""
    said = str(error).strip().partition("\n")[0] or type(error).__name__
    return kind(f"PostgreSQL at {location.said} says{state}: {said}; {hint}")


def _meaning(error: BaseException) -> _Meaning:
    state = getattr(error, "sqlstate", None) or ""
    known = _STATES.get(state) or _CLASSES.get(state[:2])
    if known is not None:
        return known
    if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _refused(str(error)) or _LOST
    return StoreError, Remedy.NONE, "this should not happen; please report it"


def _refused(said: str) -> _Meaning | None:
    """The meaning of an error while connecting, which libpq tells in words only."""
    for words, state in (
        ("too many clients", "53300"),
        ("remaining connection slots", "53300"),
        ("no more connections allowed", "53300"),
        ("password authentication failed", "28P01"),
        ("no pg_hba.conf entry", "28000"),
        ("starting up", "57P03"),
        ("shutting down", "57P03"),
        ("recovery mode", "57P03"),
        ("session is read-only", "25006"),
        ("session is not read-write", "25006"),
        ("does not exist", "3D000"),
    ):
        if words in said:
            return _STATES[state]
    if "connection failed" in said or "connect" in said.partition(":")[0]:
        return StoreUnavailable, Remedy.NONE, "check that it runs and can be reached"
    return None
