"""What the SQL stores share: named statements and numbered migrations, read from package data.

It opens no connection and knows no dialect.
"""

from __future__ import annotations

import re
from importlib.resources import files

__all__ = ["migrations", "statements"]

_NAME = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)


def statements(package: str, file: str = "statements.sql") -> dict[str, str]:
    """Read the blocks of a file that begin with `-- name: …`, by their names, without their comments."""
    text = files(package).joinpath(file).read_text()
    parts = _NAME.split(text)[1:]
    return {name: _bare(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def migrations(package: str) -> list[tuple[str, list[str]]]:
    """Read the numbered files of a store in their order: name without suffix, and its statements."""
    folder = files(package).joinpath("migrations")
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(name.removesuffix(".sql"), _split(folder.joinpath(name).read_text())) for name in found]


def _bare(body: str) -> str:
    lines = (line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("--"))
    return "\n".join(lines).rstrip(";")


def _split(text: str) -> list[str]:
    # Migrations keep to statements without a semicolon inside, so that no parser is needed.
    return [statement for part in _bare(text).split(";") if (statement := part.strip())]
