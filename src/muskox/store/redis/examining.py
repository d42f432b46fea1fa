"""Looks at the server and its settings for `examine`: what is sound, what is not, and what to do. It changes nothing.

Everything is from INFO and TIME, which the least rights that Muskox needs include.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from muskox.store.protocol import Check
from muskox.store.redis.link import Link
from muskox.store.redis.location import Location
from muskox.store.redis.server import read_info

__all__ = ["examine"]

_SKEW = 60.0
_FULL = 0.9


async def examine(link: Link, now: float) -> list[Check]:
    """What can be said about a server without reading any job."""
    info = read_info((await link.ask("INFO")).decode("utf-8", "replace"))
    seconds, micros = await link.ask("TIME")
    skew = int(seconds) + int(micros) / 1e6 - now
    clock = Check(
        abs(skew) < _SKEW, f"the clocks of server and this machine differ by {abs(skew):.1f} s",
        "let both follow a time server; jobs added with at= would be due at the wrong moment",
    )  # fmt: skip
    return [*_server(info), *_memory(info), *_disk(info, link.location), clock]


def _server(info: Mapping[str, str]) -> Iterator[Check]:
    kind = "valkey" if "valkey_version" in info else "redis"
    said = f"{kind.capitalize()} {info.get(f'{kind}_version', 'of an unknown version')}, {info.get('redis_mode', '')}"
    replicas = int(info.get("connected_slaves", 0))
    yield Check(True, f"{said}, {replicas} replica{'' if replicas == 1 else 's'}")
    clients, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if most:
        yield Check(
            clients < most * _FULL, f"{clients} of {most} connections are in use",
            "raise maxclients, or lower connections in the URLs",
        )  # fmt: skip


def _memory(info: Mapping[str, str]) -> Iterator[Check]:
    policy, evicted = info.get("maxmemory_policy", "unknown"), int(info.get("evicted_keys", 0))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    yield Check(
        policy == "noeviction", f"maxmemory-policy is {policy}",
        "set it to noeviction: a server that evicts keys loses jobs",
    )  # fmt: skip
    if evicted:
        yield Check(
            False, f"{evicted} keys have been evicted since the server began", "jobs may be lost; run `muskox audit`"
        )
    said = f"{used / 2**20:,.1f} MB of memory are in use"
    if most:
        yield Check(
            used < most * _FULL,
            f"{said}, of {most / 2**20:,.1f}",
            "raise maxmemory, or clean ended jobs; full, it refuses jobs",
        )
    else:
        yield Check(True, f"{said}, without a limit")


def _disk(info: Mapping[str, str], location: Location) -> Iterator[Check]:
    if info.get("aof_enabled") == "1":
        ok = info.get("aof_last_write_status", "ok") == "ok"
        said = f"the append-only file is on, durability {location.durability}"
        yield Check(
            ok, said if ok else "the last write to the append-only file failed",
            "free disk space; until then jobs are in memory only",
        )  # fmt: skip
    else:
        changes = info.get("rdb_changes_since_last_save", "?")
        yield Check(
            False, f"the append-only file is off: {changes} changes since the last snapshot are in memory only",
            "set appendonly yes, or a crash of the server loses them",
        )  # fmt: skip
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield Check(
            False, "the last snapshot could not be written", "look into the server's log; check disk and memory"
        )
