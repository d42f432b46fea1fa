"""What each settlement writes, and what it tells."""

from __future__ import annotations

import pytest

from muskox.core.events import Completed, Failed, Released, Retrying, Stalled
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Fail, Release, Retry, Stall
from muskox.store.protocol import Note
from tests.store.reading import BROKEN, events, figures, kinds, one

GONE = Failure(FailureKind.STALLED, message="killed by signal 9")


@pytest.fixture
async def running(add, claim, clock):
    await add(id="a", attempts=5, max_stalls=5)
    clock.advance(1)
    [job] = await claim()
    clock.advance(2)
    return job


async def told(store, kind):
    return [event for event in await events(store) if isinstance(event, kind)]


@pytest.mark.parametrize(
    "text", ['{"sent":true}', "null", '"x"', "5", "[]", '"\\u0000"', '"' + "x" * 100_000 + '"', '"😀"']
)
async def test_mission_a07_a_result_is_kept_to_the_letter(store, running, text):
    assert await store.settle([Complete(running.lease, text)]) == []

    assert (await one(store, "a")).result_text == text


@pytest.mark.parametrize("keep", [None, 60])
async def test_a_completed_job_has_ended(store, clock, running, keep):
    await store.settle([Complete(running.lease, keep=keep)])

    job = await one(store, "a")
    assert (job.state, job.attempt, job.result_text, job.failure) == (JobState.COMPLETED, 1, None, None)
    assert (job.lease, job.worker) == (None, None)
    assert job.ended_us == int(clock.now() * 1e6) == job.started_us + 2_000_000
    assert await figures(store) == {"completed": 1}


async def test_a_result_that_could_not_be_kept_is_said_so(store, running):
    unkept = Failure(FailureKind.RESULT, "DataError", "not JSON")

    await store.settle([Complete(running.lease, None, unkept)])

    job = await one(store, "a")
    assert (job.state, job.result, job.result_error) == (JobState.COMPLETED, None, unkept)


@pytest.mark.parametrize("keep", [None, 60])
async def test_the_failure_of_an_earlier_attempt_is_gone_when_the_job_completes(store, claim, running, keep):
    await store.settle([Retry(running.lease, 0, BROKEN)])
    [again] = await claim()

    await store.settle([Complete(again.lease, "1", keep=keep)])

    job = await one(store, "a")
    assert (job.state, job.failure, job.result_error) == (JobState.COMPLETED, None, None)


@pytest.mark.parametrize("settlement", [Complete, lambda lease: Fail(lease, BROKEN)], ids=["complete", "fail"])
async def test_mission_a21_a_job_kept_for_no_time_is_removed_when_it_ends(store, running, settlement):
    await store.annotate([Note(running.lease, lines=("line",))])
    one = settlement(running.lease)

    ending = type(one)(**{**{f: getattr(one, f) for f in one.__struct_fields__}, "keep": 0})
    assert await store.settle([ending]) == []

    assert await store.get("files", ["a"]) == [None]
    assert await store.logs("files", "a") == []
    assert await figures(store) == {}
    assert (await kinds(store, "a"))[-1] in {"completed", "failed"}
    assert await store.audit() == []


async def test_a_failure_is_kept_with_the_job(store, clock, running):
    failure = Failure(FailureKind.TIMEOUT, "TimeoutError", "ended after 5 s", "Traceback …\n\x1b[31m<b>", final=True)

    await store.settle([Fail(running.lease, failure)])

    job = await one(store, "a")
    assert (job.state, job.failure, job.attempt) == (JobState.FAILED, failure, 1)
    assert job.ended_us == int(clock.now() * 1e6)
    [event] = await told(store, Failed)
    assert (event.job_id, event.name, event.attempt, event.failure) == ("a", "resize", 1, failure)


async def test_a_failure_of_kind_stalled_counts_as_a_stall(store, running):
    await store.settle([Fail(running.lease, GONE)])

    job = await one(store, "a")
    assert (job.state, job.attempt, job.stalls) == (JobState.FAILED, 0, 1)


