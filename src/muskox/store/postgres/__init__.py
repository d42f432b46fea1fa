"""The store in a PostgreSQL database, used by any number of processes and machines; `connect` makes it."""

from __future__ import annotations

from muskox.store.postgres.store import connect

__all__ = ["connect"]
