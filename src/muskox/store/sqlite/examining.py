"""Looks at the file and its settings for `examine`: what is sound, what is not, and what to do. It changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from muskox.store.protocol import Check
from muskox.store.sqlite.database import Location, file_system, is_mended
from muskox.store.sqlite.tx import Tx

__all__ = ["examine"]

_LONG_WAL = 256 * 2**20
"""Bytes beyond which the write-ahead log says that it cannot be folded back: somebody reads for ever."""
_LITTLE_DISK = 256 * 2**20
_MUCH_FREE = 0.5


def examine(tx: Tx, *, location: Location) -> list[Check]:
    """What can be said about a database without reading its tables."""
    return [*_library(), *([] if location.path is None else _file(tx.db, location, location.path))]


def _library() -> Iterator[Check]:
    said = f"SQLite {sqlite3.sqlite_version}"
    if is_mended(sqlite3.sqlite_version_info):
        yield Check(True, f"{said} has the fix of the WAL-reset race")
    else:
        yield Check(
            True, f"{said} is older than the fix of the WAL-reset race (3.51.3); Muskox avoids it by one checkpointer"
        )


def _file(db: sqlite3.Connection, location: Location, path: Path) -> Iterator[Check]:
    [mode] = db.execute("PRAGMA journal_mode").fetchone()
    yield Check(
        mode == "wal", f"journal mode {mode}, durability {location.durability}",
        "something else has changed the journal mode; stop it, Muskox puts the file into WAL mode when it is opened",
    )  # fmt: skip
    kind = file_system(path.parent)
    yield Check(
        not location.network, f"the file is on a file system of kind {kind or 'unknown'}",
        "network=yes is set: on a network file system SQLite's locks may fail and jobs be damaged; use a local disk",
    )  # fmt: skip
    [pages], [free], [size] = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    wal = path.with_name(f"{path.name}-wal")
    longest = wal.stat().st_size if wal.exists() else 0
    yield Check(
        longest < _LONG_WAL, f"the database has {_mb(pages * size)}, its write-ahead log {_mb(longest)}",
        "the log cannot be folded back while somebody reads; look for a program that keeps a transaction open",
    )  # fmt: skip
    if pages * size > _LITTLE_DISK:
        yield Check(
            free < pages * _MUCH_FREE, f"{free / pages:.0%} of the database is free for reuse",
            f"to give the room back: stop the workers, then sqlite3 {path} VACUUM",
        )  # fmt: skip
    left = shutil.disk_usage(path.parent).free
    yield Check(left >= _LITTLE_DISK, f"the disk has {_mb(left)} left", "free some, or jobs cannot be added any more")


def _mb(size: int) -> str:
    return f"{size / 2**20:,.1f} MB"
