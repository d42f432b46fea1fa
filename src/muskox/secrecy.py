"""Marks fields of job data that nobody shall see: `Secret[str]` in the annotations of a processor.

The mark changes nothing about how data is kept or given to a run; whoever shows
jobs, such as the dashboard, hides what is marked.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

__all__ = ["SECRET", "Secret"]

T = TypeVar("T")


class _Mark:
    def __repr__(self) -> str:
        return "SECRET"


SECRET = _Mark()
"""What stands in the annotation of a secret field."""

Secret = Annotated[T, SECRET]
"""`Secret[str]`: a `str` that is hidden wherever jobs are shown."""
