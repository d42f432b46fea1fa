"""Moving house: jobs are read with all that is kept of them, and taken over by a store as they are."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from muskox.core.backoff import Fixed
from muskox.core.errors import WrongState
from muskox.core.job import JobState, Lease, NewJob, Options
from muskox.core.life import Complete, Fail, Retry
from muskox.store.protocol import Note, Packed, Selection, Want
from tests.store.reading import BROKEN, events, everything, figures, kinds, latest, one, state

W, D, A = JobState.WAITING, JobState.DELAYED, JobState.ACTIVE
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED
KEPT = [W, D, C, F, X]
LIMIT = 10


async def lived(store, claim, clock, target):
    """A job that has been through a lot, in the state; its log has lines and its options say something."""
    options = Options(attempts=3, backoff=Fixed(7), timeout=5, max_stalls=2, keep_for=100)
    await store.add([NewJob("a", "files", "resize", data='{"width":5}', priority=7, options=options)])
    [job] = await claim()
    await store.annotate([Note(job.lease, progress="50", data='{"width":6}', lines=("one", "two"))])
    clock.advance(1)
    await store.settle([Retry(job.lease, 60 if target is D else 0, BROKEN)])
    if target in {C, F}:
        [job] = await claim()
        clock.advance(1)
        await store.settle([Complete(job.lease, "[1]", keep=100) if target is C else Fail(job.lease, BROKEN, keep=100)])
    if target is X:
        await store.cancel(Selection("files", ids=("a",)))


async def emptied(store, queue="files"):
    """Pack all jobs of a queue and remove them."""
    packed = [one for state in KEPT for one in await store.pack(queue, state)]
    await store.remove(Selection(queue, ids=tuple(one.job.id for one in packed)))
    assert await figures(store, queue) == {}
    return packed


@pytest.mark.parametrize("target", KEPT)
async def test_a_job_is_taken_over_as_it_was(store, claim, clock, target):
    await lived(store, claim, clock, target)
    before = await everything(store)
    packed = await emptied(store)
    clock.advance(5)

    [added] = await store.adopt(packed)

    after = await everything(store)
    assert (added.created, [added.job]) == (True, before["jobs"])
    assert (after["jobs"], after["lines"]) == (before["jobs"], before["lines"])
    assert [line.text for line in after["lines"]] == ["one", "two"]
    assert await figures(store) == {str(target): 1}
    assert await store.pack("files", target) == packed
    assert await store.audit() == []


@pytest.mark.parametrize("target", KEPT)
async def test_packing_changes_nothing(store, claim, clock, target):
    await lived(store, claim, clock, target)
    before = await everything(store)

    assert [one.job.id for one in await store.pack("files", target)] == ["a"]
    assert await everything(store) == before


async def test_an_adopted_job_lives_on_where_it_was(store, claim, clock):
    await lived(store, claim, clock, W)
    await store.adopt(await emptied(store))

    [job] = await claim()

    assert (job.attempt, job.attempts, job.data, job.progress) == (2, 3, {"width": 6}, 50)
    assert await store.settle([Complete(job.lease, "1")]) == []
    assert await state(store, "a") is C
    assert await store.audit() == []


async def test_an_adopted_delayed_job_is_due_when_it_was_due(store, claim, clock):
    await lived(store, claim, clock, D)
    await store.adopt(await emptied(store))

    clock.advance(59.5)
    assert await store.promote() == 0
    clock.advance(1)
    assert await store.promote() == 1

    assert await state(store, "a") is W
    assert await store.audit() == []


@pytest.mark.parametrize("target", [F, X])
async def test_an_adopted_job_that_ended_may_be_retried(store, claim, clock, target):
    await lived(store, claim, clock, target)
    await store.adopt(await emptied(store))

    assert await store.retry(Selection("files", ids=("a",))) == 1
    assert len(await claim()) == 1


@pytest.mark.parametrize("target", [C, F])
async def test_an_adopted_job_is_cleared_when_its_own_time_is_over(store, claim, clock, target):
    await lived(store, claim, clock, target)
    await store.adopt(await emptied(store))

    clock.advance(99)
    assert await store.clear({}) == 0
    clock.advance(2)
    assert await store.clear({}) == 1


# --- order ------------------------------------------------------------------------------


async def crowd(store, claim, clock):
    """Thirty jobs of three names and priorities: added, promoted, released and retried at various moments."""
    for number in range(30):
        name, priority, delay = f"name-{number * 7 % 3}", number * 5 % 3, 0.5 if number % 6 == 0 else 0
        await store.add([NewJob(str(number), "files", name, priority=priority, delay=delay)])
        clock.advance(number % 2 * 0.1)
    clock.advance(1)
    await store.promote()
    jobs = await claim(4)
    await store.settle([Fail(job.lease, BROKEN) for job in jobs])
    await store.retry(Selection("files", states=(F,)))


async def claimed(store):
    """The ids of all waiting jobs in the order in which they are claimed."""
    ids = []
    while jobs := await store.claim([Want("files")], limit=1, worker="w", lease=30):
        ids += [job.id for job in jobs]
    return ids


async def test_waiting_jobs_are_packed_in_the_order_of_their_claims(store, claim, clock):
    await crowd(store, claim, clock)

    packed = [one.job.id for one in await store.pack("files", W)]

    assert packed == await claimed(store)
    assert sorted(packed, key=int) == [str(number) for number in range(30)]


async def test_the_first_are_packed_when_there_are_many(store, claim, clock):
    await crowd(store, claim, clock)

    everyone = await store.pack("files", W)

    assert await store.pack("files", W, limit=7) == everyone[:7]
    assert await store.pack("files", D) == []
    assert await store.pack("other", W) == []


@pytest.mark.parametrize("step", [1, 7, 30])
async def test_adopted_waiting_jobs_are_claimed_in_the_same_order(store, claim, clock, step):
    await crowd(store, claim, clock)
    packed = await emptied(store)

    for first in range(0, 30, step):
        await store.adopt(packed[first : first + step])

    assert await claimed(store) == [one.job.id for one in packed]
    assert await store.audit() == []


async def test_jobs_of_one_call_are_packed_in_its_order_whatever_their_names(store):
    await store.add([NewJob(str(number), "files", f"name-{number * 7 % 3}") for number in range(9)])

    assert [one.job.id for one in await store.pack("files", W)] == [str(number) for number in range(9)]


async def test_an_adopted_job_keeps_its_age(store, add, clock):
    await add()
    clock.advance(7.5)
    await store.adopt(await emptied(store))

    [counts] = await store.counts(["files"])
    assert counts.oldest_waiting == 7.5


async def test_what_is_added_later_waits_behind_what_was_adopted(store, add, clock):
    await add(id="old")
    packed = await emptied(store)
    clock.advance(1)
    await store.adopt(packed)
    await add(id="new")

    assert await claimed(store) == ["old", "new"]


async def test_delayed_jobs_are_packed_by_due_and_ended_ones_oldest_first(store, claim, clock):
    for number, delay in enumerate([30, 10, 20]):
        await store.add([NewJob(f"d{number}", "files", "resize", delay=delay), NewJob(f"c{number}", "files", "resize")])
    jobs = await claim(3)
    for job in [jobs[2], jobs[0], jobs[1]]:
        clock.advance(1)
        await store.settle([Complete(job.lease)])

    assert [one.job.id for one in await store.pack("files", D)] == ["d1", "d2", "d0"]
    assert [one.job.id for one in await store.pack("files", C)] == [jobs[at].id for at in (2, 0, 1)]


# --- known ones, and what must not be ------------------------------------------------------


async def test_a_known_id_stores_nothing_and_is_answered_with_what_is_there(store, add, claim, clock):
    await lived(store, claim, clock, W)
    packed = await emptied(store)
    await add(id="a", name="other")
    before = await everything(store)

    [answer] = await store.adopt(packed)

    assert (answer.created, answer.job) == (False, await one(store, "a"))
    assert answer.job.name == "other"
    assert await everything(store) == before


async def test_adopting_twice_is_adopting_once(store, claim, clock):
    await crowd(store, claim, clock)
    packed = await emptied(store)

    first = await store.adopt(packed)
    before = await everything(store)
    again = await store.adopt(packed)

    assert [answer.job for answer in again] == [answer.job for answer in first]
    assert ({a.created for a in first}, {a.created for a in again}) == ({True}, {False})
    assert await everything(store) == before
    assert await store.audit() == []


async def test_a_twin_in_the_same_call_is_stored_once(store, add):
    await add()
    [packed] = await emptied(store)

    answers = await store.adopt([packed, packed])

    assert [answer.created for answer in answers] == [True, False]
    assert await figures(store) == {"waiting": 1}
    assert await store.audit() == []


async def test_the_same_id_in_two_queues_is_two_jobs(store, add):
    for queue in ("files", "mail"):
        await add(id="a", queue=queue)
    packed = await emptied(store) + await emptied(store, "mail")

    assert [answer.created for answer in await store.adopt(packed)] == [True, True]
    assert [(await figures(store, queue)) for queue in ("files", "mail")] == [{"waiting": 1}, {"waiting": 1}]


async def test_nothing_is_adopted_when_there_is_nothing(store):
    assert await store.adopt([]) == []


async def test_all_are_adopted_or_none(store, add):
    await add(id="a")
    await add(id="b")
    packed = await emptied(store)
    bad = msgspec.structs.replace(packed[1], job=msgspec.structs.replace(packed[1].job, data_text=object()))
    before = await everything(store)

    with pytest.raises(Exception):  # noqa: B017 - which one is the store's affair
        await store.adopt([packed[0], bad])

    assert await everything(store) == before
    assert await store.audit() == []


async def test_active_jobs_are_not_packed_and_cannot_be(store, add, claim):
    await add()
    [job] = await claim()

    assert await store.pack("files", A) == []
    assert isinstance(job.lease, Lease)
    with pytest.raises(WrongState, match="is active and cannot be taken to another store"):
        Packed(job, 0)


# --- what is told -------------------------------------------------------------------------


async def test_waiting_and_delayed_ones_are_told_of_and_ended_ones_are_not(store, claim, clock):
    await crowd(store, claim, clock)
    await store.settle([Complete(job.lease) for job in await claim(5)])
    await store.add([NewJob("d", "files", "resize", delay=60)])
    packed = await emptied(store)
    before = await latest(store)

    await store.adopt(packed)

    told = await events(store, after=before)
    assert {(event.kind, event.job_id) for event in told} == {
        (str(one.job.state), one.job.id) for one in packed if one.job.state in {W, D}
    }
    assert len(told) == 26


async def test_adopting_wakes_those_who_wait_for_jobs(store, add):
    await add()
    packed = await emptied(store)

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(store.wait(["files"], seconds=3600))
        await asyncio.sleep(0)
        await store.adopt(packed)


async def test_a_paused_queue_takes_jobs_over_and_keeps_them(store, add, claim):
    await add()
    packed = await emptied(store)
    await store.pause("files", True)

    await store.adopt(packed)

    assert (await figures(store), await claim()) == ({"waiting": 1}, [])


async def test_many_jobs_are_adopted_at_once(store):
    await store.add([NewJob(str(number), "files", "resize") for number in range(1000)])
    packed = await store.pack("files", W, limit=1000)
    await store.remove(Selection("files", states=(W,)))

    answers = await store.adopt(packed)

    assert [answer.job.id for answer in answers] == [str(number) for number in range(1000)]
    assert await figures(store) == {"waiting": 1000}
    assert "waiting" in await kinds(store, "999")
    assert await store.audit() == []
