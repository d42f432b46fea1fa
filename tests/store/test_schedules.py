"""Schedules: put where nobody else has changed them, found when they are due, read with what is nearest."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from muskox.core.job import NewJob, Options
from muskox.core.kept import Entry
from muskox.core.schedule import Cron, Every, Once, Overlap, Owner, Told
from muskox.store.protocol import MOST_ENTRIES, SCHEDULES, Change
from tests.store.reading import events, figures
from tests.store.schedules import SECOND, START, firing, kept, put, read, schedule

LIMIT = 10  # seconds within which what must happen happens, on a slow machine

WHOLE = {
    "data": '{"a":"ä\u2028"}', "priority": -3, "options": Options(attempts=3, timeout=2.5), "catch_up": 7, "grace": 1.5,
    "overlap": Overlap.QUEUE, "jitter": 0.25, "starts_us": START - SECOND, "ends_us": START + 10**12,
    "owner": Owner.CODE,
}  # fmt: skip


def replaced(of, **fields):
    return msgspec.structs.replace(of, **fields)


def changed(of, **fields):
    """The change that gives a schedule other fields."""
    return Change(of.schedule.name, of.version, replaced(of, **fields))


# --- putting ---------------------------------------------------------------------------


@pytest.mark.parametrize("when", [Every(0.1, anchor_us=3), Once(START + 1), Cron("0 0 9 * * 1", tz="Europe/Vienna")])
async def test_a_schedule_is_kept_as_it_was_put(store, when):
    whole = replaced(schedule(when=when), **WHOLE)
    new = replaced(kept(), schedule=whole, generation=4, next_us=START + 1, last_us=START - 7, last_job="job é")

    [found] = await put(store, new)

    assert found.version > 0
    assert found == replaced(new, version=found.version, added_us=START, changed_us=START)
    assert await store.audit() == []


async def test_a_schedule_may_have_no_next_moment_and_one_in_the_last_year(store):
    last = 253_000_000_000 * SECOND + 123_457

    over, far = await put(store, kept("over", next_us=None), kept("far", next_us=last))

    assert (over.next_us, far.next_us) == (None, last)
    assert (await store.schedules()).nearest_us == last
    assert (await store.schedules(due=True)).kept == []
    assert await store.audit() == []


async def test_a_change_is_made_where_the_version_is_the_one_that_was_seen(store, clock):
    [seen] = await put(store, kept())
    clock.advance(1)

    assert await store.put_schedules([changed(seen, paused=True, generation=2)]) == [True]
    now = await read(store)

    assert now.version > seen.version
    assert now == replaced(seen, paused=True, generation=2, version=now.version, changed_us=START + SECOND)
    assert await store.put_schedules([changed(seen, next_us=5)]) == [False]
    assert await read(store) == now


async def test_a_new_schedule_is_refused_where_there_is_one_and_a_change_where_there_is_none(store):
    [seen] = await put(store, kept())

    made = await store.put_schedules([
        Change("tick", 0, kept(overlap=Overlap.SKIP)),
        Change("other", seen.version, kept("other")),
        Change("third", 0, kept("third")),
    ])  # fmt: skip

    assert made == [False, False, True]
    assert [one.schedule.name for one in (await store.schedules()).kept] == ["third", "tick"]
    assert await read(store) == seen


async def test_changes_may_be_said_again(store):
    [seen, _] = await put(store, kept(), kept("other"))
    change, gone = changed(seen, paused=True), Change("other", (await read(store, "other")).version, None)

    first = await store.put_schedules([change, gone])
    now = await read(store)
    again = await store.put_schedules([change, gone, Change("tick", 0, replaced(seen, paused=True))])

    assert (first, again) == ([True, True], [True, True, True])
    assert await read(store) == now


async def test_each_change_of_a_call_is_for_itself_and_in_their_order(store):
    [seen] = await put(store, kept())

    made = await store.put_schedules([
        changed(seen, generation=2), changed(seen, generation=3), Change("tick", seen.version, None),
    ])  # fmt: skip

    assert made == [True, False, False]
    assert (await read(store)).generation == 2


async def test_a_deleted_schedule_is_gone_with_its_ledger_and_its_jobs_stay(store):
    [seen] = await put(store, kept())
    await store.fire([firing(seen)])
    seen = await read(store)

    assert await store.put_schedules([Change("tick", seen.version - 1, None)]) == [False]
    assert await store.put_schedules([Change("tick", seen.version, None)]) == [True]

    assert (await store.schedules(["tick"])).kept == []
    assert await store.ledger("tick") == []
    assert await figures(store) == {"waiting": 1}
    await put(store, kept())
    assert await store.ledger("tick") == []
    assert await store.audit() == []


async def test_a_version_grows_over_deleting_and_adding_again(store):
    versions = []
    for _ in range(3):
        [seen] = await put(store, kept())
        await store.put_schedules([changed(seen, paused=True)])
        later = await read(store)
        versions += [seen.version, later.version]
        await store.put_schedules([Change("tick", later.version, None)])

    assert versions == sorted(set(versions))
    assert await store.put_schedules([Change("tick", versions[0], kept())]) == [False]


async def test_nothing_asked_is_nothing_done(store):
    assert await store.put_schedules([]) == []
    assert await store.fire([]) == []
    assert await store.put_schedules([Change("none", 0, None), Change("none", 7, None)]) == [True, True]
    assert await store.ledger("none") == []
    looked = await store.schedules()
    assert (looked.kept, looked.nearest_us, looked.now_us) == ([], None, START)


# --- reading ---------------------------------------------------------------------------


async def test_schedules_are_read_by_name_or_all_in_the_order_of_their_names(store):
    await put(store, *(kept(name) for name in ("b", "a:1", "Z", "a/1", "c", "a.1")))
    everything = ["Z", "a.1", "a/1", "a:1", "b", "c"]

    assert [one.schedule.name for one in (await store.schedules()).kept] == everything
    assert [one.schedule.name for one in (await store.schedules(limit=2)).kept] == everything[:2]
    assert [one.schedule.name for one in (await store.schedules(["c", "no", "Z", "c"])).kept] == ["Z", "c"]
    assert [one.schedule.name for one in (await store.schedules(["c", "b", "Z"], limit=2)).kept] == ["Z", "b"]
    assert (await store.schedules(limit=0)).kept == []


async def test_due_ones_are_read_earliest_first_and_those_of_a_moment_by_name(store, clock):
    await put(
        store, kept("late", next_us=START + 2), kept("b"), kept("a"), kept("early", next_us=START - 5),
        kept("over", next_us=None), kept("still", next_us=START - 9, paused=True), kept("soon", next_us=START + 3),
    )  # fmt: skip
    clock.advance(0.000002)

    looked = await store.schedules(due=True)

    assert [one.schedule.name for one in looked.kept] == ["early", "a", "b", "late"]
    assert [one.schedule.name for one in (await store.schedules(due=True, limit=3)).kept] == ["early", "a", "b"]
    named = await store.schedules(["late", "soon", "still", "a"], due=True)
    assert [one.schedule.name for one in named.kept] == ["a", "late"]


async def test_the_nearest_moment_is_after_now_and_of_one_that_is_not_paused(store, clock):
    await put(
        store, kept("due"), kept("far", next_us=START + 9), kept("near", next_us=START + 4),
        kept("still", next_us=START + 1, paused=True), kept("over", next_us=None),
    )  # fmt: skip

    assert (await store.schedules()).nearest_us == START + 4
    assert (await store.schedules(["far"])).nearest_us == START + 4
    assert (await store.schedules(due=True)).nearest_us == START + 4
    clock.advance(0.000004)
    assert (await store.schedules(due=True)).nearest_us == START + 9
    clock.advance(1)
    assert (await store.schedules(due=True)).nearest_us is None


async def test_a_paused_one_is_not_due_and_is_again_when_it_goes_on(store):
    [seen] = await put(store, kept(paused=True))
    assert (await store.schedules(due=True)).kept == []

    await store.put_schedules([changed(seen, paused=False)])
    assert (await store.schedules(due=True)).kept == [await read(store)]

    await store.put_schedules([changed(await read(store), paused=True)])
    looked = await store.schedules(due=True)
    assert (looked.kept, looked.nearest_us) == ([], None)
    assert await store.audit() == []


# --- firing ----------------------------------------------------------------------------


async def test_a_fired_moment_adds_its_job_and_moves_on(store, clock, claim):
    [seen] = await put(store, kept())
    clock.advance(1)

    assert await store.fire([firing(seen)]) == [1]
    now = await read(store)

    id = f"schedule:tick:1:{START}"
    assert now.version > seen.version
    assert now == replaced(seen, version=now.version, next_us=START + 10 * SECOND, last_us=START, last_job=id)
    assert [(event.kind, event.job_id, event.at) for event in await events(store)] == [
        ("waiting", id, (await store.get("files", [id]))[0].added_at)
    ]
    [job] = await claim()
    assert (job.id, job.name, job.data, job.added_us) == (id, "resize", {"a": 1}, START + SECOND)
    assert await store.ledger("tick") == [Entry(START, Told.FIRED, id, at_us=START + SECOND)]
    assert await store.audit() == []


async def test_a_job_of_a_schedule_is_as_one_that_was_added(store, clock):
    [seen] = await put(store, kept())
    fired = firing(seen)
    jobs = [
        NewJob("plain", "files", "resize", '"x"', 5, 0.0, Options(attempts=4, max_stalls=0, keep_for=3.0)),
        NewJob("later", "email", "send", "[1]", -5, 2.5, Options(timeout=1.0)),
    ]

    await store.fire([replaced(fired, jobs=tuple(jobs), entries=())])
    await store.add([replaced(job, id=f"{job.id} 2") for job in jobs])

    for queue, id in (("files", "plain"), ("email", "later")):
        one, other = await store.get(queue, [id, f"{id} 2"])
        assert replaced(one, id=other.id) == other
        assert await figures(store, queue) in ({"waiting": 2}, {"delayed": 2})
    assert [(event.queue, event.kind) for event in await events(store)] == [
        ("files", "waiting"),
        ("email", "delayed"),
    ] * 2
    assert await store.audit() == []


async def test_a_firing_said_again_does_nothing(store):
    [seen] = await put(store, kept())
    await store.fire([firing(seen)])
    before = await read(store), await store.ledger("tick"), await events(store)

    assert await store.fire([firing(seen)]) == [None]
    assert await store.fire([replaced(firing(seen), name="gone")]) == [None]

    assert (await read(store), await store.ledger("tick"), await events(store)) == before
    assert await figures(store) == {"waiting": 1}


async def test_the_same_moment_twice_in_a_call_is_fired_once(store):
    [seen] = await put(store, kept())

    assert await store.fire([firing(seen), firing(seen)]) == [1, None]

    assert await figures(store) == {"waiting": 1}
    assert len(await store.ledger("tick")) == 1


async def test_a_changed_paused_or_deleted_schedule_is_not_fired_by_what_was_seen_before(store):
    seen = await put(store, kept("changed"), kept("paused"), kept("deleted"), kept("same"))
    await store.put_schedules([
        changed(seen[0], generation=2), changed(seen[1], paused=True), Change("deleted", seen[2].version, None),
    ])  # fmt: skip

    assert await store.fire([firing(one) for one in seen]) == [None, None, None, 1]

    assert await figures(store) == {"waiting": 1}
    assert [await store.ledger(name) for name in ("changed", "paused")] == [[], []]


async def test_a_known_id_adds_nothing_and_the_moment_is_used_up(store, add):
    [seen] = await put(store, kept())
    fired = firing(seen, START, START + SECOND)
    await add(id=fired.jobs[0].id)

    assert await store.fire([fired]) == [1]

    assert await figures(store) == {"waiting": 2}
    assert [entry.told for entry in await store.ledger("tick")] == [Told.FIRED, Told.FIRED]
    assert (await read(store)).last_job == fired.jobs[1].id


async def test_a_firing_may_add_many_jobs_in_the_order_of_their_moments(store, claim):
    [seen, _] = await put(store, kept(), kept("other"))
    moments = [START - number * SECOND for number in range(5, -1, -1)]
    fired = firing(seen, *moments, told=Told.LATE)

    assert await store.fire([fired, firing(await read(store, "other"))]) == [6, 1]

    assert [job.id for job in await claim(6)] == [job.id for job in fired.jobs]
    assert [entry.moment_us for entry in await store.ledger("tick")] == moments[::-1]
    assert (await read(store)).last_job == fired.jobs[-1].id
    assert await store.audit() == []


async def test_a_firing_without_jobs_tells_what_was_missed_and_keeps_what_was_last(store):
    [seen] = await put(store, replaced(kept(), last_us=7, last_job="before"))
    entry = Entry(START, Told.MISSED, reason="too late", missed=180)

    fired = replaced(firing(seen), jobs=(), entries=(entry,), last_us=None, next_us=None)
    assert await store.fire([fired]) == [0]

    now = await read(store)
    assert (now.next_us, now.last_us, now.last_job) == (None, 7, "before")
    assert await store.ledger("tick") == [replaced(entry, at_us=START)]
    assert await events(store) == []
    assert (await store.schedules(due=True)).kept == []


async def test_a_firing_by_hand_leaves_the_next_moment(store):
    [seen] = await put(store, kept(next_us=START + 5, paused=True))
    by_hand = replaced(firing(seen, START, told=Told.RUN), next_us=START + 5)

    assert await store.fire([by_hand]) == [1]

    now = await read(store)
    assert (now.next_us, now.paused, now.last_us) == (START + 5, True, START)
    assert [entry.told for entry in await store.ledger("tick")] == [Told.RUN]


async def test_the_ledger_keeps_the_last_entries_latest_first(store):
    [seen, _] = await put(store, kept(), kept("other"))
    for number in range(3):
        entries = tuple(Entry(START + number * 1000 + moment, Told.MISSED, missed=moment) for moment in range(60))
        assert await store.fire([replaced(firing(seen), jobs=(), entries=entries)]) == [0]
        seen = await read(store)
    many = tuple(Entry(START + moment, Told.MISSED) for moment in range(250))
    await store.fire([replaced(firing(await read(store, "other")), jobs=(), entries=many)])

    found = await store.ledger("tick", limit=1000)

    assert [entry.moment_us for entry in found] == [
        START + number * 1000 + moment for number in (2, 1) for moment in range(59, -1, -1)
    ][:MOST_ENTRIES]
    assert await store.ledger("tick", limit=3) == found[:3]
    assert await store.ledger("tick", limit=0) == []
    assert [entry.moment_us for entry in await store.ledger("other")] == [
        START + moment for moment in range(249, 149, -1)
    ]
    assert await store.audit() == []


# --- waking ----------------------------------------------------------------------------


async def woken_by(waiter, put_by, change):
    """Have one store wait for schedules while another puts one; the wait is far too long to end by itself."""
    async with asyncio.timeout(LIMIT):
        # The first wait may end in vain, since something may have been before it.
        await waiter.wait(["files", SCHEDULES], seconds=0.05)
        waiting = asyncio.create_task(waiter.wait(["files", SCHEDULES], seconds=3600))
        await asyncio.sleep(0)
        assert await put_by.put_schedules([change]) == [True]
        await waiting


async def test_who_waits_for_schedules_is_woken_by_each_kind_of_change(store):
    await woken_by(store, store, Change("tick", 0, kept()))
    await woken_by(store, store, changed(await read(store), paused=True))
    await woken_by(store, store, Change("tick", (await read(store)).version, None))


async def test_who_waits_for_schedules_is_woken_by_another_store_object(shared, another):
    _, store = shared

    await woken_by(store, another, Change("tick", 0, kept()))
    await woken_by(store, another, changed(await read(store), paused=True))
    await woken_by(another, store, Change("tick", (await read(store)).version, None))
