"""What happens at a moment while the last job of the schedule has not ended: allowed, skipped, or one may wait."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.job import Retention
from muskox.core.kept import Entry
from muskox.core.life import Complete, Fail, Retry
from muskox.core.schedule import Overlap, Told
from muskox.store.protocol import WHY_SKIPPED, Selection, Want
from tests.store.reading import BROKEN, events, figures
from tests.store.schedules import SECOND, START, firing, kept, put, read

FILES = [Want("files")]


async def fired(store, **fields):
    """Use up the next moment of the schedule; gives how many jobs that added."""
    [added] = await store.fire([firing(await read(store), **fields)])
    return added


async def begun(store, overlap):
    """Put a schedule and fire its first moment."""
    await put(store, kept(overlap=overlap))
    assert await fired(store) == 1


async def run(store):
    [job] = await store.claim(FILES, limit=1, worker="w", lease=60)
    return job.lease


async def end(store, how):
    """Let the last job end, or be gone."""
    match how:
        case "completed":
            await store.settle([Complete(await run(store))])
        case "failed":
            await store.settle([Fail(await run(store), BROKEN)])
        case "completed and not kept":
            await store.settle([Complete(await run(store), None, None, 0)])
        case "cancelled":
            await store.cancel(Selection("files"))
        case "removed":
            await store.remove(Selection("files"))
        case _:
            await store.settle([Complete(await run(store))])
            assert await store.clear({"files": Retention(completed_most=0)}) == 1


async def told(store):
    return [(entry.told, entry.reason, entry.job_id) for entry in await store.ledger("tick")]


ENDS = ["completed", "failed", "completed and not kept", "cancelled", "removed", "cleared"]


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
@pytest.mark.parametrize("how", ENDS)
async def test_fault_c09_when_the_last_job_has_ended_or_is_gone_the_schedule_goes_on(store, overlap, how):
    await begun(store, overlap)
    await end(store, how)

    assert await fired(store) == 1

    assert [one for one, _, _ in await told(store)] == [Told.FIRED, Told.FIRED]
    assert await store.audit() == []


async def test_fault_c09_a_last_job_that_is_retried_by_hand_runs_again_and_counts_again(store):
    await begun(store, Overlap.SKIP)
    await end(store, "failed")
    assert await store.retry(Selection("files")) == 1

    assert await fired(store) == 0
    await end(store, "completed")
    assert await fired(store) == 1

    assert [one for one, _, _ in await told(store)] == [Told.FIRED, Told.SKIPPED, Told.FIRED]
    assert await store.audit() == []


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
async def test_fault_c08_a_moment_is_skipped_while_the_last_job_waits(store, overlap):
    await begun(store, overlap)
    before = await read(store)

    assert await fired(store) == 0

    now = await read(store)
    assert now.version > before.version
    assert (now.last_job, now.last_us, now.next_us) == (before.last_job, START + 10 * SECOND, START + 20 * SECOND)
    assert (await told(store))[0] == (Told.SKIPPED, WHY_SKIPPED[overlap], None)
    assert await figures(store) == {"waiting": 1}
    assert len(await events(store)) == 1


@pytest.mark.parametrize(("overlap", "added"), [(Overlap.ALLOW, 1), (Overlap.SKIP, 0), (Overlap.QUEUE, 1)])
async def test_fault_c08_while_the_last_job_runs_one_may_wait_or_none(store, overlap, added):
    await begun(store, overlap)
    await run(store)

    assert await fired(store) == added
    assert await fired(store) == (1 if overlap is Overlap.ALLOW else 0)

    assert await store.audit() == []


@pytest.mark.parametrize(("overlap", "added"), [(Overlap.ALLOW, 1), (Overlap.SKIP, 0), (Overlap.QUEUE, 0)])
async def test_fault_c08_a_job_that_is_delayed_waits_too(store, clock, overlap, added):
    await put(store, kept(overlap=overlap))
    await fired(store, delay=5.0)
    assert await fired(store) == added

    clock.advance(6)
    await store.promote()
    await store.settle([Retry(await run(store), 30.0, BROKEN)])

    assert await fired(store) == added


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
async def test_fault_c08_of_several_moments_in_a_firing_one_is_added(store, overlap):
    [seen] = await put(store, kept(overlap=overlap))
    moments = [START, START + SECOND, START + 2 * SECOND]
    late = firing(seen, *moments, told=Told.LATE)
    late = msgspec.structs.replace(late, entries=(Entry(START - 1, Told.MISSED, missed=9), *late.entries))

    assert await store.fire([late]) == [1]

    assert (await read(store)).last_job == late.jobs[0].id
    skipped = (Told.SKIPPED, WHY_SKIPPED[overlap], None)
    assert await told(store) == [skipped, skipped, (Told.LATE, "", late.jobs[0].id), (Told.MISSED, "", None)]
    assert [entry.moment_us for entry in await store.ledger("tick")] == [*moments[::-1], START - 1]


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
async def test_fault_c08_a_moment_whose_job_is_there_already_is_not_called_skipped(store, add, overlap):
    [seen] = await put(store, kept(overlap=overlap))
    again = firing(seen, START, START + SECOND)
    await add(id=again.jobs[0].id)

    assert await store.fire([again]) == [0]

    assert [one for one, _, _ in await told(store)] == [Told.SKIPPED, Told.FIRED]
    assert (await read(store)).last_job == again.jobs[0].id


async def test_fault_c08_each_schedule_of_a_call_goes_by_its_own_rule_and_its_own_last_job(store):
    names = {"allow": Overlap.ALLOW, "skip": Overlap.SKIP, "queue": Overlap.QUEUE}
    seen = await put(store, *(kept(name, overlap=overlap) for name, overlap in names.items()))
    assert await store.fire([firing(one) for one in seen]) == [1, 1, 1]
    seen = [await read(store, name) for name in names]
    stale = msgspec.structs.replace(seen[0], version=1)

    assert await store.fire([firing(stale), *(firing(one) for one in reversed(seen))]) == [None, 0, 0, 1]

    assert await figures(store) == {"waiting": 4}
    assert {name: (await store.ledger(name))[0].told for name in names} == {
        "allow": Told.FIRED, "skip": Told.SKIPPED, "queue": Told.SKIPPED,
    }  # fmt: skip
    assert await store.audit() == []
