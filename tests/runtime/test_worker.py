"""A real worker on a store in memory: what runs, how many at once, what is kept, what comes again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from muskox import (
    ActiveJob,
    DeclarationError,
    Exponential,
    FailureKind,
    FinalError,
    Fixed,
    JobState,
    Muskox,
    OptionError,
    Steps,
    SyncActiveJob,
)
from muskox.runtime.claimer import AHEAD
from tests.runtime.flaky import FlakyStore
from tests.runtime.helpers import ended, reached, until


async def test_a_job_runs_and_its_result_is_kept(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("welcome")
    async def welcome(job: ActiveJob, name: str, times: int = 1) -> dict[str, Any]:
        return {"hello": name * times, "attempt": job.attempt}

    async with ox.worker():
        job = await queue.add("welcome", {"name": "Ada", "times": 2})
        result = await queue.result(job.id, timeout=10)

    assert result == {"hello": "AdaAda", "attempt": 1}


async def test_a_blocking_processor_runs_in_a_thread(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("where")
    def where(job: SyncActiveJob) -> str:
        job.progress(50)
        job.log("at work")
        return threading.current_thread().name

    async with ox.worker():
        job = await queue.add("where")
        result = await queue.result(job.id, timeout=10)

    assert result == "muskox-processor"
    found = await queue.get(job.id)
    assert found is not None
    assert found.progress == 50
    assert [line.text for line in await queue.logs(job.id)] == ["at work"]


async def test_a_plain_function_that_returns_a_coroutine_has_it_awaited(ox: Muskox) -> None:
    queue = ox.queue("email")

    async def inner(name: str) -> str:
        await asyncio.sleep(0)
        return f"hello {name}"

    @queue.processor("wrapped")
    def wrapped(name: str) -> Any:
        return inner(name)

    async with ox.worker():
        job = await queue.add("wrapped", {"name": "Ada"})
        result = await queue.result(job.id, timeout=10)

    assert result == "hello Ada"


async def test_no_more_runs_at_once_than_there_are_slots(ox: Muskox) -> None:
    queue = ox.queue("email")
    running, most = 0, 0

    @queue.processor("short")
    async def short() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    await queue.add_many([queue.new("short") for _ in range(300)])
    async with ox.worker(concurrency=7):
        counts = await _all_ended(ox, 300)

    assert counts.states[JobState.COMPLETED] == 300
    assert most == 7


async def test_no_more_threads_at_once_than_there_are_slots(ox: Muskox) -> None:
    queue = ox.queue("email")
    lock = threading.Lock()
    running, most = 0, 0
    full = threading.Barrier(3)

    @queue.processor("short")
    def short() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait(10)
        with lock:
            running -= 1

    await queue.add_many([queue.new("short") for _ in range(12)])
    async with ox.worker(concurrency=3):
        await _all_ended(ox, 12)

    assert most == 3


async def test_prefetch_is_bounded_and_given_back_at_a_stop(shaky: Muskox, flaky: FlakyStore) -> None:
    queue = shaky.queue("email")
    gate, most = asyncio.Event(), 0

    @queue.processor("short")
    async def short(number: int) -> None:
        nonlocal most
        most = max(most, worker._runs.load())
        await asyncio.sleep(0)
        if number > 400:
            await gate.wait()

    await queue.add_many([queue.new("short", {"number": n}) for n in range(1000)])
    worker = shaky.worker(concurrency=4, shutdown_timeout=10)
    async with worker:
        await until(lambda: worker._slots.running == 4 and worker._runs.load() >= 4 and worker._claimer.idle)
        await reached(queue, await _nth(shaky, 403), lambda job: job.state is JobState.ACTIVE)
        worker.stop()
        await until(lambda: not worker._slots.waiting)
        gate.set()

    counts = await queue.counts()
    assert 4 < most <= 4 + 4 * AHEAD
    assert counts.states[JobState.ACTIVE] == 0
    assert counts.states[JobState.COMPLETED] + counts.states[JobState.WAITING] == 1000
    for job in (await queue.find("waiting", limit=1000)).jobs:
        assert job.attempt == 0


async def test_long_runs_are_not_fetched_ahead(ox: Muskox) -> None:
    queue = ox.queue("email")
    gate = asyncio.Event()

    @queue.processor("long")
    async def long() -> None:
        await gate.wait()

    await queue.add_many([queue.new("long") for _ in range(20)])
    worker = ox.worker(concurrency=3)
    async with worker:
        await until(lambda: worker._slots.running == 3 and worker._claimer.idle)
        counts = await queue.counts()
        gate.set()
        await _all_ended(ox, 20)

    assert counts.states[JobState.ACTIVE] == 3


async def test_higher_priority_runs_sooner_and_then_the_earlier(ox: Muskox) -> None:
    queue = ox.queue("email")
    order: list[str] = []

    @queue.processor("note")
    async def note(word: str) -> None:
        order.append(word)

    for word, priority in [("a", 0), ("b", 5), ("c", 0), ("d", 9), ("e", 5)]:
        await queue.add("note", {"word": word}, priority=priority)
    async with ox.worker(concurrency=1):
        await _all_ended(ox, 5)

    assert order == ["d", "b", "e", "a", "c"]


async def test_progress_log_and_data_are_seen_while_the_job_runs(ox: Muskox) -> None:
    queue = ox.queue("email")
    gate = asyncio.Event()

    @queue.processor("long")
    async def long(job: ActiveJob, step: int = 0) -> None:
        await job.progress({"step": 1})
        await job.log("begun")
        await job.update({"step": 7})
        await gate.wait()

    async with ox.worker():
        job = await queue.add("long", {})
        seen = await reached(queue, job, lambda now: now.progress is not None)
        gate.set()
        await ended(queue, job)

    assert seen.state is JobState.ACTIVE
    assert seen.progress == {"step": 1}
    assert seen.data == {"step": 7}
    assert [line.text for line in await queue.logs(job.id)] == ["begun"]


async def test_a_log_line_that_is_no_text_is_kept_as_text(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("odd")
    async def odd(job: ActiveJob) -> None:
        await job.log(42)  # type: ignore[arg-type]

    @queue.processor("odd-thread")
    def odd_thread(job: SyncActiveJob) -> None:
        job.log(43)  # type: ignore[arg-type]

    async with ox.worker():
        one, two = await queue.add("odd"), await queue.add("odd-thread")
        await ended(queue, one)
        await ended(queue, two)

    assert [line.text for line in await queue.logs(one.id)] == ["42"]
    assert [line.text for line in await queue.logs(two.id)] == ["43"]


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Fixed(0.01), [0.01, 0.01]),
        (Exponential(0.01), [0.01, 0.02]),
        (Steps((0.01, 0.03)), [0.01, 0.03]),
        (lambda attempt, error: 0.01 * attempt if isinstance(error, ValueError) else 99, [0.01, 0.02]),
    ],
    ids=["fixed", "exponential", "steps", "custom"],
)
async def test_a_failing_job_comes_again_after_its_backoff_until_its_last_attempt(
    ox: Muskox, backoff: Any, delays: list[float]
) -> None:
    queue = ox.queue("email")
    attempts: list[int] = []
    told: list[float] = []

    @queue.processor("bad", attempts=3, backoff=backoff)
    async def bad(job: ActiveJob) -> None:
        attempts.append(job.attempt)
        raise ValueError("no")

    @ox.on("retrying")
    async def retrying(event: Any) -> None:
        told.append(event.delay)

    async with ox.worker():
        job = await ended(queue, await queue.add("bad"))
        await until(lambda: len(told) == 2)

    assert attempts == [1, 2, 3]
    assert told == pytest.approx(delays)
    assert (job.state, job.attempt, job.stalls) == (JobState.FAILED, 3, 0)
    assert job.failure is not None
    assert (job.failure.kind, job.failure.type, job.failure.message) == (FailureKind.ERROR, "ValueError", "no")


class Odd(BaseException):
    pass


@pytest.mark.parametrize("raised", [ZeroDivisionError("x"), SystemExit(3), Odd(), None], ids=repr)
async def test_a_custom_backoff_that_fails_is_replaced_by_the_usual_one(ox: Muskox, raised: Any) -> None:
    queue = ox.queue("email")

    def backoff(attempt: int, error: BaseException | None) -> Any:
        if raised is None:
            return "not a number"
        raise raised

    @queue.processor("bad", attempts=2, backoff=backoff)
    async def bad() -> None:
        raise ValueError("no")

    @queue.processor("good")
    async def good() -> int:
        return 1

    async with ox.worker():
        job = await queue.add("bad")
        delayed = await reached(queue, job, lambda now: now.state is JobState.DELAYED)
        assert await queue.result((await queue.add("good")).id, timeout=10) == 1

    assert delayed.due_us is not None
    assert delayed.attempt == 1


async def test_a_final_error_is_not_tried_again(ox: Muskox) -> None:
    queue = ox.queue("email")
    runs: list[str] = []

    @queue.processor("final", attempts=5)
    async def final() -> None:
        runs.append("final")
        raise FinalError("useless")

    @queue.processor("listed", attempts=5, final_on=(KeyError,))
    def listed() -> None:
        runs.append("listed")
        raise KeyError("useless")

    async with ox.worker():
        one = await ended(queue, await queue.add("final"))
        two = await ended(queue, await queue.add("listed"))

    assert sorted(runs) == ["final", "listed"]
    assert (one.state, one.attempt) == (two.state, two.attempt) == (JobState.FAILED, 1)
    assert one.failure is not None
    assert one.failure.final


async def test_a_jobs_own_options_count_before_its_processors(ox: Muskox) -> None:
    queue = ox.queue("email")
    runs: list[int] = []

    @queue.processor("bad", attempts=5, backoff=Fixed(60))
    async def bad(job: ActiveJob) -> None:
        runs.append(job.attempts)
        raise ValueError

    async with ox.worker():
        job = await ended(queue, await queue.add("bad", attempts=2, backoff=Fixed(0)))

    assert runs == [2, 2]
    assert job.attempt == 2


async def test_a_job_retried_by_hand_runs_once_more(ox: Muskox) -> None:
    queue = ox.queue("email")
    runs: list[int] = []

    @queue.processor("bad")
    async def bad(job: ActiveJob) -> str:
        runs.append(job.attempt)
        if job.attempt == 1:
            raise ValueError
        return "better"

    async with ox.worker():
        job = await ended(queue, await queue.add("bad"))
        await queue.retry(job.id)
        result = await queue.result(job.id, timeout=10)

    assert result == "better"
    assert runs == [1, 2]


async def test_a_delayed_job_starts_when_it_is_due_and_not_before(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("later")
    async def later() -> None:
        return None

    async with ox.worker():
        job = await ended(queue, await queue.add("later", delay=0.3))

    assert job.started_us is not None
    assert 0.3 <= (job.started_us - job.added_us) / 1e6 < 3


async def test_a_paused_queue_starts_nothing_until_it_is_resumed(ox: Muskox) -> None:
    queue, other = ox.queue("email"), ox.queue("other")

    @queue.processor("note")
    async def note() -> str:
        return "ran"

    @other.processor("probe")
    async def probe() -> None:
        return None

    async with ox.worker(poll=0.05):
        await queue.pause()
        job = await queue.add("note")
        await ended(other, await other.add("probe"))
        held_back = await queue.get(job.id)
        await queue.resume()
        result = await queue.result(job.id, timeout=10)

    assert held_back is not None
    assert held_back.state is JobState.WAITING
    assert result == "ran"


async def test_a_worker_without_a_processor_is_refused(ox: Muskox) -> None:
    with pytest.raises(OptionError, match="no processor is declared"):
        ox.worker(["email"])


async def test_an_isolated_function_that_no_child_can_find_fails_its_job_alone(ox: Muskox) -> None:
    queue = ox.queue("email")

    def inside() -> None: ...

    @queue.processor("fine")
    async def fine() -> int:
        return 1

    try:
        queue.processor("inside", isolated=True)(inside)
    except DeclarationError:
        return  # refused where it is declared: better still

    async with ox.worker(concurrency=1):
        job = await ended(queue, await queue.add("inside", attempts=5))
        assert await queue.result((await queue.add("fine")).id, timeout=10) == 1

    assert job.state is JobState.FAILED
    assert job.attempt == 1
    assert job.failure is not None
    assert "module level" in job.failure.message


async def test_keep_for_nothing_removes_a_job_when_it_ends(ox: Muskox) -> None:
    queue = ox.queue("email")
    ran = asyncio.Event()

    @queue.processor("brief", keep_for=0)
    async def brief() -> None:
        ran.set()

    async with ox.worker() as worker:
        job = await queue.add("brief")
        await ran.wait()
        await until(lambda: worker._settler.idle and not worker._runs.held())

    assert await queue.get(job.id) is None


async def _all_ended(ox: Muskox, count: int) -> Any:
    async with asyncio.timeout(20):
        while True:
            [counts] = [one for one in await ox.counts() if one.queue == "email"]
            if counts.states[JobState.COMPLETED] + counts.states[JobState.FAILED] == count:
                return counts
            await asyncio.sleep(0.01)


async def _nth(ox: Muskox, number: int) -> str:
    page = await ox.queue("email").find(["waiting", "active", "completed"], limit=1000)
    return next(job.id for job in page.jobs if job.data["number"] == number)
