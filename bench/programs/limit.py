"""The limit loop for SQLite: the barest loop one can write with the driver of the standard library.

It has no leases, no attempts, no events, no second worker and no mercy: what it
does per second is what SQLite and the interpreter give at best, not a queue.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
import uuid
from collections.abc import Iterable

import msgspec

__all__ = ["drain", "fill", "fill_ids"]

BATCH = 200

_TABLE = """
CREATE TABLE jobs (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX jobs_waiting ON jobs (id) WHERE state = 0;
"""
# The same with ids made by clients, as every queue needs that may be asked again.
_TABLE_WITH_IDS = """
CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, data TEXT NOT NULL);
CREATE INDEX jobs_waiting ON jobs (seq) WHERE state = 0;
"""
_ADD = "INSERT INTO jobs (state, data) VALUES (0, ?)"
_CLAIM = """
UPDATE jobs
SET state = 1
WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT ?)
RETURNING id, data
"""
_CLAIM_WITH_IDS = _CLAIM.replace("WHERE id IN (SELECT id", "WHERE seq IN (SELECT seq").replace("BY id", "BY seq")
_SETTLE = "UPDATE jobs SET state = 2 WHERE id = ?"


def fill(url: str, jobs: int, batch: int) -> dict[str, float]:
    """Insert jobs by `executemany`, one transaction per batch."""
    db = _connect(url)
    db.executescript(_TABLE)
    begun = time.perf_counter()
    for numbers in _batches(range(jobs), batch):
        rows = [(msgspec.json.encode({"index": index}).decode(),) for index in numbers]
        db.execute("BEGIN IMMEDIATE")
        db.executemany(_ADD, rows)
        db.execute("COMMIT")
    rate = jobs / (time.perf_counter() - begun)
    db.close()
    return {"rate": rate}


def fill_ids(url: str, jobs: int, batch: int) -> dict[str, float]:
    """`fill`, with a random id made by the client for each job."""
    db = _connect(url)
    db.executescript(_TABLE_WITH_IDS)
    begun = time.perf_counter()
    for numbers in _batches(range(jobs), batch):
        rows = [(str(uuid.uuid4()), msgspec.json.encode({"index": index}).decode()) for index in numbers]
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO jobs (id, state, data) VALUES (?, 0, ?)", rows)
        db.execute("COMMIT")
    rate = jobs / (time.perf_counter() - begun)
    db.close()
    return {"rate": rate}


async def drain(url: str, with_ids: bool = False) -> dict[str, float]:
    """Claim, decode, call and settle until nothing is left, one transaction per batch."""
    db = _connect(url)
    claim = _CLAIM_WITH_IDS if with_ids else _CLAIM
    done = 0

    async def noop(index: int) -> None:  # noqa: ARG001 - as ours has
        nonlocal done
        done += 1

    begun, used = time.perf_counter(), time.process_time()
    while True:
        db.execute("BEGIN IMMEDIATE")
        claimed = db.execute(claim, (BATCH,)).fetchall()
        for _, data in claimed:
            await noop(**msgspec.json.decode(data))
        db.executemany(_SETTLE, [(id,) for id, _ in claimed])
        db.execute("COMMIT")
        if not claimed:
            break
    rate, cost = done / (time.perf_counter() - begun), (time.process_time() - used) / done
    db.close()
    return {"rate": rate, "cost": cost * 1e6, "jobs": done}


def _connect(url: str) -> sqlite3.Connection:
    db = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def _batches(numbers: Iterable[int], size: int) -> Iterable[list[int]]:
    rest = iter(numbers)
    while batch := list(itertools.islice(rest, size)):
        yield batch
