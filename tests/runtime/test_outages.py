"""The store goes away, answers late or not at all: it is told, asked again, and nothing happens twice or never."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muskox import ActiveJob, Fixed, JobState, Muskox
from tests.runtime.flaky import FlakyStore
from tests.runtime.helpers import ended, reached, until


async def test_mission_a19_a_store_that_goes_away_is_told_and_healed(
    shaky: Muskox, flaky: FlakyStore, caplog: pytest.LogCaptureFixture
) -> None:
    queue = shaky.queue("email")
    errors: list[Any] = []
    shaky.on("error")(errors.append)
    runs: list[int] = []

    @queue.processor("note")
    async def note(job: ActiveJob, n: int) -> None:
        runs.append(n)

    async with shaky.worker(poll=0.05):
        await ended(queue, await queue.add("note", {"n": 1}))
        flaky.away = True
        await until(lambda: errors)
        flaky.away = False
        await ended(queue, await queue.add("note", {"n": 2}))

    assert runs == [1, 2]
    assert {error.queue for error in errors} == {"email"}
    assert "away on purpose" in errors[0].message
    assert "the store failed, it will be asked again" in caplog.text


async def test_a_run_that_ends_while_the_store_is_away_is_settled_when_it_is_back(
    shaky: Muskox, flaky: FlakyStore
) -> None:
    queue = shaky.queue("email")
    gate, ran = asyncio.Event(), asyncio.Event()

    @queue.processor("long")
    async def long(job: ActiveJob) -> str:
        await job.progress(1)
        await gate.wait()
        await job.progress(99)
        await job.log("the last word")
        ran.set()
        return "done"

    async with shaky.worker():
        job = await queue.add("long")
        await reached(queue, job, lambda now: now.progress == 1)
        flaky.away = True
        before = flaky.called("settle") + flaky.called("annotate")
        gate.set()
        await ran.wait()
        await until(lambda: flaky.called("settle") + flaky.called("annotate") >= before + 2)
        flaky.away = False
        settled = await ended(queue, job)

    assert (settled.state, settled.result, settled.attempt) == (JobState.COMPLETED, "done", 1)
    assert settled.progress == 99
    assert [line.text for line in await queue.logs(job.id)] == ["the last word"]


async def test_a_run_whose_lease_cannot_be_renewed_is_told_to_stop_when_it_is_over(
    shaky: Muskox, flaky: FlakyStore
) -> None:
    queue = shaky.queue("email")
    told = asyncio.Event()
    runs: list[int] = []

    @queue.processor("long")
    async def long(job: ActiveJob) -> str:
        runs.append(job.attempt)
        if len(runs) > 1:
            return "done"
        await job.progress(1)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.set()
            raise
        return "never"

    async with shaky.worker(lease=0.6):
        job = await queue.add("long")
        await reached(queue, job, lambda now: now.progress == 1)
        flaky.away = True
        async with asyncio.timeout(10):
            await told.wait()
        flaky.away = False
        settled = await ended(queue, job)

    assert runs == [1, 1]
    assert (settled.state, settled.stalls, settled.attempt) == (JobState.COMPLETED, 1, 1)


async def test_work_that_was_done_although_the_lease_seemed_over_is_kept_if_nobody_else_took_it(
    shaky: Muskox, flaky: FlakyStore
) -> None:
    queue = shaky.queue("email")
    told, gate = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @queue.processor("long")
    async def long(job: ActiveJob) -> str:
        runs.append(job.attempt)
        await job.progress(1)
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                told.set()
        return "done"

    flaky.fail("recover", times=1_000_000)  # nobody takes it back meanwhile
    async with shaky.worker(lease=0.6):
        job = await queue.add("long")
        await reached(queue, job, lambda now: now.progress == 1)
        flaky.fail("renew", times=1_000_000)
        async with asyncio.timeout(10):
            await told.wait()
        gate.set()
        settled = await ended(queue, job)

    assert runs == [1]
    assert (settled.state, settled.result, settled.stalls) == (JobState.COMPLETED, "done", 0)


@pytest.mark.parametrize("ending", ["return", "retry", "fail"])
@pytest.mark.parametrize("fault", ["fail", "lose_answer"])
async def test_a_settlement_without_an_answer_is_said_again_and_counts_once(
    shaky: Muskox, flaky: FlakyStore, ending: str, fault: str
) -> None:
    queue = shaky.queue("email")
    heard: list[Any] = []
    for kind in ("completed", "failed"):
        shaky.on(kind)(heard.append)
    runs: list[int] = []

    @queue.processor("note", attempts=2, backoff=Fixed(0))
    async def note(job: ActiveJob) -> str:
        runs.append(job.attempt)
        if ending == "fail" or (ending == "retry" and job.attempt == 1):
            raise ValueError("no")
        return "done"

    async with shaky.worker(poll=0.05):
        getattr(flaky, fault)("settle", times=2)
        job = await ended(queue, await queue.add("note"))
        await until(lambda: heard)

    stored = [event for event in await flaky.store.events(after=0) if event.kind in {"completed", "failed"}]
    assert len(stored) == len(heard) == 1
    assert runs == {"return": [1], "retry": [1, 2], "fail": [1, 2]}[ending]
    assert (job.attempt, job.stalls) == (len(runs), 0)


async def test_notes_without_an_answer_are_written_once_or_again_and_never_lost(
    shaky: Muskox, flaky: FlakyStore
) -> None:
    queue = shaky.queue("email")

    @queue.processor("note")
    async def note(job: ActiveJob) -> None:
        await job.progress(50)
        await job.log("a line")

    async with shaky.worker():
        flaky.fail("annotate", times=2)
        job = await ended(queue, await queue.add("note"))

    assert job.progress == 50
    assert [line.text for line in await queue.logs(job.id)] == ["a line"]


async def test_a_claim_whose_answer_was_lost_is_said_again_and_costs_nothing(shaky: Muskox, flaky: FlakyStore) -> None:
    queue = shaky.queue("email")
    runs: list[int] = []

    @queue.processor("note")
    async def note(job: ActiveJob) -> None:
        runs.append(job.attempt)

    job = await queue.add("note")
    flaky.lose_answer("claim", times=1)
    async with shaky.worker(poll=0.05):
        settled = await ended(queue, job)

    assert runs == [1]
    assert (settled.state, settled.attempt, settled.stalls) == (JobState.COMPLETED, 1, 0)


@pytest.mark.parametrize("fault", ["fail", "lose_answer"])
@pytest.mark.parametrize(
    "verb", ["beat", "counts", "promote", "recover", "clear", "wait", "renew", "events", "publish"]
)
async def test_a_fault_in_any_verb_leaves_the_worker_at_work(
    shaky: Muskox, flaky: FlakyStore, verb: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muskox.runtime.presence.BEAT", 0.05)
    queue = shaky.queue("email")
    shaky.on("waiting")(lambda event: None)

    @queue.processor("note")
    async def note() -> str:
        await asyncio.sleep(0.3)
        return "done"

    async with shaky.worker(lease=0.5, poll=0.05):
        getattr(flaky, fault)(verb, times=3)
        await queue.add("unknown")
        job = await queue.add("note", delay=0.05)
        settled = await reached(queue, job, lambda now: now.settled)

    assert settled.state is JobState.COMPLETED
    assert settled.stalls == 0


async def test_wake_ups_are_hints_a_worker_that_gets_none_still_finds_its_jobs(
    shaky: Muskox, flaky: FlakyStore
) -> None:
    queue = shaky.queue("email")

    @queue.processor("note")
    async def note() -> str:
        return "done"

    async def deaf(queues: Any, *, seconds: float) -> None:
        await asyncio.sleep(seconds)

    flaky.store.wait = deaf  # type: ignore[method-assign]
    async with shaky.worker(poll=0.1):
        await ended(queue, await queue.add("note"))
        job = await queue.add("note")
        settled = await reached(queue, job, lambda now: now.settled, limit=5)

    assert settled.state is JobState.COMPLETED
