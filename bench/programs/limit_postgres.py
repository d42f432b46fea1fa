"""The limit loop for PostgreSQL: the barest loop one can write with psycopg, two prepared statements per batch.

It has no leases, no attempts, no events and no mercy: what it does per second is
what the server and the interpreter give at best, not a queue.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable

import msgspec
import psycopg

__all__ = ["drain", "fill", "fill_ids"]

BATCH = 200

_TABLE = (
    "CREATE TABLE jobs (seq bigserial PRIMARY KEY, state smallint NOT NULL, data text NOT NULL)",
    "CREATE INDEX jobs_waiting ON jobs (seq) WHERE state = 0",
)
# The same with ids made by clients, as every queue needs that may be asked again.
_IDS = ("ALTER TABLE jobs ADD COLUMN id text NOT NULL", "CREATE UNIQUE INDEX jobs_id ON jobs (id)")
_ADD = "INSERT INTO jobs (state, data) SELECT 0, data FROM unnest(%s::text[]) AS data"
_ADD_WITH_IDS = (
    "INSERT INTO jobs (state, id, data) SELECT 0, n.id, n.data FROM unnest(%s::text[], %s::text[]) AS n (id, data)"
)
_CLAIM = """
WITH next AS MATERIALIZED (
    SELECT seq FROM jobs WHERE state = 0 ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET state = 1 FROM next WHERE jobs.seq = next.seq RETURNING jobs.seq, jobs.data
"""
_SETTLE = "UPDATE jobs SET state = 2 WHERE seq = ANY (%s)"
_CLAIM_WITH_IDS = _CLAIM.replace("RETURNING jobs.seq", "RETURNING jobs.id")
_SETTLE_WITH_IDS = "UPDATE jobs SET state = 2 WHERE id = ANY (%s)"


async def fill(url: str, jobs: int, batch: int) -> dict[str, float]:
    """Insert jobs by one statement per batch."""
    async with await _connect(url) as db:
        for said in _TABLE:
            await db.execute(said)
        begun = time.perf_counter()
        for numbers in _batches(range(jobs), batch):
            await db.execute(_ADD, ([msgspec.json.encode({"index": index}).decode() for index in numbers],))
        rate = jobs / (time.perf_counter() - begun)
    return {"rate": rate}


async def fill_ids(url: str, jobs: int, batch: int) -> dict[str, float]:
    """`fill`, with a random id made by the client for each job."""
    async with await _connect(url) as db:
        for said in (*_TABLE, *_IDS):
            await db.execute(said)
        begun = time.perf_counter()
        for numbers in _batches(range(jobs), batch):
            data = [msgspec.json.encode({"index": index}).decode() for index in numbers]
            await db.execute(_ADD_WITH_IDS, ([str(uuid.uuid4()) for _ in numbers], data))
        rate = jobs / (time.perf_counter() - begun)
    return {"rate": rate}


async def drain(url: str, with_ids: bool = False) -> dict[str, float]:
    """Claim, decode, call and settle until nothing is left, one transaction per statement."""
    claim, settle = (_CLAIM_WITH_IDS, _SETTLE_WITH_IDS) if with_ids else (_CLAIM, _SETTLE)
    done = 0

    async def noop(index: int) -> None:  # noqa: ARG001 - as ours has
        nonlocal done
        done += 1

    async with await _connect(url) as db:
        await db.execute("ANALYZE jobs")
        begun, used = time.perf_counter(), time.process_time()
        while claimed := await (await db.execute(claim, (BATCH,))).fetchall():
            for _, data in claimed:
                await noop(**msgspec.json.decode(data))
            await db.execute(settle, ([id for id, _ in claimed],))
        rate, cost = done / (time.perf_counter() - begun), (time.process_time() - used) / done
    return {"rate": rate, "cost": cost * 1e6, "jobs": done}


async def _connect(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0)


def _batches(numbers: Iterable[int], size: int) -> Iterable[list[int]]:
    rest = iter(numbers)
    while batch := list(itertools.islice(rest, size)):
        yield batch
