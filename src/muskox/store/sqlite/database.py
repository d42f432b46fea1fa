"""Opens connections to one SQLite database, and says in our words what SQLite complains about.

What is written through them is not its business.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from muskox.core.errors import (
    OptionError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsupported,
)

__all__ = ["Location", "connect", "is_busy", "is_mended", "is_undecodable", "parse", "prepare", "translate"]

log = logging.getLogger("muskox.store")

OLDEST = (3, 35, 0)
"""RETURNING needs 3.35."""

FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""Releases in which the WAL-reset race is mended, the first for all that follow."""

PAGE = 2048
"""Bytes of a page in a new file: see docs/decisions/sqlite.md."""

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"})
_MOUNTS = Path("/proc/self/mounts")
_LEVELS = {"default": "NORMAL", "fsync": "FULL"}


@dataclass(frozen=True, slots=True)
class Location:
    """Where a database is and how it is used; `path` None: in memory.

    `patience` is for how many seconds a locked database is asked again.
    """

    path: Path | None
    durability: str = "default"
    patience: float = 10.0
    network: bool = False


def parse(url: str) -> Location:
    """Read `sqlite:///relative.db`, `sqlite:////absolute.db` or `sqlite://:memory:`, with options after `?`.

    Options: `durability` (default, fsync), `patience` (seconds), `network=yes` (use a network file system at
    your own risk). Raises `OptionError` for anything else.
    """
    rest, _, query = url.partition(":")[2].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = options.keys() - {"durability", "patience", "network"}
    if unknown:
        raise OptionError(f"{url!r} has an unknown option {min(unknown)!r}; known are durability, patience, network")
    if rest == "//:memory:":
        path = None
    elif rest.startswith("///") and len(rest) > 3:
        path = Path(unquote(rest[3:])).absolute()
    else:
        raise OptionError(f"{url!r} names no file; use sqlite:///file.db, sqlite:////path/file.db or sqlite://:memory:")
    durability = options.get("durability", "default")
    if durability not in _LEVELS:
        raise OptionError(f"durability {durability!r} is not to be had from SQLite; use default or fsync")
    return Location(path, durability, _patience(options.get("patience", "10")), options.get("network") == "yes")


def _patience(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise OptionError(f"patience must be between 0 and 3600 seconds, not {text!r}")
    return value


def prepare(location: Location) -> None:
    """Check library, folder and file system, and make the file, readable by its owner alone, if it is not there."""
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreUnsupported(
            f"SQLite {sqlite3.sqlite_version} is too old, {'.'.join(map(str, OLDEST))} is needed; "
            "use a Python linked with a newer SQLite, or Redis or PostgreSQL"
        )
    if location.path is None:
        return
    if not is_mended(sqlite3.sqlite_version_info):
        log.debug(
            "SQLite %s has the WAL-reset race that 3.51.3 mends: checkpoints are made by writers only, "
            "and other programs on %s should set wal_autocheckpoint = 0",
            sqlite3.sqlite_version,
            location.path,
        )
    folder = location.path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"there is no folder {folder} for the database {location.path.name}; make it first")
    kind = file_system(folder)
    if kind in _NETWORK and not location.network:
        raise StoreUnsupported(
            f"{location.path} is on a network file system ({kind}), where SQLite's locks cannot be trusted; "
            "use a local disk, or Redis or PostgreSQL"
        )
    try:
        os.close(os.open(location.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        said = f"the database {location.path} cannot be made: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreReadOnly(f"{said}; check who may write there") from error
        raise StoreUnavailable(f"{said}; free what is used up and try again") from error


def is_mended(version: tuple[int, ...]) -> bool:
    """Whether a release of SQLite is free of the WAL-reset race."""
    return version >= FIXED[0] or any(version[:2] == fixed[:2] and version >= fixed for fixed in FIXED[1:])


def file_system(folder: Path) -> str:
    """The type of the file system that holds `folder`; empty where the machine does not tell."""
    try:
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    target, best, kind = folder.resolve(), -1, ""
    for line in mounts:
        fields = line.split(" ")
        point = Path(fields[1].replace("\\040", " "))
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def connect(location: Location, *, writing: bool) -> sqlite3.Connection:
    """Open a connection whose transactions are begun and ended by hand; raises `StoreError` and its kin."""
    target = ":memory:" if location.path is None else str(location.path)
    try:
        connection = sqlite3.connect(
            target, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            _configure(connection, location, writing=writing)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise translate(error, location) from error
    return connection


def _configure(connection: sqlite3.Connection, location: Location, *, writing: bool) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE}")
    connection.execute(f"PRAGMA busy_timeout = {int(location.patience * 1000)}")
    if location.path is not None:
        [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnsupported(
                f"{location.path} cannot be put into WAL mode (it is {mode}); use another file system"
            )
    connection.execute(f"PRAGMA synchronous = {_LEVELS[location.durability]}")
    # One checkpointer, in the writer: before the releases in FIXED, a checkpoint that runs beside a commit of
    # another connection can lose pages. See docs/decisions/sqlite.md.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -16000")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA trusted_schema = OFF")
    if not writing:
        connection.execute("PRAGMA query_only = ON")


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the database was locked by somebody else, so that asking again may help."""
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_undecodable(error: sqlite3.Error) -> bool:
    """Whether a text in the database is not UTF-8; the driver has no code for it, only words."""
    return isinstance(error, sqlite3.OperationalError) and "Could not decode to UTF-8" in str(error)


def translate(error: sqlite3.Error, location: Location) -> StoreError:
    """Say in our words what SQLite complains about: fact, file, remedy."""
    where = "the database in memory" if location.path is None else str(location.path)
    match _primary(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreUnavailable(
                f"{where} has been locked by another process for {location.patience:g} seconds; "
                "end the transaction that holds it, or raise patience in the URL"
            )
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"no room to write to {where}: {error}; free some disk space, work goes on by itself")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreReadOnly(f"{where} may not be written: {error}; check the rights of the file and its folder")
        case sqlite3.SQLITE_CANTOPEN:
            return StoreUnavailable(f"{where} cannot be opened: {error}; check that it is there and may be read")
        case sqlite3.SQLITE_NOTADB:
            return StoreCorrupt(f"{where} is not a SQLite database; give the path of another file")
        case sqlite3.SQLITE_CORRUPT:
            return StoreCorrupt(f"{where} is damaged: {error}; restore a backup, or salvage it with sqlite3's .recover")
        case sqlite3.SQLITE_IOERR:
            return StoreUnavailable(f"reading or writing {where} failed: {error}; check the disk")
        case _:
            return StoreError(f"SQLite refused a statement on {where}: {error}")


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
