"""The store in one SQLite file, used by several processes at once; `connect` makes it."""

from __future__ import annotations

from muskox.store.sqlite.store import connect

__all__ = ["connect"]
