"""What users see of the types: read by the type checker only, never run.

A right use has no comment. A wrong one is marked with the error that it must
be, and a mark without an error is an error itself.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from muskox import (
    ActiveJob,
    After,
    AppQueue,
    BoundProcessor,
    Cron,
    Dedup,
    Entry,
    Event,
    Exponential,
    Fixed,
    Flow,
    FlowRecord,
    FlowState,
    Found,
    InFlow,
    Job,
    JobState,
    KeyState,
    LogLine,
    Muskox,
    NewJob,
    Parent,
    Processor,
    Queue,
    QueueCounts,
    QueueLimits,
    Rate,
    RateLimited,
    Scheduled,
    SyncActiveJob,
    WorkerRecord,
    chain,
    cron,
    events,
    every,
    group,
    on,
    once,
    process,
    process_others,
)
from muskox.testing import FakeWorld, FlakyStore, run_jobs, run_jobs_sync

ox = Muskox("sqlite://:memory:", world=FakeWorld())
emails = ox.queue("email")
assert_type(emails, AppQueue)
assert_type(ox.queue("calls", rate=Rate(100, per=60), concurrency=5, key_rate=None, key_concurrency=1), AppQueue)
ox.queue("calls", rate=100)  # type: ignore[arg-type]
ox.queue("calls", speed=100)  # type: ignore[call-arg]


async def limited(queue: Queue, app: AppQueue) -> None:
    assert_type(await queue.limits(), QueueLimits)
    assert_type(await queue.set_limits(rate=Rate(10), concurrency=None), QueueLimits)
    assert_type(await queue.set_key("acme.com", rate="unlimited", weight=3), KeyState)
    assert_type(await queue.keys(after="a"), list[KeyState])
    assert_type(app.sync.limits(), QueueLimits)
    assert_type((await queue.add("call", key="acme.com")).key, str | None)
    await queue.hold(timedelta(seconds=30), key="acme.com")
    await queue.set_key("acme.com", rate="none")  # type: ignore[arg-type]
    raise RateLimited(retry_after=30, hold="key")


@dataclasses.dataclass
class Person:
    name: str


# --- flows


async def flows(job: ActiveJob, blocking_job: SyncActiveJob) -> None:
    flow = Flow("order-17", settled=emails.new("over"))
    first = flow.add(emails, "resize", {"size": 300}, attempts=3, label="small")
    second = flow.add(welcome.new("a@example.org"), after=[first, After(first, on_failure="ignore")])
    assert_type(first, InFlow)
    flow.add(emails, "pack", after={"small": first, "large": second}, on_failure="continue")
    flow.add(emails, "pack", after=first, on_failure="retry")  # type: ignore[call-overload]
    flow.add(emails, "pack", after="first")  # type: ignore[arg-type]
    assert_type(await ox.flows.add(flow), list[Job])
    assert_type(ox.flows.sync.add(chain(emails.new("a"), [emails.new("b"), emails.new("c")])), list[Job])
    assert_type(await ox.flows.add(group([emails.new("a")], then=emails.new("b"), on_failure="ignore")), list[Job])
    found = await ox.flows.get("order-17")
    assert_type(found, FlowRecord | None)
    if found is not None:
        assert_type(found.progress, float)
        assert_type(found.state, FlowState)
    assert_type((await ox.flows.list(unended=True)).flows, list[FlowRecord])
    assert_type((await ox.flows.jobs("order-17", "failed")).jobs, list[Job])
    assert_type(await ox.flows.retry("order-17"), int)
    assert_type(ox.flows.sync.cancel("order-17"), int)
    async with ox.batch("newsletter", completed=emails.new("done")) as batch:
        assert_type(await batch.add_many(emails.new("mail") for _ in range(3)), int)
        assert_type(await batch.add(emails.new("mail")), Job)
        await batch.add_many([("mail", 1)])  # type: ignore[list-item]
    with ox.sync.batch() as blocking:
        assert_type(blocking.add_many([emails.new("mail")]), int)
    parents = await job.parents()
    assert_type(parents["small"], Parent)
    assert_type(parents.results, list[Any])
    assert_type(await job.add_child(emails.new("a")), Job)
    assert_type(await job.add_children([emails.new("a")]), list[Job])
    assert_type(blocking_job.add_child(emails.new("a"), id="b"), Job)
    await job.add_child("a")  # type: ignore[arg-type]


# --- declaring


@emails.processor("welcome", attempts=5, backoff=Exponential(2.0), timeout=timedelta(seconds=30), final_on=ValueError)
async def welcome(job: ActiveJob, email: str, name: str = "you", *, loud: bool = False) -> dict[str, bool]:
    assert_type(job.id, str)
    assert_type(job.fence, int)
    assert_type(job.added_at, datetime)
    assert_type(job.cancelled, bool)
    await job.progress(25)
    await job.log("line")
    await job.update({"email": email})
    return {"sent": loud}


@emails.processor()
async def without_run(person: Person) -> int:
    return len(person.name)


@emails.processor()
def blocking(job: SyncActiveJob, email: str) -> None:
    job.progress(25)
    job.log("line")
    job.update({})


@emails.processor(backoff=lambda attempt, error: attempt * 2.0, final_on=(KeyError, OSError), isolated=True)
def blocking_without_run(email: str) -> str:
    return email


@emails.default_processor(keep_for=60)
async def others(job: ActiveJob) -> None: ...


@emails.processor(batch=100, wait=0.5)
async def many_runs(jobs: list[ActiveJob]) -> list[int | Exception]:
    await jobs[0].log("line")
    return [job.attempt for job in jobs]


@emails.processor(batch=100, wait=timedelta(seconds=1))
def many_people(people: list[Person]) -> None: ...


@emails.processor(retries=3)  # type: ignore[call-overload, untyped-decorator]
async def unknown_option() -> None: ...


@emails.processor(attempts="3")  # type: ignore[call-overload, untyped-decorator]
async def wrong_option() -> None: ...


# --- adding by the processor: its parameters without the run


async def add_by_processor(tx: sqlite3.Connection) -> None:
    assert_type(await welcome.add("ada@example.org"), Job)
    await welcome.add(email="ada@example.org", name="Ada", loud=True)
    await welcome.add()  # type: ignore[call-arg]
    await welcome.add(5)  # type: ignore[arg-type]
    assert_type(await many_people.add(Person("Ada")), Job)
    await many_people.add("Ada")  # type: ignore[arg-type]
    await many_runs.add({"email": "ada@example.org"})
    await welcome.add("ada@example.org", nam="Ada")  # type: ignore[call-arg]
    await welcome.add("ada@example.org", "Ada", True)  # type: ignore[call-arg]
    await welcome.add("ada@example.org", loud="yes")  # type: ignore[arg-type]

    assert_type(await without_run.add(Person("Ada")), Job)
    await without_run.add(person=Person("Ada"))
    await without_run.add("Ada")  # type: ignore[arg-type]
    await without_run.add()  # type: ignore[call-arg]

    assert_type(await blocking.add("ada@example.org"), Job)
    assert_type(blocking.add_sync(email="ada@example.org"), Job)
    blocking.add_sync()  # type: ignore[call-arg]
    blocking.add_sync(b"ada")  # type: ignore[arg-type]
    await blocking_without_run.add("ada@example.org")
    await blocking_without_run.add(1)  # type: ignore[arg-type]
    await others.add()
    await others.add(1)  # type: ignore[call-arg]

    await welcome.options(priority=5, delay=timedelta(days=1), id="x", within=tx).add("ada@example.org")
    await welcome.options(at=datetime.now(UTC), backoff=Fixed(2)).add(5)  # type: ignore[arg-type]
    welcome.options(prio=5)  # type: ignore[call-arg]
    welcome.options(delay="soon")  # type: ignore[arg-type]

    assert_type(welcome.new("ada@example.org"), NewJob)
    welcome.new()  # type: ignore[call-arg]
    assert_type(welcome.name, str)
    assert_type(welcome.queue, AppQueue)


def kept(processor: BoundProcessor[[str], int]) -> None: ...


# --- the queue


async def use_queue(queue: Queue, tx: sqlite3.Connection) -> None:
    job = await queue.add("welcome", {"email": "ada"}, priority=3, delay=60, attempts=2, keep_for=0, within=tx)
    assert_type(job, Job)
    await queue.add("welcome", prio=3)  # type: ignore[call-arg]
    await queue.add("welcome", attempts="3")  # type: ignore[arg-type]
    await queue.add("welcome", backoff=lambda attempt, error: 1.0)  # type: ignore[arg-type]
    await queue.add(5)  # type: ignore[arg-type]
    await queue.add()  # type: ignore[call-arg]
    assert_type(await queue.add_many([("a", 1), queue.new("b", priority=2), welcome.new("c")]), list[Job])
    await queue.add_many(["a"])  # type: ignore[list-item]

    assert_type(await queue.get(job.id), Job | None)
    found = await queue.find([JobState.FAILED, "completed"], name="welcome", limit=10)
    assert_type(found, Found)
    assert_type((found.jobs, found.cursor), tuple[list[Job], str | None])
    assert_type(await queue.counts(), QueueCounts)
    assert_type(await queue.logs(job.id), list[LogLine])
    assert_type(await queue.result(job.id, timeout=5), Any)
    assert_type(await queue.update(job.id, {"a": 1}), Job)
    assert_type(await queue.retry(job.id), Job)
    assert_type(await queue.retry_all("welcome"), int)
    assert_type(await queue.promote(job.id), Job)
    assert_type(await queue.promote_all(), int)
    assert_type(await queue.cancel(job.id), Job)
    assert_type(await queue.remove(job.id), bool)
    assert_type(await queue.add("welcome", dedup="ada"), Job)
    await queue.add("welcome", dedup=Dedup("ada", window=timedelta(hours=1), then="replace"))
    await queue.add("welcome", dedup=5)  # type: ignore[arg-type]
    ox.queue("bounded", max_waiting=1000, when_full="drop-oldest")
    ox.queue("bounded", when_full="panic")  # type: ignore[arg-type]
    assert_type(await queue.add_many([("a", 1)], patience=timedelta(minutes=1)), list[Job])
    Dedup("ada", until="failed")  # type: ignore[arg-type]
    Dedup("ada", then="panic")  # type: ignore[arg-type]
    assert_type(await queue.drain(delayed=True), int)
    assert_type(await queue.remove_all(["completed", JobState.FAILED]), int)
    assert_type(await queue.cancel_all("welcome"), int)
    async for event in queue.events(after=0, kinds=("completed",)):
        assert_type(event, Event)


def use_sync(queue: AppQueue, tx: sqlite3.Connection) -> None:
    job = queue.sync.add("welcome", {"email": "ada"}, priority=3, within=tx)
    assert_type(job, Job)
    queue.sync.add("welcome", prio=3)  # type: ignore[call-arg]
    assert_type(queue.sync.add_many([("a", 1)]), list[Job])
    assert_type(queue.sync.get(job.id), Job | None)
    assert_type(queue.sync.find("failed", limit=3).jobs, list[Job])
    queue.sync.find(5)  # type: ignore[arg-type]
    assert_type(queue.sync.counts(), QueueCounts)
    assert_type(queue.sync.result(job.id, 5.0), Any)
    assert_type(queue.sync.retry_all(), int)
    queue.sync.retry()  # type: ignore[call-arg]
    for event in queue.sync.events(kinds="completed"):
        assert_type(event, Event)
    assert_type(ox.sync.counts(), list[QueueCounts])
    assert_type(ox.sync.workers(), list[WorkerRecord])


async def use_job(job: Job) -> None:
    assert_type(job.state, JobState)
    assert_type(job.data, Any)
    assert_type((job.added_at, job.due_at), tuple[datetime, datetime | None])
    job.priority = 5  # type: ignore[misc]


# --- the app


@ox.on("failed", queue="email")
async def alert(event: Event) -> None: ...


@ox.on("completed")
def note(event: events.Completed) -> None:
    assert_type((event.job_id, event.name, event.at), tuple[str, str, datetime])


class EmailProcessor(Processor, queue="email"):
    @process("welcome", attempts=5)
    async def welcome(self, job: ActiveJob) -> dict[str, bool]:
        return {"sent": True}

    @process_others()
    def others(self, job: SyncActiveJob) -> None: ...

    @process("newsletter", retries=5)  # type: ignore[call-arg]
    async def newsletter(self) -> None: ...

    @on("completed")
    async def log(self, event: Event) -> None: ...


# --- schedules


@ox.cron("0 0 9 * * 1", tz="Europe/Vienna", queue="email", attempts=5, overlap="skip", catch_up="none")
async def weekly(job: ActiveJob, n: int = 1) -> int:
    return n


@ox.every(timedelta(minutes=5), jitter=30, starts_at=datetime(2026, 1, 1, tzinfo=UTC), key="acme", dedup="tidy")
def tidy() -> None: ...


@ox.once(after=5, per_process=True)
async def warm_up() -> str:
    return "warm"


class Reports(Processor, queue="reports"):
    @cron("0 9 * * *", attempts=2, key="acme", dedup=Dedup("daily", until="started"))
    async def daily(self) -> None: ...

    @every(60)
    def often(self) -> None: ...

    @once(at=datetime(2026, 1, 1, tzinfo=UTC))
    async def at_last(self) -> None: ...


async def use_schedules() -> None:
    ox.cron(Cron.EVERY_MINUTE, gap="before")  # type: ignore[call-overload]
    ox.every(60, overlap="kill")  # type: ignore[call-overload]
    ox.every(60, key=7)  # type: ignore[call-overload]
    assert_type(await weekly.add(2), Job)
    await weekly.add("two")  # type: ignore[arg-type]
    assert_type(await warm_up(), str)
    added = await ox.schedules.add_cron("a", "* * * * *", queue="email", job="welcome", data={}, timeout=3, grace=5)
    assert_type(added, Scheduled)
    assert_type((added.next_at, added.last_at, added.outcome), tuple[datetime | None, datetime | None, JobState | None])
    await ox.schedules.add_every("b", 5, queue="email", job="welcome", replace=True)
    await ox.schedules.add_once("c", after=timedelta(days=1), queue="email", job="welcome")
    await ox.schedules.add_once("c", after=5)  # type: ignore[call-arg]
    await ox.schedules.add_every("b", 5, queue="email", job="welcome", retries=5)  # type: ignore[call-arg]
    assert_type(await ox.schedules.get("a"), Scheduled | None)
    assert_type(await ox.schedules.list(), list[Scheduled])
    assert_type(await ox.schedules.ledger("a"), list[Entry])
    assert_type(ox.schedules.preview("* * * * *", 3), list[datetime])
    assert_type(await ox.schedules.run_now("a"), Job | None)
    assert_type(await ox.schedules.update("a", expression="0 * * * *", data=None), Scheduled)
    assert_type(await ox.schedules.delete("a"), bool)
    assert_type(await ox.schedules.prune(), list[str])
    assert_type(ox.schedules.sync.list(), list[Scheduled])
    assert_type(ox.schedules.sync.add_every("b", 5, queue="email", job="welcome"), Scheduled)


async def use_app() -> None:
    assert_type(await alert(Event("email", 1, 0)), None)
    ox.include(EmailProcessor())
    ox.include(5)  # type: ignore[arg-type]
    async with Muskox() as opened, opened.worker(["email"], concurrency=3) as worker:
        worker.stop(now=True)
    assert_type(await ox.counts(), list[QueueCounts])
    flaky = ox.wrap_store(FlakyStore)
    assert_type(flaky, FlakyStore)
    assert_type(await run_jobs(ox, queues=["email"], limit=3), list[Job])
    assert_type(run_jobs_sync(ox), list[Job])
