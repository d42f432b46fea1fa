"""The Redis and Valkey store: lists, hashes and one Lua file per step. `connect` makes it from a URL."""

from __future__ import annotations

from muskox.store.redis.store import connect

__all__ = ["connect"]
