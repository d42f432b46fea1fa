"""Asks a server, when a store is opened, whether it can be trusted with jobs: its age, role, memory and disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from muskox.core.errors import StoreFull, StoreReadOnly, StoreUnavailable, StoreUnsupported
from muskox.store.redis.link import Link
from muskox.store.redis.location import Location

__all__ = ["check", "check_layout", "read_info"]

log = logging.getLogger("muskox.store")

OLDEST = {"redis": (6, 2), "valkey": (7, 2)}
LAYOUT = 1
"""How jobs are kept, by a number that grows when an older release would misread what a newer one writes."""
FLAGS_SINCE = (7, 0)
WAITAOF_SINCE = (7, 2)


async def check(link: Link) -> None:
    """Learn what the server can; raises `StoreUnsupported`, `StoreReadOnly` or `StoreUnavailable` with what to do."""
    info = read_info((await link.ask("INFO")).decode("utf-8", "replace"))
    location = link.location
    _check_version(info, location)
    link.flags = _version(info.get("redis_version", "")) >= FLAGS_SINCE
    if info.get("loading") == "1":
        raise StoreUnavailable(f"the Redis server at {location.shown} is still reading its data from disk; wait for it")
    if info.get("role") in {"slave", "replica"}:
        raise StoreReadOnly(
            f"the Redis server at {location.shown} is a replica, which takes no writes; "
            "use the address of the primary, or Sentinel: redis+sentinel://host:26379/service"
        )
    _check_eviction(info, location)
    if location.durability == "fsync":
        _check_disk(info, location)


async def check_layout(link: Link, meta: bytes) -> None:
    """Leave word of how jobs are kept here; raises `StoreUnsupported` where a newer release keeps them otherwise."""
    found = await link.ask(b"HGET", meta, b"layout")
    if found is None:
        try:
            await link.ask(b"HSETNX", meta, b"layout", LAYOUT)
        except StoreFull:
            log.debug("the server is full, so the layout is not written down yet")
    elif int(found) > LAYOUT:
        raise StoreUnsupported(
            f"the jobs at {link.location.shown} are kept in layout {int(found)} by a newer release of Muskox, "
            f"and this one knows layouts up to {LAYOUT}; upgrade Muskox"
        )


def read_info(text: str) -> dict[str, str]:
    """What the answer to INFO says, name by name."""
    pairs = (line.partition(":") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())


def _check_version(info: Mapping[str, str], location: Location) -> None:
    kind = "valkey" if "valkey_version" in info else "redis"
    text = info.get(f"{kind}_version", "")
    if _version(text) < OLDEST[kind]:
        needed = " or ".join(f"{name.capitalize()} {'.'.join(map(str, least))}" for name, least in OLDEST.items())
        raise StoreUnsupported(
            f"the server at {location.shown} is {kind.capitalize()} {text or 'of an unknown version'}, "
            f"which is too old; {needed} or newer is needed"
        )


def _check_eviction(info: Mapping[str, str], location: Location) -> None:
    policy = info.get("maxmemory_policy")
    if policy is None:
        log.warning(
            "the Redis server at %s does not tell its maxmemory-policy; make sure that it is noeviction, "
            "since a server that evicts keys loses jobs",
            location.shown,
        )
    elif policy != "noeviction":
        said = (
            f"the Redis server at {location.shown} has maxmemory-policy {policy}: "
            "when memory runs short it deletes keys, and so loses jobs"
        )
        if not location.eviction:
            raise StoreUnsupported(f"{said}; set it to noeviction, or add ?eviction=allow to the URL to risk it")
        log.warning("%s; this was allowed by ?eviction=allow", said)


def _check_disk(info: Mapping[str, str], location: Location) -> None:
    if _version(info.get("redis_version", "")) < WAITAOF_SINCE:
        raise StoreUnsupported(
            f"durability fsync needs WAITAOF, which the server at {location.shown} does not know; "
            "Redis 7.2 and Valkey 7.2 do"
        )
    if info.get("aof_enabled") != "1":
        raise StoreUnsupported(
            f"durability fsync needs the append-only file, which is off on the server at {location.shown}; "
            "set appendonly yes"
        )
