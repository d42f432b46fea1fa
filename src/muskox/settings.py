"""Where a program's settings come from: its arguments, the environment, then `.env`.

Read when they are first needed and not while a module is imported.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from dotenv import dotenv_values

from muskox.core.errors import OptionError

__all__ = ["DEFAULT_URL", "find", "find_url", "masked"]

DEFAULT_URL = "sqlite:///muskox.db"
_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)


def find(name: str) -> str | None:
    """The environment's value of a setting, else that of `.env` in the current folder, else None.

    Raises `OptionError` when that file is needed and cannot be read.
    """
    return os.environ.get(name) or _from_file(name) or None


def _from_file(name: str) -> str | None:
    try:
        return dotenv_values(".env").get(name)
    except (OSError, UnicodeDecodeError) as error:
        # Not the text of the error: it may show what stands in the file.
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise OptionError(
            f"the file .env in {Path.cwd()} cannot be read: {why}; mend it, or set {name} in the environment"
        ) from None


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