async def test_mission_a11_a_retry_waits_for_its_delay(store, clock, running):
    await store.settle([Retry(running.lease, 7.5, BROKEN)])

    job = await one(store, "a")
    assert (job.state, job.attempt, job.failure) == (JobState.DELAYED, 1, BROKEN)
    assert job.due_us == int(clock.now() * 1e6) + 7_500_000
    assert (job.ended_us, job.lease, job.worker) == (None, None, None)
    [event] = await told(store, Retrying)
    assert (event.failure, event.delay, event.attempt) == (BROKEN, 7.5, 1)
    assert (await kinds(store, "a"))[-1] == "retrying"


async def test_mission_a11_a_retry_without_delay_waits_at_once(store, running, claim):
    await store.settle([Retry(running.lease, 0, BROKEN)])

    assert (await one(store, "a")).state is JobState.WAITING
    assert (await kinds(store, "a"))[-2:] == ["retrying", "waiting"]
    assert [job.attempt for job in await claim()] == [2]


async def test_a_release_gives_the_attempt_back(store, running):
    await store.settle([Release(running.lease)])

    job = await one(store, "a")
    assert (job.state, job.attempt, job.releases, job.stalls) == (JobState.WAITING, 0, 1, 0)
    assert (job.lease, job.worker) == (None, None)
    assert (await kinds(store, "a"))[-2:] == ["released", "waiting"]
    assert len(await told(store, Released)) == 1


@pytest.mark.parametrize(("delay", "expected"), [(0, JobState.WAITING), (2, JobState.DELAYED)])
async def test_a_stall_gives_the_attempt_back_and_counts_itself(store, running, delay, expected):
    await store.settle([Stall(running.lease, delay, GONE)])

    job = await one(store, "a")
    assert (job.state, job.attempt, job.stalls, job.failure) == (expected, 0, 1, GONE)
    [event] = await told(store, Stalled)
    assert (event.job_id, event.stalls) == ("a", 1)


async def test_mission_a14_every_settlement_is_told(store, add, claim):
    for id in "abcde":
        await add(id=id)
    leases = {job.id: job.lease for job in await claim(5)}

    await store.settle([
        Complete(leases["a"], "1"), Retry(leases["b"], 1, BROKEN), Fail(leases["c"], BROKEN), Release(leases["d"]),
        Complete(leases["e"], "2"),
    ])  # fmt: skip

    assert {id: (await kinds(store, id))[2:] for id in "abcde"} == {
        "a": ["completed"], "b": ["retrying"], "c": ["failed"], "d": ["released", "waiting"], "e": ["completed"],
    }  # fmt: skip
    assert {(event.job_id, event.attempt, event.name) for event in await told(store, Completed)} == {
        ("a", 1, "resize"),
        ("e", 1, "resize"),
    }


async def test_jobs_of_several_queues_and_names_settle_in_one_call(store, add, claim):
    await add("resize", queue="files", id="a")
    await add("convert", queue="files", id="b")
    await add("welcome", queue="email", id="a")
    leases = [job.lease for job in [*await claim(5), *await claim(5, queue="email")]]

    assert await store.settle([Complete(lease, f'"{lease.name}"') for lease in leases]) == []

    assert [(await one(store, "a")).result, (await one(store, "b")).result] == ["resize", "convert"]
    assert (await one(store, "a", "email")).result == "welcome"
    assert await store.audit() == []


async def test_a_thousand_settlements_in_one_call(store, add, claim):
    await store.add([NewJob(str(number), "files", "resize") for number in range(1000)])
    jobs = await claim(1000)

    assert await store.settle([Complete(job.lease, job.id) for job in jobs]) == []
    assert {job.result for job in await store.get("files", [job.id for job in jobs])} == set(range(1000))
    assert await figures(store) == {"completed": 1000}
    assert await store.audit() == []


async def test_every_settlement_keeps_progress_and_data(store, running):
    await store.annotate([Note(running.lease, progress="50", data='{"page":2}')])

    await store.settle([Retry(running.lease, 0, BROKEN)])

    job = await one(store, "a")
    assert (job.progress, job.data) == (50, {"page": 2})
