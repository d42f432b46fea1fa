"""Empty places to keep jobs in while they are measured: one call gives a URL, and at its end all is gone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench.servers import postgres, valkey

__all__ = ["LIMITS", "STORES", "fresh"]

STORES = ("sqlite", "redis", "postgres")

LIMITS = {"sqlite": "limit", "redis": "limit_redis", "postgres": "limit_postgres"}
"""The programs that are the limit loops."""


@contextmanager
def fresh(store: str) -> Iterator[str]:
    """A file in a folder of its own, or a server of its own, with nothing in it."""
    match store:
        case "sqlite":
            with tempfile.TemporaryDirectory(prefix="muskox-bench-") as folder:
                yield f"sqlite:///{folder}/jobs.db"
        case "redis":
            with valkey() as url:
                yield url
        case _:
            with postgres() as url:
                yield url
