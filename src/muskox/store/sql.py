"""What the SQL stores share: named statements and numbered migrations, read from package data.

A migration whose file has a line `-- readers: 0001` leaves tables with which releases may go on working that know
the migrations up to that one only; without it, only those that know the migration itself. This is how the release
before keeps running during a deploy. It opens no connection and knows no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Migration", "migrations", "reader", "statements", "unreadable"]

_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)
_READERS = re.compile(r"^-- readers: *(\S+) *$", re.MULTILINE)


class Migration(NamedTuple):
    """One numbered file: its name without suffix, its statements, and who may read the tables after it."""

    name: str
    statements: list[str]
    reader: str


def statements(package: str, file: str = "statements.sql") -> dict[str, str]:
    """Read the blocks of a file that begin with `-- name: …`, by their names, without their comments."""
    text = files(package).joinpath(file).read_text()
    parts = _NAME.split(text)[1:]
    return {name: _bare(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def migrations(package: str) -> list[Migration]:
    """Read the numbered files of a store in their order."""
    folder = files(package).joinpath("migrations")
    texts = {
        entry.name.removesuffix(".sql"): entry.read_text() for entry in folder.iterdir() if entry.name.endswith(".sql")
    }
    return [Migration(name, _split(text), reader(name, text)) for name, text in sorted(texts.items())]


def reader(name: str, text: str) -> str:
    """The last migration that a release must know to work with the tables after this one."""
    said = _READERS.search(text)
    return said[1] if said else name


def unreadable(done: Mapping[str, str | None], known: Collection[str]) -> str | None:
    """The last of the migrations done, with their readers, that forbids a release with the known ones to go on."""
    latest = max(known)
    return max((name for name, least in done.items() if name not in known and (least or name) > latest), default=None)


def _bare(body: str) -> str:
    lines = (line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("--"))
    return "\n".join(lines).rstrip(";")


def _split(text: str) -> list[str]:
    # Migrations keep to statements without a semicolon inside, so that no parser is needed.
    return [statement for part in _bare(text).split(";") if (statement := part.strip())]
