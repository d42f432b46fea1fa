"""Limits at work: what a processor says of limits elsewhere, and workers that go on when a limit lets them."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from muskox import ActiveJob, JobState, Rate, RateLimited
from tests.runtime import isolated
from tests.runtime.helpers import ended, reached, until


class Meeting:
    """Processors of each mode that meet a limit at their first run."""

    def __init__(self, retry_after, hold):
        self.error = RateLimited(retry_after=retry_after, hold=hold)
        self.runs = 0

    def meet(self):
        self.runs += 1
        if self.runs == 1:
            raise self.error

    async def on_the_loop(self, n: int) -> None:
        self.meet()

    def in_a_thread(self, n: int) -> None:
        self.meet()

    async def as_a_batch(self, numbers: list[int]) -> None:
        self.meet()

    async def in_a_batch(self, numbers: list[int]) -> list[object]:
        self.runs += 1
        return [self.error if self.runs == 1 else None]


MODES = {
    "async": (Meeting.on_the_loop, {"n": 1}, {}),
    "thread": (Meeting.in_a_thread, {"n": 1}, {}),
    "batch": (Meeting.as_a_batch, 1, {"batch": 1}),
    "part of a batch": (Meeting.in_a_batch, 1, {"batch": 1}),
}


@pytest.mark.parametrize(("function", "data", "options"), MODES.values(), ids=MODES)
@pytest.mark.parametrize("hold", ["job", "key", "queue"])
async def test_a_job_that_meets_a_limit_elsewhere_is_given_back_and_tried_again(ox, function, data, options, hold):
    queue = ox.queue("email")
    heard = []
    meeting = Meeting(0.05, hold)
    queue.processor("send", **options)(function.__get__(meeting))

    @ox.on("released")
    async def released(event) -> None:
        heard.append(event.job_id)

    async with ox.worker():
        job = await queue.add("send", data, key="acme.com")
        found = await ended(queue, job)
        await until(lambda: heard)

    assert (found.state, found.attempt, found.releases, meeting.runs) == (JobState.COMPLETED, 1, 1, 2)
    assert heard == [job.id]


async def test_an_isolated_job_that_meets_a_limit_elsewhere_is_given_back(filed):
    queue = filed.queue("email")
    queue.processor("send", isolated=True)(isolated.meet_a_limit)

    async with filed.worker():
        job = await queue.add("send", {"retry_after": 3600.0})
        found = await reached(queue, job, lambda job: job.releases)

    assert (found.state, found.attempt, found.releases) == (JobState.DELAYED, 0, 1)


async def test_others_of_a_held_key_wait_and_those_of_another_do_not(ox):
    queue = ox.queue("email")
    ran = []

    @queue.processor("send", attempts=1)
    async def send(job: ActiveJob) -> None:
        if job.key == "slow" and not job.releases and not ran:
            raise RateLimited(retry_after=3600, hold="key")
        ran.append(job.key)

    first = await queue.add("send", key="slow")
    async with ox.worker(concurrency=1):
        await reached(queue, first, lambda job: job.releases)
        others = [await queue.add("send", key=key) for key in ("slow", "other")]
        await ended(queue, others[1])

    assert ran == ["other"]
    assert [(await queue.get(job.id)).state for job in (first, others[0])] == [JobState.BLOCKED] * 2


async def test_a_queue_with_a_slot_for_one_is_worked_through_without_waiting_for_a_poll(ox):
    """A worker that was told that there is nothing hears of the slot that comes back."""
    queue = ox.queue("email", concurrency=1)
    most = running = 0

    @queue.processor("send")
    async def send() -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    jobs = await queue.add_many([("send", {})] * 40)
    async with ox.worker(concurrency=10, poll=60):
        await ended(queue, jobs[-1])
        for job in jobs:
            await ended(queue, job)

    assert most == 1


async def test_a_key_with_a_slot_for_one_is_worked_through_without_waiting_for_a_poll(ox):
    queue = ox.queue("email", key_concurrency=1)

    @queue.processor("send")
    async def send() -> None: ...

    jobs = await queue.add_many([queue.new("send", {}, key=f"key-{number % 3}") for number in range(40)])
    async with ox.worker(concurrency=10, poll=60):
        for job in jobs:
            await ended(queue, job)


@pytest.mark.parametrize("limits", [{"rate": Rate(50, burst=1)}, {"key_rate": Rate(50, burst=1)}])
async def test_a_worker_goes_on_when_the_next_token_comes_and_not_at_a_poll(ox, limits):
    queue = ox.queue("email", **limits)

    @queue.processor("send")
    async def send() -> None: ...

    jobs = await queue.add_many([queue.new("send", {}, key="acme.com") for _ in range(10)])
    async with ox.worker(concurrency=10, poll=60):
        for job in jobs:
            await ended(queue, job)

    starts = sorted([(await queue.get(job.id)).started_us for job in jobs])
    assert all(later - sooner >= 20_000 for sooner, later in pairwise(starts))


async def test_a_worker_goes_on_when_a_hold_is_over_or_ended(ox):
    queue = ox.queue("email")

    @queue.processor("send")
    async def send() -> None: ...

    async with ox.worker(poll=60):
        await queue.hold(0.2)
        job = await queue.add("send", {})
        await ended(queue, job)
        await queue.hold(3600)
        job = await queue.add("send", {})
        await queue.hold(0)
        await ended(queue, job)


async def test_a_worker_puts_the_limits_that_its_program_declares(filed):
    queue = filed.queue("email")

    @queue.processor("send")
    async def send() -> None: ...

    filed.queue("email", concurrency=3)
    async with filed.worker():
        assert (await queue.limits()).limits.concurrency == 3
