"""Keys: jobs of a key come to the line one by one, in turns with other keys, by priority and then arrival."""

from __future__ import annotations

import pytest

from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete
from muskox.core.limits import OPEN_PER_WEIGHT, UNLIMITED, KeyLimits, Limits, Rate
from muskox.store.protocol import Selection, Want
from tests.store.reading import figures, kinds, latest, one, state

W, B, A = JobState.WAITING, JobState.BLOCKED, JobState.ACTIVE
LINE = OPEN_PER_WEIGHT


async def add_many(store, key, count, *, queue="files", **fields):
    """Jobs `key-00`, `key-01` … in one call."""
    jobs = [NewJob(f"{key}-{number:02}", queue, "resize", key=key, **fields) for number in range(count)]
    return [answer.job for answer in await store.add(jobs)]


async def stand(store, *names, queue="files"):
    """Of keys, how many of their jobs are in line, blocked and active."""
    return [(key.waiting, key.blocked, key.active) for key in await store.keys(queue, names)]


def ids(jobs):
    return [job.id for job in jobs]


async def complete(store, *jobs):
    assert await store.settle([Complete(job.lease) for job in jobs]) == []


@pytest.fixture(autouse=True)
async def sound(store):
    """Whatever a test does, what is kept of keys must fit the jobs afterwards."""
    yield
    assert await store.audit() == []


async def test_a_key_is_kept_with_the_job_and_its_lease_says_that_somebody_waits(store, add, claim):
    added = await add(id="a", key="acme.com")
    await add(id="b")

    assert (added.key, (await one(store, "a")).key, (await one(store, "b")).key) == ("acme.com", "acme.com", None)
    assert [(job.id, job.key, job.lease.tied) for job in await claim(2)] == [
        ("a", "acme.com", True),
        ("b", None, False),
    ]
    assert [(await one(store, id)).lease.tied for id in "ab"] == [True, False]


async def test_of_a_key_only_so_many_jobs_stand_in_line(store):
    added = await add_many(store, "acme", LINE + 4)

    assert [job.state for job in added] == [W] * LINE + [B] * 4
    assert [await state(store, f"acme-{number:02}") for number in (0, LINE - 1, LINE, LINE + 3)] == [W, W, B, B]
    assert await figures(store) == {"waiting": LINE, "blocked": 4}
    assert await stand(store, "acme") == [(LINE, 4, 0)]
    assert [await kinds(store, f"acme-{number:02}") for number in (0, LINE)] == [["waiting"], ["blocked"]]


async def test_jobs_added_one_by_one_stand_as_those_added_together(store, add):
    await store.limit("files", Limits(key_concurrency=2))

    assert [(await add(key="acme")).state for _ in range(4)] == [W, W, B, B]
    assert [(await add(key="other")).state for _ in range(3)] == [W, W, B]
    assert [(await add()).state for _ in range(2)] == [W, W]


async def test_a_claim_lets_the_next_of_the_key_stand_in_line(store, claim):
    await add_many(store, "acme", LINE + 4)
    before = await latest(store)

    await claim(3)

    assert await stand(store, "acme") == [(LINE, 1, 3)]
    assert [await state(store, f"acme-{number:02}") for number in (LINE, LINE + 2, LINE + 3)] == [W, W, B]
    assert await kinds(store, f"acme-{LINE:02}", after=before) == ["waiting"]


async def test_what_comes_to_the_line_may_be_claimed_at_once(store, claim):
    await add_many(store, "acme", LINE * 3)

    assert ids(await claim(LINE * 3 + 1)) == [f"acme-{number:02}" for number in range(LINE * 3)]
    assert await stand(store, "acme") == [(0, 0, LINE * 3)]


async def test_keys_take_turns_however_many_jobs_one_of_them_has(store, clock, claim):
    await add_many(store, "large", 90)
    clock.advance(1)
    await add_many(store, "small", 3)
    clock.advance(1)

    first, second = ids(await claim(LINE)), ids(await claim(LINE))

    assert first == [f"large-{number:02}" for number in range(LINE)]
    assert second[:3] == ["small-00", "small-01", "small-02"]
    assert second[3:] == [f"large-{number:02}" for number in range(LINE, LINE * 2 - 3)]


async def test_jobs_without_a_key_take_their_turn_among_keys(store, clock, add, claim):
    await add_many(store, "large", 90)
    clock.advance(1)
    await add(id="plain")
    clock.advance(1)

    await claim(LINE)

    assert ids(await claim(1)) == ["plain"]


async def test_a_key_has_turns_by_its_weight(store, clock, claim):
    await store.limit_key("files", "heavy", KeyLimits(weight=3))
    await add_many(store, "light", 99)
    await add_many(store, "heavy", 99)

    shares = []
    for _ in range(2):
        clock.advance(1)
        taken = ids(await claim(LINE * 4))
        shares.append((sum(id.startswith("light") for id in taken), sum(id.startswith("heavy") for id in taken)))

    assert shares == [(LINE, LINE * 3), (LINE, LINE * 3)]


