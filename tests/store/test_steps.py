"""Steps: results kept with a job under its lease, through all that may become of it."""

from __future__ import annotations

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import JobState
from muskox.core.life import Complete, Fail, Release, Retry
from muskox.store.protocol import Note, Selection
from tests.store.reading import BROKEN

STEPS = '{"charge":{"id":7},"mail":null}'


async def steps(store, id="job"):
    [job] = await store.get("files", [id])
    return job.steps_text


async def test_steps_are_kept_and_replaced_as_a_whole(store, add, claim):
    await add(id="job")
    [run] = await claim()
    assert await steps(store) is None

    assert await store.annotate([Note(run.lease, steps='{"charge":{"id":7}}')]) == []
    assert await store.annotate([Note(run.lease, steps=STEPS, progress="5")]) == []
    assert await store.annotate([Note(run.lease, data="1", lines=("a",))]) == []

    [job] = await store.get("files", ["job"])
    assert (job.steps_text, job.progress, job.data) == (STEPS, 5, 1)
    assert job.steps == {"charge": {"id": 7}, "mail": None}
    assert await store.audit() == []


async def test_they_outlast_retries_releases_stalls_and_moves_by_hand(store, add, claim, clock):
    await add(id="job", attempts=9)
    [run] = await claim()
    await store.annotate([Note(run.lease, steps=STEPS)])

    await store.settle([Retry(run.lease, 0, BROKEN)])
    assert await steps(store) == STEPS
    [run] = await claim()
    await store.settle([Release(run.lease)])
    [run] = await claim(lease=1)
    clock.advance(2)
    await store.recover()
    assert await steps(store) == STEPS
    [run] = await claim()
    await store.settle([Fail(run.lease, Failure(FailureKind.ERROR))])
    assert await steps(store) == STEPS
    await store.retry(Selection("files", ids=("job",)))
    [run] = await claim()
    await store.update("files", "job", "5")
    await store.settle([Complete(run.lease, "1")])

    assert await steps(store) == STEPS
    assert await store.audit() == []


async def test_a_lost_lease_keeps_no_steps(store, add, claim, clock):
    await add(id="job", max_stalls=5)
    [old] = await claim(lease=1)
    clock.advance(2)
    await store.recover()
    [new] = await claim()

    assert await store.annotate([Note(old.lease, steps=STEPS)]) == [old.lease]
    assert await steps(store) is None
    assert await store.annotate([Note(new.lease, steps="{}")]) == []
    assert await steps(store) == "{}"


async def test_they_move_house_with_the_job(store, add, claim):
    await add(id="job", attempts=2)
    [run] = await claim()
    await store.annotate([Note(run.lease, steps=STEPS)])
    await store.settle([Retry(run.lease, 60, BROKEN)])
    packed = await store.pack("files", JobState.DELAYED)
    await store.remove(Selection("files", ids=("job",)))

    await store.adopt(packed)

    assert await steps(store) == STEPS
