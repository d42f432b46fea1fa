"""Says in our words what Redis, its driver or the network complain about.

It decides nothing about connections; `link.py` does.
"""

from __future__ import annotations

import re
from typing import NoReturn

from redis import exceptions as driver

from muskox.core.errors import (
    OptionError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsupported,
)
from muskox.store.redis.location import Location

__all__ = ["has_moved", "outside", "translate"]

_CODES: list[tuple[str, type[StoreError], str]] = [
    ("OOM", StoreFull, "has no memory left; raise maxmemory, or clear or remove ended jobs"),
    ("MISCONF", StoreFull, "cannot save to its disk and takes no writes; make room there"),
    ("NOREPLICAS", StoreReadOnly, "has too few replicas and takes no writes; mend them or lower min-replicas-to-write"),
    ("READONLY", StoreReadOnly, "is a replica, which takes no writes; use the address of the primary, or Sentinel"),
    ("LOADING", StoreUnavailable, "is still reading its data from disk; it will answer when it is done"),
    ("BUSY", StoreUnavailable, "is busy with somebody's long script; end it by SCRIPT KILL"),
    ("NOAUTH", StoreUnavailable, "wants a password; put one into the URL: redis://:password@host"),
    ("WRONGPASS", StoreUnavailable, "refuses user name or password; check those in the URL"),
    ("NOPERM", StoreUnavailable, "forbids its user what Muskox needs; docs/explanation/redis.md has the least rights"),
    ("MASTERDOWN", StoreUnavailable, "is a replica that has lost its primary; it heals when there is one again"),
    ("CLUSTERDOWN", StoreUnavailable, "says that the cluster is down; it heals when all slots are served again"),
    ("TRYAGAIN", StoreUnavailable, "is just moving the keys to another node; it heals when that is done"),
    ("MOVED", StoreUnavailable, "is part of a cluster; use a URL that begins with redis+cluster://"),
    ("ASK", StoreUnavailable, "is just moving the keys to another node; it heals when that is done"),
    ("CROSSSLOT", StoreUnsupported, "will not touch keys in several slots; tell us, for that must not happen"),
    ("UNBLOCKED", StoreUnavailable, "has changed its role; it heals with the next connection"),
    ("UNKILLABLE", StoreUnavailable, "is busy with a script that cannot be ended; restart it"),
    ("WRONGTYPE", StoreCorrupt, "has something else under one of our keys; use a prefix of your own: ?prefix=name"),
]
"""Codes of answers, what each is to a caller, and the words for it."""

_CLASSES: list[tuple[type[Exception], str]] = [
    (driver.OutOfMemoryError, "OOM"),
    (driver.ReadOnlyError, "READONLY"),
    (driver.BusyLoadingError, "LOADING"),
    (driver.NoPermissionError, "NOPERM"),
    (driver.MasterDownError, "MASTERDOWN"),
    (driver.ClusterDownError, "CLUSTERDOWN"),
    (driver.TryAgainError, "TRYAGAIN"),
    (driver.ClusterCrossSlotError, "CROSSSLOT"),
    (driver.MovedError, "MOVED"),
    (driver.AskError, "ASK"),
]
"""Classes under which the driver hides the code."""

_WORDS = re.compile(r"\b(?:" + "|".join(code for code, _, _ in _CODES) + r")\b")


def translate(error: Exception, location: Location) -> StoreError:
    """The error of ours that says what happened; the driver's own text comes last."""
    for code, kind, words in _CODES:
        if code == _code(error):
            return kind(f"the Redis server at {location.shown} {words} ({_text(error)})")
    if isinstance(error, driver.AuthenticationError):
        return StoreUnavailable(
            f"the Redis server at {location.shown} refuses user name or password; check those in the URL ({error})"
        )
    if isinstance(error, TimeoutError | driver.TimeoutError):
        return StoreUnavailable(
            f"the Redis server at {location.shown} gave no answer within {location.timeout:g} seconds; "
            "whether it did what was asked is not known, and repeating it with the same ids is safe"
        )
    if isinstance(error, driver.ResponseError):
        return StoreCorrupt(f"the Redis server at {location.shown} could not do a step: {_text(error)}; run an audit")
    return StoreUnavailable(
        f"the connection to the Redis server at {location.shown} failed ({_text(error)}); "
        "it is made again with the next call, and repeating this one with the same ids is safe"
    )


def has_moved(error: Exception) -> bool:
    """Whether the server is no longer the one to write to, so that it must be looked for again."""
    return _code(error) in {"READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "UNBLOCKED"}


def _code(error: Exception) -> str | None:
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    if isinstance(error, driver.ResponseError | driver.AuthenticationError):
        # The code comes first, and in the words of older servers somewhere in what a script died of.
        found = _WORDS.search(f"{getattr(error, 'status_code', None)} {error}")
        return found[0] if found else None
    return None


def _text(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"


def outside() -> NoReturn:
    """Refuse what would have to be done in a transaction of another database."""
    raise OptionError(
        "Redis has no part in the transactions of other databases; leave `within` out, "
        "or keep the jobs in SQLite or PostgreSQL"
    )
