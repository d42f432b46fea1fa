"""Where a page of a list ended, as text that nobody needs to understand."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime

from muskox.web.problems import Problem

__all__ = ["cursor_at", "read_cursor", "read_moment"]


def cursor_at(*place: str) -> str:
    """Write a place down."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def read_cursor(text: str, parts: int) -> list[str]:
    """Read a place of so many parts; answers 422 for what is none of ours."""
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        found = None
    if not isinstance(found, list) or len(found) != parts or not all(isinstance(one, str) for one in found):
        raise Problem(422, "invalid_cursor", "the cursor is not one that this list gave; leave it out to begin anew")
    return found


def read_moment(text: str) -> datetime:
    """Read a moment out of a cursor; answers 422 for what is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise Problem(422, "invalid_cursor", "the cursor is not one that this list gave") from None
