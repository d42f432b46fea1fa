"""Dedup keys: at most one job with a key, for how long it counts, and what becomes of a second one."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from muskox.core.dedup import Dedup
from muskox.core.errors import Duplicate
from muskox.core.job import JobState, NewJob, Options, Retention
from muskox.core.life import Complete, Fail, Release, Retry
from muskox.core.limits import Limits
from muskox.store.protocol import Selection, Want
from tests.processes import finished
from tests.store.reading import BROKEN, events, figures, one, state
from tests.store.schedules import SECOND, firing, kept, put, read


def new(id, key="k", queue="files", name="resize", *, data="null", priority=0, delay=0.0, expires_in=None, **rule):
    options = Options(expires_in=expires_in, dedup=Dedup(key, **rule))
    return NewJob(id, queue, name, data=data, priority=priority, delay=delay, options=options)


async def added(store, id, key="k", **fields):
    """Add one and give the answer as (id of the job, whether it was stored)."""
    [answer] = await store.add([new(id, key, **fields)])
    return answer.job.id, answer.created


async def ids(store, *states):
    """The ids of all jobs, in the order of their adding."""
    found = await store.find(Selection("files", states=states))
    return sorted(job.id for job in found.jobs)


@pytest.fixture
async def store(store):
    """A store that must be sound at the end."""
    yield store
    assert await store.audit() == []


# --- for how long a key counts ---------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 60])
async def test_mission_a20_a_second_job_with_a_key_adds_nothing_and_gives_the_first(store, delay):
    assert await added(store, "a", data="1", delay=delay) == ("a", True)
    before = await events(store)

    [answer] = await store.add([new("b", data="2")])

    assert (answer.job, answer.created) == (await one(store, "a"), False)
    assert answer.job.data == 1
    assert answer.job.options.dedup == Dedup("k")
    assert await ids(store) == ["a"]
    assert await events(store) == before


async def test_another_key_and_another_queue_are_another_matter(store):
    await added(store, "a")

    assert await added(store, "b", "other") == ("b", True)
    assert await added(store, "c", queue="others") == ("c", True)


async def test_a_key_counts_until_its_job_has_ended(store, claim, clock):
    await added(store, "a")
    [job] = await claim()
    assert await added(store, "b") == ("a", False)
    await store.settle([Retry(job.lease, 5, BROKEN)])
    assert await added(store, "b") == ("a", False)
    clock.advance(5)
    await store.promote()
    [job] = await claim()
    await store.settle([Complete(job.lease)])

    assert await added(store, "b") == ("b", True)


async def test_a_key_may_count_only_until_a_run_has_started(store, claim):
    await added(store, "a", until="started", delay=1)
    assert await added(store, "b", until="started") == ("a", False)
    await store.promote(Selection("files", ids=("a",)))
    assert await added(store, "b", until="started") == ("a", False)
    [job] = await claim()

    assert await added(store, "b", until="started") == ("b", True)
    await store.settle([Release(job.lease)])
    assert await added(store, "c", until="started") == ("b", False)
    assert await ids(store) == ["a", "b"]


@pytest.mark.parametrize("keep", [None, 0])
async def test_a_window_counts_from_the_adding_whatever_becomes_of_the_job(store, claim, clock, keep):
    await added(store, "a", window=60)
    [job] = await claim()
    await store.settle([Complete(job.lease, keep=keep)])
    clock.advance(59.9)
    assert await added(store, "b", window=60) == ("a", False)

    clock.advance(0.1)

    assert await added(store, "b", window=60) == ("b", True)
    assert await added(store, "c", window=60) == ("b", False)


RULES = [{}, {"until": "started"}, {"window": 60}]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("delay", [0, 60])
async def test_cancelled_and_removed_jobs_let_their_keys_go(store, rule, delay):
    await added(store, "a", delay=delay, **rule)
    await store.cancel(Selection("files", ids=("a",)))
    assert await added(store, "b", **rule) == ("b", True)

    await store.remove(Selection("files", ids=("b",)))

    assert await added(store, "c", **rule) == ("c", True)


async def test_failed_jobs_let_their_keys_go_and_those_retried_by_hand_have_them_again(store, claim):
    await added(store, "a")
    [job] = await claim()
    await store.settle([Fail(job.lease, BROKEN)])

    await store.retry(Selection("files", ids=("a",)))

    assert await added(store, "b") == ("a", False)
    await store.cancel(Selection("files", ids=("a",)))
    assert await added(store, "b") == ("b", True)
    await store.retry(Selection("files", ids=("a",)))
    assert await added(store, "c") == ("b", False)


async def test_a_job_that_was_cleared_has_no_key(store, claim, clock):
    await added(store, "a")
    await added(store, "w", "other", window=5)
    for job in await claim(2):
        await store.settle([Complete(job.lease)])
    clock.advance(86_401)

    await store.clear({"files": Retention(completed_for=1)})
    await store.clear({"files": Retention(completed_for=1)})

    assert await ids(store) == []
    assert await added(store, "b") == ("b", True)
    assert await added(store, "v", "other", window=5) == ("v", True)


# --- faults ----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [{}, {"window": 100_000}])
async def test_fault_q08_the_key_of_a_worker_that_died_is_freed_with_its_job_and_not_by_it(store, claim, clock, rule):
    await added(store, "a", **rule)
    [dead] = await claim(lease=30)
    clock.advance(31)
    [back] = await store.recover()
    assert back.job.id == "a"
    assert await added(store, "b", **rule) == ("a", False)

    assert await store.settle([Complete(dead.lease)]) == [dead.lease]

    assert await added(store, "b", **rule) == ("a", False)
    [job] = await claim()
    assert await store.settle([Fail(dead.lease, BROKEN)]) == [dead.lease]
    assert await added(store, "b", **rule) == ("a", False)
    await store.settle([Complete(job.lease)])
    assert await added(store, "b", **rule) == (("b", True) if not rule else ("a", False))


async def test_fault_q08_a_zombie_frees_nothing_of_the_job_that_has_the_key_now(store, claim, clock):
    await added(store, "a")
    [zombie] = await claim()
    await store.cancel(Selection("files", ids=("a",)))
    await added(store, "b")

    assert await store.settle([Complete(zombie.lease, keep=0)]) == [zombie.lease]

    assert await added(store, "c") == ("b", False)


async def test_fault_q08_what_stalls_too_often_has_its_key_no_more(store, claim, clock):
    await added(store, "a", then="keep-last")
    await claim(lease=1)
    await added(store, "b", then="keep-last", data="2")
    for _ in range(2):
        clock.advance(100)
        await store.recover()
        await store.promote()
        await claim(lease=1)
    clock.advance(100)
    await store.recover()

    assert await state(store, "a") is JobState.FAILED
    assert (await one(store, "b")).data == 2
    assert await added(store, "c") == ("b", False)


async def test_fault_q08_a_key_is_free_after_its_window_though_its_worker_hangs(store, claim, clock):
    await added(store, "a", window=60)
    await claim(lease=1000)
    clock.advance(60)

    assert await added(store, "b", window=60) == ("b", True)


# --- what becomes of a second one ------------------------------------------------------


async def test_a_second_one_may_be_refused_and_then_nothing_of_the_add_is_stored(store):
    await added(store, "a")
    before = await events(store)

    with pytest.raises(Duplicate, match="'k'") as refused:
        await store.add([NewJob("x", "files", "resize"), new("y", "free"), new("b", then="reject")])

    assert (refused.value.job_id, refused.value.key) == ("a", "k")
    assert await ids(store) == ["a"]
    assert await events(store) == before
    assert await added(store, "y", "free", then="reject") == ("y", True)


async def test_the_same_add_again_is_not_refused(store):
    await added(store, "a", then="reject")

    assert await added(store, "a", then="reject") == ("a", False)


async def test_a_known_id_says_more_than_a_key(store, claim):
    await added(store, "a")
    [job] = await claim()
    await store.settle([Complete(job.lease)])
    await added(store, "b")

    assert await added(store, "a") == ("a", False)
    assert await added(store, "a", "other") == ("a", False)
    assert await added(store, "c", "other") == ("c", True)


async def test_a_job_that_has_not_started_is_replaced(store, clock, claim):
    await added(store, "a", data="1", expires_in=10)
    await store.add([NewJob("z", "files", "resize")])
    clock.advance(5)

    [answer] = await store.add([new("b", data="2", then="replace", expires_in=20)])

    assert (answer.job.id, answer.created, answer.job.data) == ("a", False, 2)
    assert answer.job == await one(store, "a")
    assert answer.job.options == Options(expires_in=20, dedup=Dedup("k", then="replace"))
    assert answer.job.added_us == int(clock.now() * 1e6)
    assert [event.kind for event in await events(store) if event.job_id == "a"] == ["waiting", "updated"]
    assert [job.id for job in await claim(2)] == ["a", "z"]


async def test_what_replaces_says_its_own_name_priority_and_delay(store, clock, claim):
    await added(store, "a", data="1")
    await added(store, "z", "other")

    assert await added(store, "b", data="2", name="crop", priority=-5, then="replace") == ("a", False)
    job = await one(store, "a")
    assert (job.name, job.priority, job.data, job.state) == ("crop", -5, 2, JobState.WAITING)
    assert await added(store, "b", data="3", delay=60, then="replace") == ("a", False)
    job = await one(store, "a")
    assert (job.name, job.data, job.state, job.due_us) == ("resize", 3, JobState.DELAYED, job.added_us + 60_000_000)
    assert await figures(store) == {"waiting": 1, "delayed": 1}
    assert [job.id for job in await claim(5)] == ["z"]
    assert await added(store, "b", data="4", then="replace") == ("a", False)
    assert [(job.id, job.data) for job in await claim(5)] == [("a", 4)]


async def test_a_job_that_has_started_is_not_replaced(store, claim):
    await added(store, "a", data="1")
    [job] = await claim()
    assert await added(store, "b", data="2", then="replace") == ("a", False)
    await store.settle([Retry(job.lease, 5, BROKEN)])
    assert await added(store, "b", data="2", then="replace") == ("a", False)

    assert (await one(store, "a")).data == 1
    assert await ids(store) == ["a"]


async def test_a_debounced_job_runs_once_when_nothing_has_come_for_a_while(store, clock, claim):
    for number in range(5):
        await added(store, f"a{number}", data=str(number), delay=10, window=10, then="replace")
        clock.advance(9)
        assert await store.promote() == 0
    clock.advance(1)

    assert await store.promote() == 1

    assert [(job.id, job.data) for job in await claim(5)] == [("a0", 4)]


async def test_the_newest_that_comes_while_one_runs_is_added_when_that_ends(store, claim, clock):
    await added(store, "a", data="0", then="keep-last")
    assert await added(store, "b", data="1", then="keep-last") == ("a", False)
    [job] = await claim()
    assert job.data == 1
    assert await added(store, "c", data="2", then="keep-last") == ("a", False)
    assert await added(store, "d", data="3", then="keep-last", priority=4) == ("a", False)
    assert await ids(store) == ["a"]

    assert await store.settle([Complete(job.lease)]) == []

    [following] = await claim(5)
    assert (following.id, following.data, following.priority) == ("d", 3, 4)
    assert await added(store, "e", then="keep-last") == ("d", False)
    await store.settle([Complete(following.lease)])
    assert [job.id for job in await claim(5)] == ["e"]


@pytest.mark.parametrize("end", ["complete", "removed at its end", "fail", "cancel", "remove", "retry and cancel"])
async def test_what_is_remembered_is_added_however_the_job_ends(store, claim, end):
    await added(store, "a")
    [job] = await claim()
    await added(store, "b", then="keep-last")
    chosen = Selection("files", ids=("a",))

    match end:
        case "complete":
            await store.settle([Complete(job.lease, result="1")])
        case "removed at its end":
            await store.settle([Complete(job.lease, keep=0)])
        case "fail":
            await store.settle([Fail(job.lease, BROKEN)])
        case "cancel":
            await store.cancel(chosen)
        case "remove":
            await store.remove(chosen)
        case _:
            await store.settle([Retry(job.lease, 5, BROKEN)])
            assert await ids(store) == ["a"]
            await store.cancel(chosen)

    assert await ids(store, JobState.WAITING) == ["b"]
    assert await added(store, "c") == ("b", False)


async def test_a_lost_settlement_adds_nothing_that_is_remembered(store, claim, clock):
    await added(store, "a")
    [dead] = await claim(lease=1)
    await added(store, "b", then="keep-last")
    clock.advance(2)
    await store.recover()

    assert await store.settle([Complete(dead.lease)]) == [dead.lease]
    assert await ids(store) == ["a"]
    [job] = await claim()
    assert await store.settle([Complete(dead.lease), Complete(job.lease)]) == [dead.lease]
    assert await ids(store) == ["a", "b"]


# --- many at once ----------------------------------------------------------------------


async def test_bad_input_twins_in_one_add_are_one_job(store):
    found = await store.add([
        new("a", data="1"), NewJob("x", "files", "resize"), new("b", data="2"), new("c", "other"), new("d", "other"),
    ])  # fmt: skip

    assert [(answer.job.id, answer.created) for answer in found] == [
        ("a", True), ("x", True), ("a", False), ("c", True), ("c", False),
    ]  # fmt: skip
    assert (await one(store, "a")).data == 1
    assert await ids(store) == ["a", "c", "x"]


async def test_bad_input_twins_that_replace_leave_the_last(store):
    found = await store.add([new(f"a{number}", data=str(number), delay=number, then="replace") for number in range(3)])

    assert {answer.job.id for answer in found} == {"a0"}
    job = await one(store, "a0")
    assert (job.data, job.state) == (2, JobState.DELAYED)


async def test_bad_input_twins_that_refuse_store_nothing(store):
    with pytest.raises(Duplicate):
        await store.add([new("a", then="reject"), new("b", then="reject")])

    assert await ids(store) == []
    assert await added(store, "a") == ("a", True)


async def test_bad_input_twins_that_say_different_things_are_one_after_the_other(store, claim):
    await store.add([new("a", data="1"), new("b", data="2", then="replace"), new("c", data="3")])
    [job] = await claim()
    assert (job.id, job.data) == ("a", 2)
    await store.add([new("d", data="4", then="keep-last"), new("e", data="5", then="replace")])

    await store.settle([Complete(job.lease)])

    assert [(job.id, job.data) for job in await claim()] == [("d", 5)]


async def test_many_with_keys_are_added_in_one_call_in_their_order(store, claim):
    await added(store, "x", "7")

    found = await store.add([new(f"a{number:03}", str(number)) for number in range(200)])

    assert [answer.created for answer in found] == [number != 7 for number in range(200)]
    order = [job.id for job in await claim(200)]
    assert order == ["x", *(f"a{number:03}" for number in range(200) if number != 7)]


async def test_a_job_that_is_moved_here_has_its_key(store, claim):
    await added(store, "w", "window", window=60)
    await added(store, "s", "started", until="started")
    await added(store, "e", "ended", delay=60)
    packed = [*await store.pack("files", JobState.WAITING), *await store.pack("files", JobState.DELAYED)]
    await store.remove(Selection("files", ids=("w", "s", "e")))

    await store.adopt(packed)

    assert await added(store, "x", "window", window=60) == ("w", False)
    assert await added(store, "x", "started", until="started") == ("s", False)
    assert await added(store, "x", "ended") == ("e", False)


def keyed_firing(its, *moments, **rule):
    """A firing whose jobs have a key."""
    fired = firing(its, *moments)
    jobs = tuple(msgspec.structs.replace(job, options=Options(dedup=Dedup("k", **rule))) for job in fired.jobs)
    return msgspec.structs.replace(fired, jobs=jobs)


@pytest.mark.parametrize("then", ["existing", "replace", "keep-last"])
async def test_the_jobs_of_a_schedule_may_have_a_key(store, then):
    [its] = await put(store, kept())
    first = its.next_us

    assert await store.fire([keyed_firing(its, first, first + SECOND, then=then)]) == [1]
    assert await store.fire([keyed_firing(await read(store), then=then)]) == [0]

    assert await ids(store) == [its.schedule.job_id(its.generation, first)]
    assert await added(store, "a") == ((await ids(store))[0], False)


# --- races -----------------------------------------------------------------------------


async def test_fault_d08_of_many_at_once_one_is_stored(shared, another):
    _, store = shared

    answers = await asyncio.gather(*((store, another)[number % 2].add([new(str(number))]) for number in range(40)))

    assert sum(answer.created for [answer] in answers) == 1
    assert len({answer.job.id for [answer] in answers}) == 1
    assert len(await ids(store)) == 1
    assert await store.audit() == []


async def test_fault_d08_of_many_at_once_that_replace_the_one_that_is_left_says_what_one_of_them_said(shared, another):
    _, store = shared
    adds = [new(str(number), data=str(number), then="replace") for number in range(40)]

    answers = await asyncio.gather(*((store, another)[number % 2].add([job]) for number, job in enumerate(adds)))

    assert sum(answer.created for [answer] in answers) == 1
    [id] = await ids(store)
    assert (await one(store, id)).data in range(40)
    assert await store.audit() == []


async def test_mission_a20_processes_that_add_the_same_at_once_add_one(shared):
    url, store = shared

    async with asyncio.timeout(60):
        lines = await asyncio.gather(*(finished("tests.store.process_dedup", "add", url, 30) for _ in range(4)))

    told = [words for process in lines for words in process]
    assert len(told) == 120
    stored = [words for words in told if words[0] == "stored"]
    assert sorted(int(words[1]) for words in stored) == list(range(30))
    assert {words[2] for words in told} == {words[2] for words in stored} == set(await ids(store))
    assert await store.audit() == []


async def test_fault_q08_none_that_is_remembered_is_lost_or_doubled_among_processes(shared):
    """Adders and workers at once: the last that was said of each key runs, and no two of a key at a time."""
    url, store = shared

    async with asyncio.timeout(60):
        adding = [finished("tests.store.process_dedup", "keep", url, number, 40) for number in range(2)]
        lines = await asyncio.gather(*adding, finished("tests.store.process_dedup", "drain", url, 80))

    last = {words[1]: int(words[2]) for process in lines[:2] for words in process if words[0] == "kept"}
    runs = [words for words in lines[2] if words[0] == "ran"]
    while jobs := await store.claim([Want("files")], limit=10, worker="rest", lease=60):
        runs += [["ran", job.options.dedup.key, str(job.data)] for job in jobs]
        await store.settle([Complete(job.lease) for job in jobs])
    ran = {}
    for _, key, number in runs:
        ran.setdefault(key, []).append(int(number))
    assert {key: numbers[-1] for key, numbers in ran.items()} == last
    assert all(numbers == sorted(set(numbers)) for numbers in ran.values())
    assert await store.audit() == []


def test_what_is_remembered_travels_whole():
    job = new("a", then="keep-last", data='{"n":1}', priority=3)

    assert msgspec.json.decode(msgspec.json.encode(job), type=NewJob) == job


# --- ids that are given again ----------------------------------------------------------


async def ended_and_cleared(store, claim, id, **rule):
    """A job that had the key, of which nothing is left, and a plain one that was given its id."""
    await store.add([new(id, **rule)])
    [job] = await claim()
    await store.settle([Complete(job.lease)])
    await store.clear({"files": Retention(completed_most=0)})
    assert await store.get("files", [id]) == [None]
    await store.add([NewJob(id, "files", "resize", data='"plain"')])


RULES = [{}, {"until": "started"}, {"then": "replace"}, {"then": "keep-last"}, {"then": "reject"}]


@pytest.mark.parametrize("rule", RULES)
async def test_a_later_job_with_the_id_of_the_first_has_not_its_key(store, claim, rule):
    await ended_and_cleared(store, claim, "a", **rule)

    assert await added(store, "b", data="2", **rule) == ("b", True)

    assert [(await one(store, id)).data for id in "ab"] == ["plain", 2]
    assert await added(store, "c") == ("b", False)


@pytest.mark.parametrize("rule", [{}, {"then": "replace"}])
async def test_a_window_outlives_its_job_and_a_later_one_with_the_same_id_is_not_taken_for_it(store, claim, rule):
    await ended_and_cleared(store, claim, "a", window=60, **rule)

    [answer] = await store.add([new("b", data="2", window=60, **rule)])

    assert (answer.job.id, answer.job.data, answer.created) == ("a", 2, False)
    assert (await one(store, "a")).data == "plain"
    assert await ids(store) == ["a"]


# --- with the keys of limits -----------------------------------------------------------


def both(id, dedup, key, *, data="null", priority=0, delay=0.0, **rule):
    options = Options(dedup=Dedup(dedup, **rule))
    return NewJob(id, "files", "resize", data=data, priority=priority, delay=delay, options=options, key=key)


async def test_a_job_may_have_both_kinds_of_keys(store, claim):
    await store.limit("files", Limits(key_concurrency=1))
    await store.add([both("a", "one", "acme"), both("b", "two", "acme", data="1")])
    assert [await state(store, id) for id in "ab"] == [JobState.WAITING, JobState.BLOCKED]

    [same, other] = await store.add([both("x", "one", "acme"), both("c", "three", "acme")])
    assert ((same.job.id, same.created), (other.job.state, other.created)) == (("a", False), (JobState.BLOCKED, True))
    [answer] = await store.add([both("y", "two", "acme", data="2", then="replace")])
    assert (answer.job.id, answer.job.state, answer.job.data) == ("b", JobState.BLOCKED, 2)
    assert await figures(store) == {"waiting": 1, "blocked": 2}

    for expected in ("a", "b", "c"):
        [job] = await claim(5)
        assert job.id == expected
        await store.settle([Complete(job.lease)])
    assert await figures(store) == {"completed": 3}


async def test_what_replaces_may_go_to_another_key_and_be_delayed(store, claim):
    await store.limit("files", Limits(key_concurrency=1))
    await store.add([both("a", "one", "acme"), both("b", "two", "acme"), both("c", "three", "beta")])

    [moved] = await store.add([both("x", "two", "beta", priority=5, then="replace")])
    assert (moved.job.id, moved.job.key, moved.job.priority, moved.job.state) == ("b", "beta", 5, JobState.BLOCKED)
    [delayed] = await store.add([both("y", "one", "acme", delay=60, then="replace")])
    assert (delayed.job.id, delayed.job.state) == ("a", JobState.DELAYED)
    [plain] = await store.add([new("z", "two", then="replace")])
    assert (plain.job.id, plain.job.key, plain.job.state) == ("b", None, JobState.WAITING)

    assert sorted(job.id for job in await claim(5)) == ["b", "c"]
    assert await figures(store) == {"active": 2, "delayed": 1}


async def test_what_is_remembered_comes_to_the_line_of_its_key(store, claim):
    await store.limit("files", Limits(key_concurrency=1))
    await store.add([both("a", "one", "acme", then="keep-last"), both("b", "two", "acme")])
    [job] = await claim(5)
    await store.add([both("c", "one", "acme", then="keep-last")])

    await store.settle([Complete(job.lease)])

    assert [await state(store, id) for id in "bc"] == [JobState.WAITING, JobState.BLOCKED]
    [job] = await claim(5)
    await store.settle([Fail(job.lease, BROKEN)])
    assert [job.id for job in await claim(5)] == ["c"]