async def test_blocked_jobs_come_to_the_line_by_priority_and_then_arrival(store, clock, add, claim):
    await store.limit("files", Limits(key_concurrency=1))
    for id, priority in [("first", 0), ("low", -1), ("a", 0), ("high", 5), ("b", 0)]:
        await add(id=id, key="acme", priority=priority)
        clock.advance(1)

    order = []
    while jobs := await claim(5):
        assert len(jobs) == 1
        order.append(jobs[0].id)
        clock.advance(1)
        await complete(store, *jobs)

    assert order == ["first", "high", "a", "b", "low"]


async def test_the_order_of_a_batch_counts_also_where_priorities_differ(store, claim):
    """The first there is room for comes to the line, as if each had been added alone."""
    await store.limit("files", Limits(key_concurrency=1))
    jobs = [NewJob(id, "files", "resize", key="acme", priority=priority) for id, priority in [("a", 0), ("b", 5)]]

    added = await store.add(jobs)

    assert [answer.job.state for answer in added] == [W, B]


async def test_no_more_of_a_key_run_at_once_than_its_concurrency(store, claim):
    await store.limit("files", Limits(key_concurrency=3))
    await add_many(store, "a", 8)
    await add_many(store, "b", 2)

    running = await claim(20)

    assert sorted(ids(running)) == ["a-00", "a-01", "a-02", "b-00", "b-01"]
    assert await claim(20) == []
    assert await stand(store, "a", "b") == [(0, 5, 3), (0, 0, 2)]
    await complete(store, *[job for job in running if job.key == "a"][:2])
    assert ids(await claim(20)) == ["a-03", "a-04"]


async def test_a_key_in_one_queue_is_none_of_another(store, add, claim):
    await store.limit("files", Limits(key_concurrency=1))
    for queue in ("files", "email"):
        for number in range(2):
            await add(queue=queue, id=f"{queue}-{number}", key="acme")

    assert ids(await claim(5)) == ["files-0"]
    assert ids(await claim(5, queue="email")) == ["email-0", "email-1"]
    assert await stand(store, "acme") == [(0, 1, 1)]
    assert await stand(store, "acme", queue="email") == [(0, 0, 2)]


async def test_a_key_has_its_own_limits_in_place_of_the_queues(store, claim):
    await store.limit("files", Limits(key_concurrency=2))
    await store.limit_key("files", "one", KeyLimits(concurrency=1))
    await store.limit_key("files", "any", KeyLimits(concurrency=UNLIMITED))
    for key in ("one", "any", "two"):
        await add_many(store, key, 4)

    running = await claim(20)

    assert sorted(ids(running)) == ["any-00", "any-01", "any-02", "any-03", "one-00", "two-00", "two-01"]
    assert [key.concurrency for key in await store.keys("files", ["one", "any", "two"])] == [1, None, 2]
    await store.limit_key("files", "one", None)
    assert ids(await claim(20)) == ["one-01"]


async def test_what_a_lower_limit_holds_goes_back_to_the_line_of_its_key(store, claim):
    await add_many(store, "acme", 5)
    await store.limit("files", Limits(key_concurrency=2))
    before = await latest(store)

    assert ids(await claim(5)) == ["acme-00", "acme-01"]

    assert await stand(store, "acme") == [(0, 3, 2)]
    assert await figures(store) == {"blocked": 3, "active": 2}
    assert await kinds(store, "acme-02", after=before) == ["blocked"]
    assert await kinds(store, "acme-00", after=before) == ["active"]


async def test_a_lower_limit_takes_no_slot_from_others(store, clock, add, claim):
    await add_many(store, "acme", 5)
    clock.advance(1)
    await add_many(store, "other", 2)
    await store.limit_key("files", "acme", KeyLimits(concurrency=1))

    assert ids(await claim(3)) == ["acme-00", "other-00", "other-01"]


@pytest.mark.parametrize("limits", [Limits(key_concurrency=3), Limits()])
async def test_a_higher_limit_lets_more_start(store, claim, limits):
    await store.limit("files", Limits(key_concurrency=1))
    await add_many(store, "acme", 3)
    await claim(5)

    assert await store.limit("files", limits)

    assert ids(await claim(5)) == ["acme-01", "acme-02"]


async def test_a_higher_limit_reaches_all_keys_however_many(store, claim):
    await store.limit("files", Limits(key_concurrency=1))
    await store.add([NewJob(f"{turn}-{key}", "files", "resize", key=f"k{key}") for turn in "ab" for key in range(250)])
    await claim(250)

    await store.limit("files", Limits(key_concurrency=2))
    claimed = []
    for _ in range(5):
        claimed += await claim(250)

    assert len(claimed) == 250
    assert await figures(store) == {"active": 500}


