"""The names that senders give their files: kept to be shown, made harmless, and never used as a path."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

__all__ = ["disposition", "shown_name"]

_LONGEST = 255


def shown_name(given: str, fallback: str) -> str:
    """A name without folders, control characters and direction marks, at most 255 characters."""
    last = given.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(
        letter for letter in last if unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    )
    # A sender's 255 characters may be more bytes than a column of some database takes.
    return kept.strip()[:_LONGEST].strip() or fallback


def disposition(kind: str, name: str) -> str:
    """A `Content-Disposition` for that name (RFC 6266): plain letters for old readers, all of it for the others."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-._ ") else "_" for letter in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
