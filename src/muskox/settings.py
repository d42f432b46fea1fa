"""Where a program's settings come from: its arguments, the environment, then `.env`.

Read when they are first needed and not while a module is imported.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values

__all__ = ["DEFAULT_URL", "find", "find_url", "masked"]

DEFAULT_URL = "sqlite:///muskox.db"


def find(name: str) -> str | None:
    """The environment's value of a setting, else that of `.env` in the current folder, else None."""
    return os.environ.get(name) or dotenv_values(".env").get(name) or None


def find_url() -> str:
    """Where the jobs are kept: `MUSKOX_URL`, else a file in the current folder."""
    return find("MUSKOX_URL") or DEFAULT_URL


def masked(url: str) -> str:
    """The URL with its password hidden, fit for logs and people."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))