async def test_a_rate_of_a_key_holds_that_key_alone(store, clock, add, claim):
    await store.limit("files", Limits(key_rate=Rate(1, per=10)))
    await add_many(store, "acme", 3)
    await add_many(store, "other", 1)

    assert ids(await claim(5)) == ["acme-00", "other-00"]
    clock.advance(9.9)
    assert await claim(5) == []
    clock.advance(0.1)
    assert ids(await claim(5)) == ["acme-01"]
    clock.advance(10)
    assert ids(await claim(5)) == ["acme-02"]


async def test_a_burst_of_a_key_starts_at_once_and_then_by_its_rate(store, clock, claim):
    await store.limit("files", Limits(key_rate=Rate(1, per=10, burst=3)))
    await add_many(store, "acme", 9)

    starts = []
    for _ in range(4):
        starts.append(len(await claim(9)))
        clock.advance(10)

    assert starts == [3, 1, 1, 1]
    clock.advance(100)
    assert len(await claim(9)) == 3


async def test_promoting_looks_at_keys_whose_moment_has_come(store, clock, claim):
    await store.limit("files", Limits(key_rate=Rate(1, per=10)))
    await add_many(store, "acme", 2)
    await claim(1)
    clock.advance(10)

    await store.promote()

    assert await state(store, "acme-01") is W


async def test_rate_and_concurrency_of_a_key_hold_together(store, clock, claim):
    await store.limit("files", Limits(key_rate=Rate(1, per=10, burst=5), key_concurrency=2))
    await add_many(store, "acme", 9)

    [first, second] = await claim(9)
    await complete(store, first)
    [third] = await claim(9)
    await complete(store, second, third)
    [*more] = await claim(9)
    await complete(store, *more)

    assert len(more) == 2
    assert await claim(9) == []


async def test_a_held_key_starts_nothing_and_others_do(store, clock, add, claim):
    await add_many(store, "acme", 2)
    await add_many(store, "other", 1)

    await store.hold("files", 30, key="acme")

    assert ids(await claim(5)) == ["other-00"]
    assert (await add(id="late", key="acme")).state is B
    clock.advance(29)
    assert await claim(5) == []
    clock.advance(1)
    assert ids(await claim(5)) == ["acme-00", "acme-01", "late"]


async def test_a_longer_hold_stays_and_can_be_ended(store, clock, claim):
    await add_many(store, "acme", 1)
    await store.hold("files", 30, key="acme")
    await store.hold("files", 5, key="acme")
    clock.advance(6)
    assert await claim() == []

    await store.hold("files", 0, key="acme")

    assert ids(await claim()) == ["acme-00"]


async def test_a_key_may_be_held_before_it_has_jobs(store, clock, claim):
    await store.hold("files", 30, key="acme")
    await add_many(store, "acme", 1)

    assert await claim() == []
    clock.advance(30)
    assert ids(await claim()) == ["acme-00"]


async def test_a_known_id_disturbs_no_key(store, add, claim):
    await store.limit("files", Limits(key_concurrency=1))
    await add(id="a", key="acme")

    twins = await store.add(
        [NewJob(id, "files", "resize", key=key) for id, key in [("a", "b"), ("b", "b"), ("b", "b")]]
    )

    assert [(answer.created, answer.job.key) for answer in twins] == [(False, "acme"), (True, "b"), (False, "b")]
    assert await stand(store, "acme", "b") == [(1, 0, 0), (1, 0, 0)]


async def test_a_claim_that_is_said_again_takes_no_slot_twice(store, claim):
    await store.limit("files", Limits(key_concurrency=2))
    await add_many(store, "acme", 5)

    async def again():
        return await store.claim([Want("files")], limit=2, worker="w", lease=30, ticket="t")

    assert ids(await again()) == ids(await again()) == ["acme-00", "acme-01"]
    assert await stand(store, "acme") == [(0, 3, 2)]


async def test_only_names_that_are_wanted_are_claimed_of_a_key(store, add, claim):
    await add("resize", id="a", key="acme")
    await add("convert", id="b", key="acme")

    assert ids(await claim(5, names=frozenset({"convert"}))) == ["b"]
    assert await stand(store, "acme") == [(1, 0, 1)]


async def test_blocked_jobs_are_found_and_counted(store):
    await store.limit("files", Limits(key_concurrency=1))
    for key in ("a", "b"):
        await add_many(store, key, 4)

    seen, cursor = [], None
    while True:
        page = await store.find(Selection("files", states=(B,), limit=4), after=cursor)
        seen += ids(page.jobs)
        cursor = page.cursor
        if cursor is None:
            break

    assert seen == ["a-01", "a-02", "a-03", "b-01", "b-02", "b-03"]
    assert ids((await store.find(Selection("files", states=(B,), names=("other",)))).jobs) == []
    assert await figures(store) == {"waiting": 2, "blocked": 6}
