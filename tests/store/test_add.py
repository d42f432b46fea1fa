"""Adding jobs: what is stored, what a known id does, and all or none."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from muskox.core.backoff import Exponential, Fixed, Steps
from muskox.core.job import Job, JobState, NewJob, Options
from muskox.core.life import Complete, Fail
from muskox.store.protocol import Selection, Want
from tests.store.reading import BROKEN, events, everything, figures, kinds, one, state


def new(id, queue="files", name="resize", **fields):
    return NewJob(id, queue, name, **fields)


async def test_mission_a03_a_job_comes_back_as_it_was_given(store, clock):
    options = Options(attempts=5, backoff=Exponential(2, jitter=0.5), timeout=30, max_stalls=3, keep_for=60)

    [added] = await store.add([new("a", data='{"w":1}', priority=7, options=options)])

    assert added.created
    assert added.job == Job(
        "a", "files", "resize", JobState.WAITING, 7, '{"w":1}', 0, 5, options=options, added_us=int(clock.now() * 1e6)
    )
    assert await one(store, "a") == added.job


@pytest.mark.parametrize("backoff", [Fixed(3), Exponential(2, factor=3, cap=9), Steps((1, 2.5), jitter=1)])
async def test_every_backoff_is_kept(store, add, backoff):
    job = await add(backoff=backoff)

    assert (await one(store, job.id)).options.backoff == backoff


async def test_answers_come_in_the_order_given(store):
    ids = ["d", "a", "c", "b"]

    added = await store.add([new(id, priority=len(id) + number % 2) for number, id in enumerate(ids)])

    assert [(answer.job.id, answer.created) for answer in added] == [(id, True) for id in ids]


async def test_nothing_to_add_is_nothing_added(store):
    assert await store.add([]) == []


async def test_mission_a10_a_delayed_job_is_due_after_its_delay(store, clock, add):
    month = 30 * 86_400

    job = await add(delay=month)

    assert job.state is JobState.DELAYED
    assert job.due_us == job.added_us + month * 1_000_000
    assert await one(store, job.id) == job


async def test_fault_t07_a_delay_of_a_hundred_years_is_kept_exactly(store, add):
    job = await add(delay=3_162_240_000)

    assert (await one(store, job.id)).due_us == job.added_us + 3_162_240_000_000_000


async def test_mission_a20_a_known_id_stores_nothing_and_answers_with_what_is_there(store, add):
    first = await add(id="a", data='{"n":1}')
    before = await everything(store)

    [again] = await store.add([new("a", data='{"n":2}', priority=9, delay=60)])

    assert (again.job, again.created) == (first, False)
    assert await everything(store) == before


async def test_mission_a20_twins_in_one_call_are_one_job(store):
    added = await store.add([new("a", data="1"), new("b"), new("a", data="2"), new("a", name="other")])

    assert [(answer.job.id, answer.created) for answer in added] == [
        ("a", True),
        ("b", True),
        ("a", False),
        ("a", False),
    ]
    assert [answer.job.data_text for answer in added] == ["1", "null", "1", "1"]
    assert await figures(store) == {"waiting": 2}
    assert await kinds(store) == ["waiting", "waiting"]


async def test_known_and_new_ids_may_be_mixed(store, add):
    await add(id="b")

    added = await store.add([new("a"), new("b"), new("c")])

    assert [answer.created for answer in added] == [True, False, True]
    assert await figures(store) == {"waiting": 3}
    assert await store.audit() == []


async def test_fault_d08_one_id_in_two_queues_is_two_jobs(store):
    added = await store.add([new("a", queue="files"), new("a", queue="email")])

    assert [answer.created for answer in added] == [True, True]
    assert (await one(store, "a", "files")).queue == "files"
    assert (await one(store, "a", "email")).queue == "email"


async def test_fault_d08_64_adds_of_one_id_at_once_make_one_job(store):
    answers = await asyncio.gather(*(store.add([new("a", data=str(n))]) for n in range(64)))

    added = [answer for [answer] in answers]
    assert sum(answer.created for answer in added) == 1
    assert len({answer.job.data_text for answer in added}) == 1
    assert await figures(store) == {"waiting": 1}
    assert await kinds(store) == ["waiting"]


async def test_fault_d08_64_adds_of_one_id_from_two_stores_make_one_job(shared, another):
    _, store = shared

    answers = await asyncio.gather(*((store, another)[n % 2].add([new("a", data=str(n))]) for n in range(64)))

    assert sum(answer.created for [answer] in answers) == 1
    assert len({answer.job.data_text for [answer] in answers}) == 1
    assert await store.audit() == []


async def test_fault_d08_calls_that_overlap_from_two_stores_make_each_job_once(shared, another):
    _, store = shared
    calls = [[new(f"{number:04}") for number in range(first, first + 200)] for first in range(0, 1000, 50)]

    answers = await asyncio.gather(*((store, another)[n % 2].add(call) for n, call in enumerate(calls)))

    assert [[added.job.id for added in answer] for answer in answers] == [[job.id for job in call] for call in calls]
    assert sum(added.created for answer in answers for added in answer) == 1150
    assert await figures(store) == {"waiting": 1150}
    assert sorted(event.job_id for event in await events(store)) == [f"{number:04}" for number in range(1150)]
    assert await store.audit() == []


@pytest.mark.parametrize("end", ["active", "completed", "failed", "cancelled", "delayed"])
async def test_fault_d08_a_known_id_is_known_in_every_state(store, add, claim, end):
    await add(id="a", delay=60 if end == "delayed" else 0)
    if end in {"active", "completed", "failed"}:
        [job] = await claim()
        if end == "completed":
            await store.settle([Complete(job.lease, "1")])
        elif end == "failed":
            await store.settle([Fail(job.lease, BROKEN)])
    elif end == "cancelled":
        await store.cancel(Selection("files", ids=("a",)))
    before = await everything(store)

    [answer] = await store.add([new("a")])

    assert (answer.created, answer.job.state) == (False, JobState(end))
    assert await everything(store) == before


async def test_fault_d08_a_removed_id_can_be_used_again(store, add):
    await add(id="a", data="1")
    await store.remove(Selection("files", ids=("a",)))

    [answer] = await store.add([new("a", data="2")])

    assert (answer.created, answer.job.data_text, await state(store, "a")) == (True, "2", JobState.WAITING)


async def test_mission_a04_ten_thousand_jobs_in_one_call(store, claim):
    jobs = [new(f"{n:05}", data=json.dumps({"n": n})) for n in range(10_000)]

    added = await store.add(jobs)

    assert [answer.job.id for answer in added] == [job.id for job in jobs]
    assert await figures(store) == {"waiting": 10_000}
    assert [job.id for job in await claim(3)] == ["00000", "00001", "00002"]
    assert await store.audit() == []


async def test_fault_d09_one_bad_job_among_many_stores_none(store, add):
    await add(id="before")
    before = await everything(store)
    # A record that no store can write, made behind the back of the checks.
    jobs = [new("a"), new("b", name="other"), _forged("c", data=object()), new("d")]

    with pytest.raises(Exception):  # noqa: B017 - which one is the store's affair; what counts is what is left
        await store.add(jobs)

    assert await everything(store) == before
    assert await store.audit() == []


async def test_mission_a04_ten_thousand_with_one_bad_store_none(store):
    jobs = [new(str(n)) for n in range(9_999)]

    with pytest.raises(Exception):  # noqa: B017 - as above
        await store.add([*jobs, _forged("bad", data=object())])

    assert await figures(store) == {}
    assert await kinds(store) == []


def _forged(id, **fields):
    return msgspec.structs.replace(new(id), **fields)


ODD_NAMES = [
    "a:b",
    "{tag}",
    "*",
    "%s",
    "'; DROP TABLE jobs; --",
    "]]",
    "..",
    "\\",
    '"',
    "e\u0301",
    "\u00e9",
    "😀",
    "x" * 255,
]


@pytest.mark.parametrize("text", ODD_NAMES, ids=ascii)
async def test_fault_d03_ids_and_names_are_kept_to_the_letter(store, text):
    await store.add([new(text, name=text)])

    assert (await one(store, text)).name == text
    [claimed] = await store.claim([Want("files", frozenset({text}))], limit=5, worker="w", lease=30)
    assert (claimed.id, claimed.name, claimed.lease.job_id) == (text, text, text)
    assert await store.settle([Complete(claimed.lease)]) == []


async def test_fault_d03_odd_ids_added_together_are_kept_to_the_letter(store):
    await store.add([new(text, data=f'"{at}"') for at, text in enumerate(ODD_NAMES)])

    found = await store.get("files", ODD_NAMES)
    assert [(job.id, job.data) for job in found] == [(text, str(at)) for at, text in enumerate(ODD_NAMES)]


async def test_fault_d03_normalisation_twins_are_two_jobs(store):
    added = await store.add([new("e\u0301"), new("\u00e9")])

    assert [answer.created for answer in added] == [True, True]


async def test_mission_a01_queue_names_are_case_sensitive(store, add, claim):
    await add(queue="Email", id="a")

    assert await claim(queue="email") == []
    assert [job.id for job in await claim(queue="Email")] == ["a"]


@pytest.mark.parametrize(
    "text", ['"a\\u0000b"', '"\\ud83d\\ude00"', '"' + "x" * 1_048_574 + '"', "[" * 900 + "]" * 900, "null"]
)
async def test_fault_d01_data_is_kept_to_the_letter(store, text):
    await store.add([new("a", data=text), new("b", data=text)])

    assert [job.data_text for job in await store.get("files", ["a", "b"])] == [text, text]


async def test_waiting_and_delayed_are_told(store, add):
    await add(id="a")
    await add(id="b", delay=5)

    assert [await kinds(store, id) for id in "ab"] == [["waiting"], ["delayed"]]
