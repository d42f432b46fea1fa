"""Where a program's settings come from: its arguments, the environment, then `.env`.

Read when they are first needed and not while a module is imported.
"""

from __future__ import annotations

import os
import re

from dotenv import dotenv_values

__all__ = ["DEFAULT_URL", "find", "find_url", "masked"]

DEFAULT_URL = "sqlite:///muskox.db"
_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)


def find(name: str) -> str | None:
    """The environment's value of a setting, else that of `.env` in the current folder, else None."""
    return os.environ.get(name) or dotenv_values(".env").get(name) or None


def find_url() -> str:
    """Where the jobs are kept: `MUSKOX_URL`, else a file in the current folder."""
    return find("MUSKOX_URL") or DEFAULT_URL


def masked(url: str) -> str:
    """The URL with its passwords hidden, fit for logs and people, also where it is not a proper URL."""
    # Not by urlsplit: a password with an unescaped / or # in it must not slip through.
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if at:
        user, colon, _ = credentials.partition(":")
        rest = f"{user}{colon and ':***'}@{host}"
    return _SECRET.sub(r"\1***", scheme + separator + rest)
