"""The only room with databases in it: `open_store` picks a store by its URL and imports just that one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from muskox.core.errors import StoreUnsupported
from muskox.core.seam import World
from muskox.store.protocol import Store

__all__ = ["open_store"]

_REDIS = "muskox.store.redis"
_STORES = {
    "postgres": "muskox.store.postgres",
    "postgresql": "muskox.store.postgres",
    "sqlite": "muskox.store.sqlite",
    **dict.fromkeys(
        ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"), _REDIS
    ),
    **dict.fromkeys(
        ("valkey", "valkeys", "valkey+cluster", "valkeys+cluster", "valkey+sentinel", "valkeys+sentinel"), _REDIS
    ),
}


def open_store(url: str, world: World) -> Store:
    """Make the store for `url`; nothing is opened before its `open`.

    Each store's package offers `connect(url, world)`. Raises `StoreUnsupported`
    for a scheme that no store has, and `OptionError` for a URL that it can't use.
    """
    scheme = url.partition(":")[0].lower()
    package = _STORES.get(scheme)
    if package is None:
        known = ", ".join(f"{name}:" for name in sorted(_STORES))
        raise StoreUnsupported(f"no store for URLs that begin with {scheme[:40]!r}; use one of {known}")
    connect = cast(Callable[[str, World], Store], importlib.import_module(package).connect)
    return connect(url, world)
