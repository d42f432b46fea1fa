"""Many jobs at once: whatever is due, ended or starting in the same moment is worked off in bounded steps."""

from __future__ import annotations

import asyncio

from muskox.core.job import JobState, NewJob, Retention
from muskox.core.life import Complete, Fail
from muskox.store.protocol import Selection, Want
from tests.store.reading import BROKEN, events, figures

MANY = 20_000
"""Raise it to a million to see the same at full size; some stores need minutes for it."""
BATCH = 1000
OTHERS = 10


async def fill(store, queue, count, **fields):
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        await store.add([NewJob(f"{queue}-{number}", queue, "resize", **fields) for number in numbers])


async def take(store, queue, limit=1):
    return await store.claim([Want(queue)], limit=limit, worker="w", lease=600)


async def work_off(store, clock, queue):
    """Claim and complete until nothing waits, a batch each millisecond; gives the ids in the order of their claims."""
    ids = []
    while jobs := await take(store, queue, BATCH):
        clock.advance(0.001)
        ids += [job.id for job in jobs]
        assert await store.settle([Complete(job.lease) for job in jobs]) == []
    return ids


async def test_fault_b01_jobs_due_in_one_moment_are_promoted_in_batches_and_hold_up_no_other_queue(store, clock):
    await fill(store, "due", MANY, delay=60)
    await fill(store, "other", OTHERS)
    clock.advance(60)
    batches, seen = [], []

    async def promote():
        while moved := await store.promote(limit=BATCH):
            batches.append(moved)

    async def claim():
        while jobs := await take(store, "other"):
            seen.append((jobs[0].id, sum(batches)))

    await asyncio.gather(promote(), claim())

    assert batches == [BATCH] * (MANY // BATCH)
    assert [id for id, _ in seen] == [f"other-{number}" for number in range(OTHERS)]
    assert seen[-1][1] < MANY, "the other queue was served only when all had been promoted"
    assert await figures(store, "due") == {"waiting": MANY}
    ids = await work_off(store, clock, "due")
    assert sorted(ids) == sorted(f"due-{number}" for number in range(MANY))
    assert await figures(store, "due") == {"completed": MANY}
    assert await store.audit() == []


async def not_ended(store, queue):
    """One job in each state that has not ended; gives them as they are."""
    for id in ("waits", "later", "runs", "again"):
        await store.add([NewJob(id, queue, id, delay=10**7 if id == "later" else 0.0)])
    [_, again] = await store.claim([Want(queue, frozenset({"runs", "again"}))], limit=2, worker="w", lease=10**7)
    assert again.id == "again"
    await store.settle([Fail(again.lease, BROKEN)])
    await store.retry(Selection(queue, ids=("again",)))
    return await store.get(queue, ["waits", "later", "runs", "again"])


async def clear_all(store, rules):
    """Clear until nothing is left to clear; gives what each call took."""
    taken = []
    while cleared := await store.clear(rules, limit=BATCH):
        taken.append(cleared)
    return taken


async def test_fault_b06_of_many_ended_jobs_the_oldest_go_by_count_then_all_by_age_a_batch_at_a_time(store, clock):
    count, kept = MANY // 4, BATCH
    await fill(store, "files", count)
    ids = await work_off(store, clock, "files")
    left = await not_ended(store, "files")

    by_count = await clear_all(store, {"files": Retention(completed_most=kept)})

    assert by_count == [BATCH] * ((count - kept) // BATCH)
    assert await figures(store) == {"completed": kept, "waiting": 2, "delayed": 1, "active": 1}
    found = await store.find(Selection("files", states=(JobState.COMPLETED,), limit=kept + 1))
    assert {job.id for job in found.jobs} == set(ids[-kept:])

    clock.advance(86_401)
    by_age = await clear_all(store, {})

    assert by_age == [kept]
    assert await store.get("files", [job.id for job in left]) == left
    assert await store.audit() == []


async def test_fault_b06_clearing_goes_on_beside_claims_and_never_takes_what_has_not_ended(store, clock):
    await fill(store, "old", 3 * BATCH)
    await work_off(store, clock, "old")
    clock.advance(86_401)
    await fill(store, "new", BATCH)
    taken, claimed = [], []

    async def clear():
        while cleared := await store.clear({}, limit=BATCH // 2):
            taken.append(cleared)

    async def claim():
        while jobs := await take(store, "new", 50):
            claimed.extend(job.id for job in jobs)
            await store.settle([Complete(job.lease) for job in jobs])

    await asyncio.gather(clear(), claim())

    assert taken == [BATCH // 2] * 6
    assert len(claimed) == len(set(claimed)) == BATCH
    assert [await figures(store, queue) for queue in ("old", "new")] == [{}, {"completed": BATCH}]
    assert [event for event in await events(store) if event.kind == "removed"] == []
    assert await store.audit() == []
