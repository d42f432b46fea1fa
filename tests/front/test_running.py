"""Mission part A, rows 5 to 9, 11, 12 and 17: who runs a job, in which order, how often, and for how long."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from itertools import pairwise

import pytest

from muskox import (
    ActiveJob,
    Exponential,
    Failure,
    FailureKind,
    FinalError,
    Fixed,
    JobFailed,
    JobState,
    Muskox,
    Processor,
    ResultTimeout,
    ResultUnavailable,
    Steps,
    SyncActiveJob,
    on,
    process,
    process_others,
)
from muskox.testing import FakeWorld, run_jobs
from tests.front import isolated
from tests.front.helpers import LIMIT, event, names, run, start, until, working

# --- A5


async def test_mission_a05_each_name_has_its_processor_and_a_default_one_takes_the_rest(ox, emails):
    @emails.processor("welcome")
    async def welcome(job: ActiveJob) -> str:
        return f"welcome for {job.name}"

    @emails.processor()
    def password_reset(job: SyncActiveJob) -> str:
        return f"reset for {job.name}"

    @emails.default_processor(attempts=3)
    async def others(job: ActiveJob) -> str:
        return f"others for {job.name}"

    await emails.add_many([("welcome", None), ("password-reset", None), ("newsletter", None), ("Welcome", None)])

    ended = await run_jobs(ox)

    assert [job.result for job in ended] == [
        "welcome for welcome", "reset for password-reset", "others for newsletter", "others for Welcome",
    ]  # fmt: skip
    assert [job.options.attempts for job in ended] == [None, None, 3, 3]


async def test_mission_a05_a_job_that_nobody_can_run_is_held_and_reported_and_runs_when_somebody_can(world, url):
    held = []
    async with Muskox(url, world=world) as ox:
        emails = ox.queue("email")
        emails.processor("welcome")(lambda: "done")
        ox.on("held")(held.append)
        job = await emails.add("unheard-of")
        async with working(ox, world):
            await until(lambda: held, world)
            assert (await emails.counts()).held == 1
            assert (await emails.get(job.id)).state is JobState.WAITING
    assert [(event.queue, event.name, event.waiting) for event in held] == [("email", "unheard-of", 1)]

    async with Muskox(url, world=world) as ox:
        ox.queue("email").processor("unheard-of")(lambda: "at last")
        assert [ended.result for ended in await run_jobs(ox)] == ["at last"]


# --- A6


class Mailer:
    def __init__(self) -> None:
        self.sent = []


class EmailProcessor(Processor, queue="email"):
    def __init__(self, mailer: Mailer) -> None:
        self.mailer = mailer
        self.heard = []

    @property
    def broken(self) -> None:
        raise AssertionError("looking for marks must not call properties")

    @process("welcome", attempts=2, backoff=Fixed(0))
    async def welcome(self, job: ActiveJob, email: str) -> dict:
        self.mailer.sent.append((job.name, email))
        if job.attempt == 1:
            raise ValueError("try again")
        return {"sent": True}

    @process()
    def password_reset(self, job: SyncActiveJob, email: str) -> str:
        self.mailer.sent.append((job.name, email))
        return "blocking"

    @process_others()
    async def others(self, job: ActiveJob) -> str:
        return f"other {job.name}"

    @on("completed")
    @on("retrying")
    async def log(self, event) -> None:
        self.heard.append((event.kind, event.name))

    @on("completed")
    def count(self, event) -> None:
        self.heard.append("counted")


async def test_mission_a06_a_class_groups_processors_and_listeners_and_is_given_what_it_needs(ox, emails):
    mailer = Mailer()
    processor = EmailProcessor(mailer)
    ox.include(processor)
    await emails.add("welcome", {"email": "ada@example.org"})
    await emails.add("password-reset", {"email": "bob@example.org"})
    await emails.add("newsletter")

    ended = await run_jobs(ox)

    assert [job.result for job in ended] == [{"sent": True}, "blocking", "other newsletter"]
    assert mailer.sent == [
        ("welcome", "ada@example.org"), ("welcome", "ada@example.org"), ("password-reset", "bob@example.org"),
    ]  # fmt: skip
    assert processor.heard.count("counted") == 3
    assert [fact for fact in processor.heard if fact != "counted"] == [
        ("retrying", "welcome"), ("completed", "welcome"), ("completed", "password-reset"), ("completed", "newsletter"),
    ]  # fmt: skip


async def test_mission_a06_a_class_may_be_built_on_another(ox, emails):
    class Louder(EmailProcessor):
        @process("shout")
        async def shout(self, email: str) -> str:
            return email.upper()

    ox.include(Louder(Mailer()))
    await emails.add("shout", {"email": "ada"})
    await emails.add("password-reset", {"email": "bob"})

    assert [job.result for job in await run_jobs(ox)] == ["ADA", "blocking"]


# --- A7


async def test_mission_a07_a_result_is_stored_and_can_be_awaited(filed):
    emails = filed.queue("email")
    emails.processor("add")(lambda a, b: a + b)
    emails.processor("nothing")(lambda: None)
    async with filed.worker():
        job = await emails.add("add", {"a": 2, "b": 3})

        assert await emails.result(job.id, timeout=LIMIT) == 5
        assert await emails.result((await emails.add("nothing")).id) is None

    assert (await emails.get(job.id)).result == 5


async def test_mission_a07_the_wait_for_a_result_has_a_limit_and_the_job_goes_on(filed):
    emails = filed.queue("email")
    job = await emails.add("add", {"a": 2, "b": 3})

    with pytest.raises(ResultTimeout, match=rf"job {job.id} did not end within 0.05 seconds; it is waiting, and"):
        await emails.result(job.id, timeout=0.05)
    with pytest.raises(TimeoutError):
        await emails.result(job.id, timeout=0)

    assert (await emails.get(job.id)).state is JobState.WAITING


async def test_mission_a07_a_result_that_will_not_come_says_why(filed):
    emails = filed.queue("email")

    @emails.processor("break")
    def broken() -> None:
        raise ValueError("no such user")

    emails.processor("odd")(lambda: {"value": object()})
    async with filed.worker():
        job = await emails.add("break")
        with pytest.raises(JobFailed, match=rf"job {job.id} failed .*: ValueError: no such user"):
            await emails.result(job.id, timeout=LIMIT)

        gone = await emails.add("odd", keep_for=0, delay=0.1)
        with pytest.raises(ResultUnavailable, match="removed at once"):
            await emails.result(gone.id, timeout=LIMIT)

        odd = await emails.add("odd")
        with pytest.raises(ResultUnavailable, match=r"result could not be kept: .*object is not a JSON value"):
            await emails.result(odd.id, timeout=LIMIT)

    stored = await emails.get(odd.id)
    assert (stored.state, stored.attempt, stored.result) == (JobState.COMPLETED, 1, None)
    assert (stored.result_error.kind, stored.failure) == (FailureKind.RESULT, stored.result_error)


# --- A8


async def test_mission_a08_jobs_run_by_priority_and_then_by_arrival(ox, emails):
    emails.default_processor()(lambda: None)
    for name, priority in [("c", 0), ("a", 5), ("d", 0), ("b", 5), ("e", -1), ("first", 100)]:
        await emails.add(name, priority=priority)

    assert names(await run_jobs(ox)) == ["first", "a", "b", "c", "d", "e"]


async def test_mission_a08_several_workers_share_a_queue(url):
    both = asyncio.Barrier(2)

    def app() -> Muskox:
        made = Muskox(url)

        @made.queue("email").processor("meet")
        async def meet() -> None:
            async with asyncio.timeout(LIMIT):
                await both.wait()

        return made

    async with app() as one, app() as two, one.worker(concurrency=1), two.worker(concurrency=1):
        jobs = await one.queue("email").add_many([("meet", None)] * 2)
        for job in jobs:
            await two.queue("email").result(job.id, timeout=LIMIT)
        assert len(await one.workers()) == 2

    async with Muskox(url) as ox:
        found = (await ox.queue("email").find("completed")).jobs
        assert len(found) == 2
        assert {job.attempt for job in found} == {1}
        assert await ox.audit() == []


WORKER = """
import os, sys
from muskox import Muskox
ox = Muskox(sys.argv[1])
ox.queue("email").processor("who")(lambda: os.getpid())
ox.run_worker(concurrency=1)
"""


async def test_mission_a08_several_processes_share_a_queue(tmp_path, filed):
    workers = [start(tmp_path, WORKER, filed.url) for _ in range(2)]
    try:
        await until_workers(filed, 2)
        emails = filed.queue("email")
        pids = set()
        while pids != {worker.pid for worker in workers}:
            jobs = await emails.add_many([("who", None)] * 50)
            pids |= {await emails.result(job.id, timeout=LIMIT) for job in jobs}
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=LIMIT)

    assert [worker.returncode for worker in workers] == [0, 0]


async def until_workers(ox: Muskox, count: int) -> None:
    async with asyncio.timeout(LIMIT):
        while len(await ox.workers()) < count:
            pass


# --- A9


async def test_mission_a09_a_higher_number_runs_first_and_the_default_is_0(ox, emails):
    emails.default_processor()(lambda: None)
    for priority in (1, 100, 50, None, 0, -7, 10**6):
        await emails.add(f"p{priority}", priority=priority)

    assert names(await run_jobs(ox)) == ["p1000000", "p100", "p50", "p1", "pNone", "p0", "p-7"]


async def test_mission_a09_low_priority_is_late_but_never_starves(ox, emails, world):
    emails.default_processor()(lambda: None)
    await emails.add("low", priority=1)
    world.advance(11)
    await emails.add_many([emails.new("high", priority=100) for _ in range(100)])

    ran = names(await run_jobs(ox))

    assert 0 < ran.index("low") <= 20


# --- A11

BACKOFFS = [
    ("fixed", Fixed(2), [2, 2, 2, 2]),
    ("exponential", Exponential(2), [2, 4, 8, 16]),
    ("capped", Exponential(2, cap=5), [2, 4, 5, 5]),
    ("tripling", Exponential(1, factor=3), [1, 3, 9, 27]),
    ("steps", Steps((1, 10)), [1, 10, 10, 10]),
    ("custom", lambda attempt, error: attempt * 100 + len(str(error)), [103, 203, 303, 403]),
]


@pytest.mark.parametrize(("backoff", "waits"), [pytest.param(*row[1:], id=row[0]) for row in BACKOFFS])
async def test_mission_a11_attempts_are_all_runs_and_the_backoff_lies_between_them(ox, emails, world, backoff, waits):
    began = []

    @emails.processor("break", attempts=5, backoff=backoff)
    async def broken() -> None:
        began.append(world.now())
        raise ValueError("why")

    job = await emails.add("break")
    ended = await run_jobs(ox)
    for wait in waits:
        assert ended == []
        assert (await emails.get(job.id)).state is JobState.DELAYED
        world.advance(wait - 0.001)
        assert await run_jobs(ox) == []
        world.advance(0.001)
        ended = await run_jobs(ox)

    assert [later - earlier for earlier, later in pairwise(began)] == pytest.approx(waits)
    [failed] = ended
    assert (failed.state, failed.attempt, failed.failure.kind) == (JobState.FAILED, 5, FailureKind.ERROR)
    world.advance(10**6)
    assert await run_jobs(ox) == []


async def test_mission_a11_jitter_spreads_the_waits_and_stays_within_its_bounds(ox, emails):
    emails.processor("break", attempts=2, backoff=Fixed(100, jitter=0.2))(lambda: 1 / 0)
    jobs = await emails.add_many([("break", None)] * 30)
    await run_jobs(ox)

    waits = {(job.due_at - jobs[0].added_at).total_seconds() for job in (await emails.find("delayed")).jobs}

    assert len(waits) > 20
    assert 80 <= min(waits) < 95
    assert 105 < max(waits) <= 120


async def test_mission_a11_a_job_may_have_a_backoff_of_its_own(ox, emails, world):
    emails.processor("break", attempts=9, backoff=Fixed(1000))(lambda: 1 / 0)
    job = await emails.add("break", attempts=2, backoff=Fixed(5))
    plain = await emails.add("break", attempts=2)
    await run_jobs(ox)

    assert [(await emails.get(id)).due_at.timestamp() - world.now() for id in (job.id, plain.id)] == [5, 1000]


async def test_mission_a11_some_errors_are_not_tried_again(ox, emails):
    @emails.processor("break", attempts=5, final_on=(KeyError, OSError))
    async def broken(kind: str) -> None:
        raise {"final": FinalError, "lookup": KeyError, "os": ConnectionError, "plain": ValueError}[kind](kind)

    emails.processor("alone", attempts=5, final_on=ValueError)(lambda: int("x"))
    for kind in ("final", "lookup", "os", "plain"):
        await emails.add("break", {"kind": kind})
    await emails.add("alone")

    ended = await run_jobs(ox)

    assert [(job.failure.type, job.attempt, job.failure.final) for job in ended] == [
        ("muskox.core.errors.FinalError", 1, True), ("KeyError", 1, True), ("ConnectionError", 1, True),
        ("ValueError", 1, True),
    ]  # fmt: skip
    assert (await emails.counts()).states[JobState.DELAYED] == 1


async def test_mission_a11_a_broken_backoff_of_ones_own_loses_no_job(ox, emails, world):
    emails.processor("break", attempts=2, backoff=lambda attempt, error: 1 / 0)(lambda: int("x"))
    job = await emails.add("break")
    await run_jobs(ox)

    assert (await emails.get(job.id)).state is JobState.DELAYED
    world.advance(60)
    assert [ended.failure.type for ended in await run_jobs(ox)] == ["ValueError"]


async def test_mission_a11_data_that_does_not_fit_fails_at_once(ox, emails):
    @emails.processor("welcome", attempts=5)
    async def welcome(email: str) -> None: ...

    await emails.add("welcome", {"email": 5})
    await emails.add("welcome", {})
    await emails.add("welcome", {"email": "a", "extra": 1})

    ended = await run_jobs(ox)

    assert [(job.state, job.attempt, job.failure.kind) for job in ended] == [(JobState.FAILED, 1, "refused")] * 3
    assert [re.search(r"`\$?\.?(email|extra)`", job.failure.message)[1] for job in ended] == ["email", "email", "extra"]


# --- A12


async def test_mission_a12_a_run_is_really_stopped_at_its_timeout_and_that_was_an_attempt(ox, emails, world):
    stopped = []

    @emails.processor("hang", timeout=30, attempts=2, backoff=Fixed(0))
    async def hang(job: ActiveJob) -> None:
        world.advance(30)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append((job.attempt, job.cancelled))
            raise

    await emails.add("hang")

    [ended] = await run_jobs(ox)

    assert stopped == [(1, True), (2, True)]
    assert (ended.state, ended.attempt) == (JobState.FAILED, 2)
    assert (ended.failure.kind, ended.failure.message) == (
        FailureKind.TIMEOUT, "stopped after 30 seconds, its timeout",
    )  # fmt: skip


async def test_mission_a12_a_job_may_have_a_timeout_of_its_own(ox, emails, world):
    @emails.processor("slow", timeout=10)
    async def slow() -> str:
        world.advance(20)
        for _ in range(50):
            await asyncio.sleep(0)
        return "in time"

    await emails.add("slow")
    await emails.add("slow", timeout=30)

    assert [(job.state, job.result) for job in await run_jobs(ox)] == [("failed", None), ("completed", "in time")]


class Unspeakable(Exception):
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __reduce__(self) -> str:
        raise RuntimeError("no pickle")


async def test_mission_a11_an_error_that_can_be_neither_pickled_nor_printed_is_a_failure_like_others(ox, emails):
    @emails.processor("break")
    def broken() -> None:
        raise Unspeakable

    await emails.add("break")

    [ended] = await run_jobs(ox)

    assert ended.failure.type.endswith("Unspeakable")
    assert ended.failure.message == "(its text cannot be had: __str__ raised RuntimeError)"


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_mission_a11_a_processor_cannot_take_the_worker_with_it(ox, emails, leave):
    emails.processor("good")(lambda: "done")

    @emails.processor("leave")
    async def leaving() -> None:
        raise leave

    await emails.add("leave")
    await emails.add("good")

    assert [(job.state, job.result) for job in await run_jobs(ox)] == [("failed", None), ("completed", "done")]


async def test_mission_a12_an_isolated_processor_is_killed_at_its_timeout():
    ox, files = isolated.ox, isolated.files
    async with ox, ox.worker(concurrency=1):
        first = await isolated.where.add()  # the child is started by now, which is not in the timeout of the next
        child = await files.result(first.id, timeout=LIMIT)
        job = await isolated.hang.add()
        with pytest.raises(JobFailed, match=r"stopped after 0\.5 seconds"):
            await files.result(job.id, timeout=LIMIT)
        after = await isolated.where.add()
        assert await files.result(after.id, timeout=LIMIT) != child

        assert (await files.get(job.id)).failure.kind is FailureKind.TIMEOUT
        assert [line.text for line in await files.logs(job.id)] == [str(child)]
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


# --- A17

DYING = """
import os, signal, sys
from muskox import Muskox
ox = Muskox(sys.argv[1])
ox.queue("email").processor("poison")(lambda: os.kill(os.getpid(), signal.SIGKILL))
ox.run_worker(lease=0.5)
"""


async def test_mission_a17_the_job_of_a_killed_worker_is_run_again(tmp_path, url):
    async with Muskox(url) as ox:
        emails = ox.queue("email")
        emails.processor("poison")(lambda job: (job.attempt, job.stalls))
        job = await emails.add("poison")
        await run(tmp_path, DYING, url, code=-signal.SIGKILL)
        assert (await emails.get(job.id)).state is JobState.ACTIVE

        async with ox.worker():
            assert await emails.result(job.id, timeout=LIMIT) == [1, 1]
        assert (await event(emails, "stalled")).job_id == job.id


async def test_mission_a17_a_job_that_stalls_too_often_fails_with_the_reason(ox, emails, world):
    emails.processor("poison", attempts=3, max_stalls=2)(lambda: None)
    job = await emails.add("poison")
    store = await ox.store()
    for _ in range(3):
        world.advance(60)
        await store.promote()
        [claimed] = await store.claim(ox.registry.wants(["email"]), limit=1, worker="lost", lease=30)
        world.advance(31)
        await store.recover()

    failed = await emails.get(job.id)

    assert claimed.id == job.id
    assert (failed.state, failed.stalls, failed.attempt) == (JobState.FAILED, 3, 0)
    assert failed.failure.kind is FailureKind.STALLED
    assert "stalled" in failed.failure.message or "lease" in failed.failure.message
    assert isinstance(failed.failure, Failure)


async def test_mission_a17_run_jobs_takes_back_what_a_lost_worker_held(ox, emails):
    world: FakeWorld = ox.world
    emails.processor("poison")(lambda job: job.stalls)
    await emails.add("poison")
    store = await ox.store()
    await store.claim(ox.registry.wants(["email"]), limit=1, worker="lost", lease=30)

    assert await run_jobs(ox) == []
    world.advance(31)
    assert [job.result for job in await run_jobs(ox)] == [1]
