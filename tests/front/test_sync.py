"""The same verbs for blocking code: in scripts, in threads, and beside a running loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from muskox import JobNotFound, JobState, Muskox, MuskoxError, Queue, SyncActiveJob
from muskox.sync import SyncQueue
from muskox.testing import FakeWorld, run_jobs, run_jobs_sync
from tests.front.helpers import LIMIT


@pytest.fixture
def ox(world: FakeWorld):
    app = Muskox("sqlite://:memory:", world=world)
    yield app
    app.sync.close()


@pytest.fixture
def emails(ox: Muskox):
    return ox.queue("email")


def test_a_script_adds_looks_and_manages_without_a_loop(ox, emails):
    jobs = emails.sync
    one = jobs.add("a", {"n": 1}, priority=3)
    two, three = jobs.add_many([("b", {"n": 2}), emails.new("c", delay=60)])

    assert jobs.get(one.id) == one
    assert {job.name for job in jobs.find("waiting").jobs} == {"a", "b"}
    assert jobs.counts().states[JobState.DELAYED] == 1
    assert jobs.update(two.id, {"n": 5}).data == {"n": 5}
    assert jobs.promote(three.id).state is JobState.WAITING
    assert jobs.cancel(one.id).state is JobState.CANCELLED
    assert jobs.retry(one.id).state is JobState.WAITING
    assert (jobs.promote_all(), jobs.retry_all("a")) == (0, 0)
    assert jobs.logs(one.id) == []
    assert jobs.remove(one.id) is True
    jobs.pause()
    assert ox.sync.counts()[0].paused is True
    jobs.resume()
    assert jobs.drain(delayed=True) == 2
    assert (ox.sync.workers(), ox.sync.audit(), ox.sync.migrate()) == ([], [], [])
    with pytest.raises(JobNotFound, match="has no job 'gone'"):
        jobs.retry("gone")


def test_every_async_verb_of_a_queue_has_its_blocking_twin_with_the_same_parameters():
    verbs = {name for name, verb in vars(Queue).items() if name[0] != "_" and inspect.iscoroutinefunction(verb)}

    assert {name for name in verbs if not callable(getattr(SyncQueue, name, None))} == set()
    assert {"add", "add_many", "result", "retry_all", "events"} <= set(dir(SyncQueue))
    assert SyncQueue.find.__doc__ == Queue.find.__doc__


def test_blocking_tests_run_jobs_inline(ox, emails):
    @emails.processor()
    def welcome(job: SyncActiveJob, email: str) -> str:
        # A blocking processor may use blocking verbs of its own app.
        emails.sync.add("follow-up", {"after": job.id})
        return email.upper()

    emails.processor("follow-up")(lambda after: None)
    added = welcome.add_sync(email="ada")

    ended = run_jobs_sync(ox)

    assert [(job.name, job.result) for job in ended] == [("welcome", "ADA"), ("follow-up", None)]
    assert emails.sync.result(added.id, timeout=1) == "ADA"


def test_many_threads_use_one_app(ox, emails):
    begun = threading.Barrier(8)

    def add(n: int) -> str:
        if n < 8:
            begun.wait(LIMIT)
        return emails.sync.add("a", n).id

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(add, range(200)))

    assert len(set(ids)) == 200
    assert emails.sync.counts().total == 200


async def test_blocking_verbs_work_inside_a_running_loop_too(ox, emails):
    job = emails.sync.add("a")

    assert await emails.get(job.id) == job
    assert emails.sync.counts().total == 1
    assert (await asyncio.to_thread(emails.sync.get, job.id)) == job


def test_a_blocking_verb_in_the_loop_that_serves_them_is_refused_and_does_not_hang(ox, emails):
    emails.processor("a")(lambda: None)

    @emails.processor("b")
    async def wrong() -> None:
        emails.sync.add("a")

    emails.sync.add("b")

    [ended] = run_jobs_sync(ox)

    assert ended.failure.type == "muskox.core.errors.MuskoxError"
    assert "use the async verb there" in ended.failure.message


async def test_a_blocking_verb_in_an_async_processor_of_a_worker_only_blocks(ox, emails):
    @emails.processor("b")
    async def impolite() -> str:
        return emails.sync.add("other").name

    emails.sync.add("b")

    assert [job.result for job in await run_jobs(ox)] == ["other"]
    await ox.close()


def test_events_are_followed_in_a_blocking_loop(ox, emails):
    emails.sync.add("a")
    seen = []

    for event in emails.sync.events(after=0):
        seen.append(event.kind)
        if len(seen) == 2:
            break
        emails.sync.add("b", delay=5)

    assert seen == ["waiting", "delayed"]
    assert next(ox.sync.events(queue="email", after=1)).kind == "delayed"


def test_closing_while_somebody_follows_events_leaves_nothing_behind(ox, emails, recwarn):
    following = emails.sync.events(after=0)
    emails.sync.add("a")
    next(following)

    ox.sync.close()
    emails.sync.add("b")
    following.close()
    ox.sync.close()

    assert [str(warning.message) for warning in recwarn.list] == []
    assert "muskox-sync" not in {thread.name for thread in threading.enumerate()}


async def test_closing_the_app_from_a_loop_ends_the_thread_of_the_blocking_verbs(ox, emails):
    before = set(threading.enumerate())
    emails.sync.add("a")

    await ox.close()

    assert [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("muskox")] == []


def test_what_a_blocking_verb_raises_is_one_of_ours(emails):
    assert issubclass(JobNotFound, MuskoxError)
    with pytest.raises(JobNotFound):
        emails.sync.result("gone")
