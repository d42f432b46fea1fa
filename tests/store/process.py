"""What the processes of `test_processes.py` run: `python -m tests.store.process VERB URL …`.

Each prints one line per fact when it is acknowledged, so that whoever kills it knows what it had been told.
"""

from __future__ import annotations

import asyncio
import sys

from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Store, Want
from tests.store.schedules import firing, read

ANY = [Want("files")]


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - its output is what it is for


async def drain(store: Store, worker: str) -> None:
    """Claim and complete until nothing waits."""
    while jobs := await store.claim(ANY, limit=7, worker=worker, lease=60):
        lost = await store.settle([Complete(job.lease, f'"{worker}"') for job in jobs])
        for job in jobs:
            say("lost" if job.lease in lost else "done", job.id, job.lease.token)


async def hold(store: Store, limit: str, lease: str) -> None:
    """Claim and never answer."""
    for job in await store.claim(ANY, limit=int(limit), worker="holder", lease=float(lease)):
        say("held", job.id)
    say("ready")
    await asyncio.Event().wait()


async def fill(store: Store, prefix: str, count: str) -> None:
    """Add one by one, as a web server would; tell the longest wait at the end."""
    world, longest = RealWorld(), 0.0
    for number in range(int(count)):
        start = world.monotonic()
        [added] = await store.add([NewJob(f"{prefix}-{number}", "files", "resize")])
        longest = max(longest, world.monotonic() - start)
        say("added", added.job.id)
    say("longest", longest)


async def churn(store: Store, prefix: str) -> None:
    """Add, claim and complete for ever, many at a time: made to be killed."""
    number = 0
    while True:
        ids = [f"{prefix}-{number + step}" for step in range(5)]
        number += 5
        await store.add([NewJob(id, "files", "resize", data='"' + "x" * 300 + '"') for id in ids])
        say("added", *ids)
        jobs = await store.claim(ANY, limit=4, worker=prefix, lease=600)
        lost = await store.settle([Complete(job.lease) for job in jobs])
        say("done", *(job.id for job in jobs if job.lease not in lost))


async def once(store: Store, id: str) -> None:
    """Add one job when told to."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    await store.add([NewJob(id, "files", "resize")])
    say("added", id)


async def race(store: Store, end: str) -> None:
    """Fire the moments of a schedule until the last, against others who do so; tell those that were won."""
    while True:
        seen = await read(store)
        if seen.next_us is None or seen.next_us >= int(end):
            return
        if await store.fire([firing(seen)]) == [1]:
            say("won", seen.next_us)


async def late(store: Store) -> None:
    """Read what is due, and fire it when told to."""
    seen = await read(store)
    say("read")
    await asyncio.to_thread(sys.stdin.readline)
    say("fired", *await store.fire([firing(seen)]))


async def burn(store: Store, *names: str) -> None:
    """Fire one moment of all schedules after the other for ever: made to be killed."""
    while True:
        seen = (await store.schedules(names)).kept
        if all(answer == 1 for answer in await store.fire([firing(one) for one in seen])):
            say("fired", seen[0].next_us)


VERBS = {verb.__name__: verb for verb in (drain, hold, fill, churn, once, race, late, burn)}


async def main(verb: str, url: str, *words: str) -> None:
    store = open_store(url, RealWorld())
    await store.open()
    try:
        await VERBS[verb](store, *words)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
