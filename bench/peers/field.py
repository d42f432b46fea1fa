"""Who takes part: each system with its settings and with what it promises. Data only.

What is said of a killed worker and of what is kept was read in each system's code and pages at the pinned
version, with the defaults that are measured here; it is not measured by this benchmark.
"""

from __future__ import annotations

import importlib.util

import msgspec

__all__ = ["AT_LEAST_ONCE", "FIELD", "OURS", "Peer", "field"]

AT_LEAST_ONCE = "at least once"
AT_MOST_ONCE = "at most once"


class Peer(msgspec.Struct, frozen=True):
    """One system on one store.

    `pins` names its environment, "" the interpreter of the benchmark; `slots` are the numbers of jobs at a
    time that are tried, of which the fastest is taken; `query` is put at the end of the store's URL.
    """

    name: str
    program: str
    pins: str
    slots: tuple[int, ...]
    settings: str
    bulk: str
    guarantee: str
    killed: str
    kept: str
    query: str = ""
    node: bool = False


OURS = "Muskox"

# Ours runs in the environment of the benchmark, which may have uvloop or not.
_LOOP = "asyncio on uvloop" if importlib.util.find_spec("uvloop") else "asyncio"

_MUSKOX = Peer(
    name=OURS,
    program="side_muskox.py",
    pins="",
    slots=(100,),
    settings=f"{_LOOP}, concurrency 100, public API and defaults",
    bulk="`add_many`, 1000 at a time",
    guarantee=AT_LEAST_ONCE,
    killed="runs again when its lease is over (30 s), at most `max_stalls` times (1)",
    kept="record with result and attempts (24 h or 10 000), events (capped)",
)
_BULLMQ = Peer(
    name="BullMQ (Node)",
    program="side_bullmq_node.mjs",
    pins="bullmq-node",
    node=True,
    slots=(100,),
    settings="ioredis, concurrency 100",
    bulk="`addBulk`, 1000 at a time",
    guarantee=AT_LEAST_ONCE,
    killed="runs again when its lock is over and the next check finds it (30 s each), at most once",
    kept="record with result for ever, the last 10 000 events",
)
_BULLMQ_PYTHON = Peer(
    name="BullMQ (Python)",
    program="side_bullmq_python.py",
    pins="bullmq-python",
    slots=(100,),
    settings="asyncio on uvloop, hiredis, concurrency 100",
    bulk="`addBulk`, 1000 at a time",
    guarantee=AT_LEAST_ONCE,
    killed="as BullMQ (Node)",
    kept="record with result for ever, the last 10 000 events",
)
_SAQ = Peer(
    name="SAQ",
    program="side_saq.py",
    pins="saq",
    slots=(100,),
    settings="asyncio on uvloop, hiredis, concurrency 100",
    bulk="none; 1000 by `asyncio.gather`, 20 at a time (its default)",
    guarantee="at most once by default (`retries=1`); at least once with more",
    killed="found by the sweep (60 s) after its timeout (10 s), then aborted; runs again if `retries` is more than 1",
    kept="record with result for 600 s, no events",
)
_ARQ = Peer(
    name="arq",
    program="side_arq.py",
    pins="arq",
    slots=(100,),
    settings="asyncio on uvloop, hiredis, max_jobs 100",
    bulk="none; 1000 by `asyncio.gather`, 100 at a time",
    guarantee=AT_LEAST_ONCE,
    killed="runs again after the longest timeout and 10 s (310 s); a job that waits longer than a day is gone",
    kept="result for 1 h, no events",
)
_TASKIQ = Peer(
    name="Taskiq",
    program="side_taskiq.py",
    pins="taskiq",
    slots=(100,),
    settings="asyncio on uvloop, hiredis, `RedisStreamBroker`, 100 tasks at a time, 100 prefetched",
    bulk="none; 1000 by `asyncio.gather`, 100 at a time",
    guarantee=AT_LEAST_ONCE,
    killed="runs again once idle for 10 min; one that runs longer than that runs twice",
    kept="nothing without a result backend (none here); the stream keeps every message until it is trimmed",
)
_DRAMATIQ = Peer(
    name="Dramatiq",
    program="side_dramatiq.py",
    pins="dramatiq",
    slots=(1, 4, 8),
    settings="threads: {slots}; hiredis",
    bulk="none; one after the other",
    guarantee=AT_LEAST_ONCE,
    killed="runs again after 60 s without a heartbeat, seen at one command in a thousand: late where little is done",
    kept="nothing",
)
_RQ = Peer(
    name="RQ",
    program="side_rq.py",
    pins="rq",
    slots=(1,),
    settings="`SimpleWorker` (no fork per job), one at a time, hiredis",
    bulk="`enqueue_many`, 1000 at a time",
    guarantee=f"{AT_MOST_ONCE} by default; at least once with `Retry`",
    killed="found by the clean-up of registries (10 min), then failed as abandoned",
    kept="record with result for 500 s, no events",
)
_CELERY = Peer(
    name="Celery",
    program="side_celery.py",
    pins="celery",
    slots=(1, 4, 8),
    settings="pool solo for 1, else threads: {slots}; without gossip and mingle, hiredis, no result backend",
    bulk="none; one after the other over one producer",
    guarantee=f"{AT_MOST_ONCE} by default (`acks_late` is off)",
    killed="lost if it had begun; what was only fetched comes back after 1 h",
    kept="nothing without a result backend (none here), events not stored",
)
_HUEY = Peer(
    name="Huey",
    program="side_huey.py",
    pins="huey",
    slots=(1, 4, 8),
    settings="threads: {slots}; hiredis",
    bulk="none; one after the other",
    guarantee=AT_MOST_ONCE,
    killed="lost: it is removed before it runs",
    kept="nothing (a result of None is not stored)",
)
_BULLMQ_POSTGRES = msgspec.structs.replace(
    _BULLMQ,
    settings="pg, concurrency 100",
    killed="as on Redis",
    kept="record with result for ever, events",
)
_SAQ_POSTGRES = msgspec.structs.replace(
    _SAQ, settings="asyncio on uvloop, psycopg 3, concurrency 100", bulk="none; 1000 by `asyncio.gather`, over its pool"
)
_HUEY_POSTGRES = msgspec.structs.replace(_HUEY, settings="threads: {slots}; psycopg 3")
_HUEY_SQLITE = msgspec.structs.replace(_HUEY, settings="threads: {slots}; as it comes: WAL, synchronous FULL")
_HUEY_NORMAL = msgspec.structs.replace(
    _HUEY,
    name="Huey, our durability",
    settings="threads: {slots}; WAL, synchronous NORMAL as ours (set by us, Huey has no such option)",
    query="?synchronous=NORMAL",
)
_PGQUEUER = Peer(
    name="PgQueuer",
    program="side_pgqueuer.py",
    pins="pgqueuer",
    slots=(10, 100, 300),
    settings="asyncio on uvloop, asyncpg, batch size {slots}",
    bulk="`enqueue` of lists, 1000 at a time",
    guarantee=AT_LEAST_ONCE,
    killed="runs again after 30 s without a heartbeat, as often as that happens",
    kept="the row is deleted; a log row per step, never removed; no result",
)
_PROCRASTINATE = Peer(
    name="Procrastinate",
    program="side_procrastinate.py",
    pins="procrastinate",
    slots=(100,),
    settings="asyncio on uvloop, psycopg 3, concurrency 100",
    bulk="`batch_defer_async`, 1000 at a time",
    guarantee="at least once if you schedule the rescue of stalled jobs yourself, else at most once",
    killed="stays in `doing` until a periodic task that you write takes it back",
    kept="record for ever, an event row per step; no result",
)

FIELD: dict[str, tuple[Peer, ...]] = {
    "redis": (
        _MUSKOX, _BULLMQ, _BULLMQ_PYTHON, _SAQ, _ARQ, _TASKIQ, _DRAMATIQ, _RQ, _CELERY, _HUEY,
    ),
    "postgres": (_MUSKOX, _PGQUEUER, _PROCRASTINATE, _BULLMQ_POSTGRES, _SAQ_POSTGRES, _HUEY_POSTGRES),
    "sqlite": (_MUSKOX, _HUEY_SQLITE, _HUEY_NORMAL),
}  # fmt: skip


def field(store: str, only: tuple[str, ...] = ()) -> list[Peer]:
    """Who takes part on a store, ours first; with `only`, of the others those whose names begin with such a word."""
    words = tuple(word.lower() for word in (OURS, *only))
    return [peer for peer in FIELD[store] if not only or peer.name.lower().startswith(words)]
