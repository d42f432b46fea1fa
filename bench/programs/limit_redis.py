"""The limit loop for Redis: the barest loop one can write with redis-py, hiredis and two Lua scripts.

It has no leases, no attempts, no events, no second worker and no mercy: what it
does per second is what the server and the interpreter give at best, not a queue.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable

import msgspec
import redis.asyncio as redis

__all__ = ["drain", "fill", "fill_ids"]

BATCH = 200

_ADD = """
for i = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('RPUSH', KEYS[1], ARGV[i])
end
"""
# As the loops for other stores do it, a job is in one of three states: waiting, active, done.
_CLAIM = """
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
if not ids then return {} end
redis.call('SADD', KEYS[3], unpack(ids))
return { ids, redis.call('HMGET', KEYS[2], unpack(ids)) }
"""
_SETTLE = """
redis.call('SREM', KEYS[1], unpack(ARGV))
redis.call('RPUSH', KEYS[2], unpack(ARGV))
"""


async def fill(url: str, jobs: int, batch: int) -> dict[str, float]:
    """Add jobs under short numbers, one script per batch."""
    return await _fill(url, (str(number) for number in range(jobs)), jobs, batch)


async def fill_ids(url: str, jobs: int, batch: int) -> dict[str, float]:
    """`fill`, with a random id made by the client for each job."""
    return await _fill(url, (str(uuid.uuid4()) for _ in range(jobs)), jobs, batch)


async def _fill(url: str, ids: Iterable[str], jobs: int, batch: int) -> dict[str, float]:
    async with redis.from_url(url, protocol=3) as client:
        add = client.register_script(_ADD)
        begun = time.perf_counter()
        numbered = enumerate(ids)
        while rows := list(itertools.islice(numbered, batch)):
            parts = [part for index, id in rows for part in (id, msgspec.json.encode({"index": index}))]
            await add(keys=["{limit}:waiting", "{limit}:data"], args=parts)
        rate = jobs / (time.perf_counter() - begun)
    return {"rate": rate}


async def drain(url: str, with_ids: bool = False) -> dict[str, float]:  # noqa: ARG001 - the ids are where `fill` put them
    """Claim, decode, call and settle until nothing is left."""
    done = 0

    async def noop(index: int) -> None:  # noqa: ARG001 - as ours has
        nonlocal done
        done += 1

    async with redis.from_url(url, protocol=3) as client:
        claim, settle = client.register_script(_CLAIM), client.register_script(_SETTLE)
        begun, used = time.perf_counter(), time.process_time()
        keys = ["{limit}:waiting", "{limit}:data", "{limit}:active"]
        while claimed := await claim(keys=keys, args=[BATCH]):
            ids, texts = claimed
            for data in texts:
                await noop(**msgspec.json.decode(data))
            await settle(keys=["{limit}:active", "{limit}:done"], args=ids)
        rate, cost = done / (time.perf_counter() - begun), (time.process_time() - used) / done
    return {"rate": rate, "cost": cost * 1e6, "jobs": done}
