"""Reads the URL of a PostgreSQL store. It opens nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from muskox.core.errors import OptionError

__all__ = ["Location", "parse"]

LEVELS = ("default", "fsync", "replicated")

_KNOWN = ("schema", "durability", "patience", "pool", "prepare", "listen", "migrate")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,49}")


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is and how it is used.

    `conninfo` and `listen` are in libpq's form; `listen` is for the connection that hears notifications, None for
    none. `patience` is for how many seconds a verb waits for its answer, `pool` how many connections there are at most.
    """

    conninfo: str
    schema: str = "muskox"
    durability: str = "default"
    patience: float = 10.0
    pool: int = 5
    prepare: bool = False
    listen: str | None = None
    migrate: bool = True

    @property
    def said(self) -> str:
        """Host, port and database as they may be shown: without user and password."""
        given = conninfo_to_dict(self.conninfo)
        host = given.get("host") or given.get("hostaddr") or "localhost"
        return f"{host}:{given.get('port') or 5432}/{given.get('dbname') or given.get('user') or ''}"


def parse(url: str) -> Location:
    """Read `postgresql://user@host:port/database`, with options after `?`; those that are not ours are libpq's.

    Ours: `schema` (muskox), `durability` (default, fsync, replicated), `patience` (seconds), `pool` (connections at
    most), `prepare=yes` (prepared statements; not behind a pooler that cannot keep them), `listen` (a URL that goes to
    the server directly, for notifications; no: none) and `migrate=no`. Raises `OptionError` for anything else.
    """
    rest, _, query = url.partition(":")[2].partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    ours = {name: value for name, value in options if name in _KNOWN}
    theirs = urlencode([(name, value) for name, value in options if name not in _KNOWN])
    conninfo = _conninfo(f"postgresql:{rest}{'?' if theirs else ''}{theirs}")
    schema = ours.get("schema", "muskox")
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        raise OptionError(f"schema {schema[:60]!r} is not allowed; use up to 50 of a-z 0-9 _, not beginning with pg_")
    durability = ours.get("durability", "default")
    if durability not in LEVELS:
        raise OptionError(f"durability {durability!r} is not known; use one of {', '.join(LEVELS)}")
    listen = ours.get("listen", "")
    return Location(
        conninfo, schema, durability,
        patience=_number("patience", ours.get("patience", "10"), 0.1, 3600),
        pool=int(_number("pool", ours.get("pool", "5"), 2, 1000)),
        prepare=_yes("prepare", ours.get("prepare", "no")),
        listen=None if listen == "no" else _conninfo(listen) if listen else conninfo,
        migrate=_yes("migrate", ours.get("migrate", "yes")),
    )  # fmt: skip


def _conninfo(url: str) -> str:
    try:
        return make_conninfo("", **conninfo_to_dict(url))
    except psycopg.ProgrammingError as error:
        # libpq's own words quote the part it cannot read, which may be a password.
        raise OptionError(
            "the PostgreSQL URL cannot be read; use postgresql://user:password@host:port/database, "
            "special characters percent-encoded"
        ) from error


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:
        raise OptionError(f"{name} must be between {least:g} and {most:g}, not {text!r}")
    return value


def _yes(name: str, text: str) -> bool:
    if text not in {"yes", "no"}:
        raise OptionError(f"{name} must be yes or no, not {text!r}")
    return text == "yes"
