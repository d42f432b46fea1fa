"""Mission part A, rows 13 to 16, 19 and 21: seeing what goes on, changing it, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing

import pytest

from muskox import (
    ActiveJob,
    FinalError,
    Fixed,
    JobFailed,
    JobNotFound,
    JobState,
    LeaseLost,
    Muskox,
    Retention,
    StoreUnavailable,
    SyncActiveJob,
    WrongState,
)
from muskox.core.life import Complete
from muskox.testing import FlakyStore, run_jobs
from tests.front.helpers import LIMIT, event, names, run, start, until, working

# --- A13


@pytest.mark.parametrize("values", [[10, 50, 100], [{"step": "resize", "of": 3}], ["half"], [None]])
async def test_mission_a13_progress_is_seen_from_outside_while_the_job_runs(filed, values):
    emails, go_on = filed.queue("email"), asyncio.Event()

    @emails.processor("resize")
    async def resize(job: ActiveJob) -> None:
        for value in values:
            await job.progress(value)
            async with asyncio.timeout(LIMIT):
                await go_on.wait()
            go_on.clear()

    seen = []
    async with filed.worker(), asyncio.timeout(LIMIT), aclosing(emails.events(after=0, kinds="progress")) as told:
        job = await emails.add("resize")
        async for fact in told:
            now = await emails.get(job.id)
            seen.append((fact.value, now.progress, now.state))
            go_on.set()
            if len(seen) == len(values):
                break
        await emails.result(job.id)

    assert seen == [(value, value, JobState.ACTIVE) for value in values]
    assert (await emails.get(job.id)).progress == values[-1]


async def test_mission_a13_a_blocking_processor_tells_its_progress_too(ox, emails):
    @emails.processor("resize")
    def resize(job: SyncActiveJob) -> None:
        job.progress(30)
        job.log("thirty")

    await emails.add("resize")

    [ended] = await run_jobs(ox)

    assert ended.progress == 30
    assert [line.text for line in await emails.logs(ended.id)] == ["thirty"]


# --- A14

EVERY_KIND = {
    "waiting", "delayed", "active", "progress", "completed", "retrying", "failed", "stalled", "error", "paused",
    "resumed", "drained", "removed", "cancelled", "updated", "held", "released",
}  # fmt: skip


def declare(ox: Muskox) -> None:
    emails = ox.queue("email")

    @emails.processor("good")
    async def good(job: ActiveJob) -> None:
        await job.progress(50)

    @emails.processor("bad", attempts=2, backoff=Fixed(0))
    async def bad() -> None:
        raise ValueError

    @emails.processor("endless")
    async def endless() -> None:
        await asyncio.Event().wait()


async def live(ox: Muskox) -> None:
    """Have everything happen to jobs that can, but for what a worker does at its end."""
    emails, store = ox.queue("email"), await ox.store()
    stalling = await emails.add("good")
    # Unless a living worker was quicker.
    while not await store.claim(ox.registry.wants(["email"]), limit=1, worker="lost", lease=0.1):
        await emails.add("good")
    for name in ("good", "bad", "unheard-of", "endless"):
        await emails.add(name)
    later = await emails.add("good", delay=3600)
    await emails.update(later.id, {})
    await emails.remove(later.id)
    await emails.cancel((await emails.add("good", delay=3600)).id)
    await emails.pause()
    await emails.resume()
    assert stalling.state is JobState.WAITING


async def test_mission_a14_listeners_in_the_worker_hear_every_kind_of_event(ox, world):
    declare(ox)
    heard, elsewhere = [], []
    for kind in EVERY_KIND:
        ox.on(kind, queue="email")(heard.append)
        ox.on(kind, queue="files")(elsewhere.append)
    flaky = ox.wrap_store(FlakyStore)

    async with working(ox, world, shutdown_timeout=0) as worker:
        await until(lambda: flaky.calls["events"] > 1)  # listeners for what happens outside are ready
        await live(ox)
        await until(lambda: EVERY_KIND - {told.kind for told in heard} <= {"error", "released"}, world)
        flaky.down = True
        # In small steps: an outage longer than a lease would have the runs lost, and not given back.
        await until(lambda: "error" in {told.kind for told in heard}, world, step=0.01)
        flaky.down = False
        worker.stop(now=True)
        await until(lambda: "released" in {told.kind for told in heard}, world)

    assert {told.kind for told in heard} == EVERY_KIND
    assert {told.queue for told in heard} == {"email"}
    assert elsewhere == []
    assert sum(told.kind == "failed" for told in heard) == 1


async def test_mission_a14_failed_is_told_after_the_last_attempt_and_retrying_before(ox, emails):
    heard = []
    emails.processor("bad", attempts=3, backoff=Fixed(0))(lambda: int("x"))
    for kind in ("retrying", "failed"):
        ox.on(kind)(lambda event: heard.append((event.kind, event.attempt, event.failure.type)))
    await emails.add("bad")

    await run_jobs(ox)

    assert heard == [("retrying", 1, "ValueError"), ("retrying", 2, "ValueError"), ("failed", 3, "ValueError")]


FOLLOWER = """
import asyncio, sys
from muskox import Muskox

async def main():
    async with Muskox(sys.argv[1]) as ox:
        async for event in ox.queue("email").events(after=0):
            print(event.kind, getattr(event, "job_id", "-"), flush=True)
            if event.kind == "removed":
                return

asyncio.run(main())
"""


async def test_mission_a14_another_process_follows_the_events(tmp_path, filed):
    declare(filed)
    emails = filed.queue("email")
    with start(tmp_path, FOLLOWER, filed.url) as other:
        async with filed.worker():
            good = await emails.add("good")
            await emails.result(good.id, timeout=LIMIT)
            bad = await emails.add("bad")
            with pytest.raises(JobFailed):
                await emails.result(bad.id, timeout=LIMIT)
        await emails.pause()
        await emails.resume()
        later = await emails.add("good", delay=60)
        await emails.promote(later.id)
        await emails.remove(later.id)
        told, _ = await asyncio.to_thread(other.communicate, timeout=LIMIT)

    lines = [line.split() for line in told.splitlines()]
    kinds_of = {id: [kind for kind, of in lines if of == id] for id in (good.id, bad.id, later.id, "-")}
    assert kinds_of[good.id] == ["waiting", "active", "progress", "completed"]
    assert kinds_of[bad.id] == ["waiting", "active", "retrying", "waiting", "active", "failed"]
    assert kinds_of[later.id] == ["delayed", "waiting", "removed"]
    assert set(kinds_of["-"]) == {"drained", "paused", "resumed"}


async def test_mission_a14_a_listener_that_raises_harms_nothing_and_is_reported(ox, emails, caplog):
    heard, errors = [], []
    emails.processor("good")(lambda: "done")

    @ox.on("completed")
    async def first(event) -> None:
        raise ValueError("broken")

    @ox.on("completed")
    def second(event) -> None:
        heard.append(event.job_id)
        raise KeyError("broken as well")

    ox.on("error")(errors.append)
    jobs = await emails.add_many([("good", None)] * 2)

    ended = await run_jobs(ox)

    assert [job.result for job in ended] == ["done", "done"]
    assert heard == [job.id for job in jobs]
    assert sorted(error.message.split()[-1] for error in errors) == ["KeyError", "KeyError", "ValueError", "ValueError"]
    assert "failed on event completed" in caplog.text


# --- A15


async def test_mission_a15_a_job_is_looked_up_with_the_reason_of_its_failure(ox, emails):
    @emails.processor("break")
    def broken(email: str) -> None:
        raise LookupError(f"no user {email}")

    job = await emails.add("break", {"email": "ada"})
    await run_jobs(ox)

    found = await emails.get(job.id)

    assert (found.state, found.data, found.attempt) == (JobState.FAILED, {"email": "ada"}, 1)
    assert (found.failure.type, found.failure.message) == ("LookupError", "no user ada")
    assert str(found.failure) == "LookupError: no user ada"
    assert "in broken" in found.failure.traceback
    assert await emails.get("never-added") is None


async def test_mission_a15_data_is_changed_from_outside_and_from_inside(ox, emails):
    seen = []

    @emails.processor("count", attempts=3, backoff=Fixed(0))
    async def count(job: ActiveJob) -> None:
        seen.append(job.data)
        await job.update({"n": job.data["n"] + 1})
        raise ValueError

    job = await emails.add("count", {"n": 0})

    changed = await emails.update(job.id, {"n": 10})
    [failed] = await run_jobs(ox)

    assert (changed.id, changed.data) == (job.id, {"n": 10})
    assert seen == [{"n": 10}, {"n": 11}, {"n": 12}]
    assert failed.data == {"n": 13}
    assert (await emails.update(job.id, {"n": 0})).data == {"n": 0}


async def test_mission_a15_what_has_ended_is_not_changed(ox, emails):
    emails.processor("good")(lambda: None)
    job = await emails.add("good")
    await run_jobs(ox)

    with pytest.raises(WrongState, match=f"job {job.id} is completed; update needs a job that is active, "):
        await emails.update(job.id, {})
    with pytest.raises(WrongState, match=f"job {job.id} is completed; retry needs a job that is cancelled, failed"):
        await emails.retry(job.id)
    with pytest.raises(WrongState, match="cancel needs a job that is active, blocked, delayed, waiting"):
        await emails.cancel(job.id)
    with pytest.raises(WrongState, match="promote needs a job that is delayed"):
        await emails.promote(job.id)


@pytest.mark.parametrize("verb", ["update", "retry", "promote", "cancel", "result"])
async def test_mission_a15_what_is_not_there_is_said_to_be_so(emails, verb):
    arguments = ("gone", {}) if verb == "update" else ("gone",)

    with pytest.raises(JobNotFound, match="queue 'email' has no job 'gone'; it was never added, or cleared") as caught:
        await getattr(emails, verb)(*arguments)

    assert isinstance(caught.value, KeyError)
    assert await emails.remove("gone") is False


async def test_mission_a15_failed_jobs_run_again_one_all_or_by_name(ox, emails):
    broken = True

    @emails.default_processor()
    async def process() -> str:
        if broken:
            raise FinalError("not yet")
        return "done"

    one, *_ = await emails.add_many([(name, None) for name in ("a", "a", "a", "b", "b", "c")])
    await run_jobs(ox)
    broken = False

    again = await emails.retry(one.id)
    assert (again.state, again.id) == (JobState.WAITING, one.id)
    assert await emails.retry_all("b") == 2
    assert await emails.retry_all("nothing") == 0
    assert names(await run_jobs(ox)) == ["a", "b", "b"]
    assert await emails.retry_all() == 3
    assert sorted(names(await run_jobs(ox))) == ["a", "a", "c"]

    done = await emails.get(one.id)
    assert (done.state, done.result, done.failure) == (JobState.COMPLETED, "done", None)


async def test_mission_a15_more_jobs_than_one_step_takes_are_all_reached(ox, emails):
    await emails.add_many([(name, None) for name in ("a", "b") * 1100])

    assert await emails.cancel_all("a") == 1100
    assert await emails.retry_all() == 0
    assert await emails.remove_all("cancelled") == 1100
    assert await emails.drain() == 1100
    assert (await emails.counts()).total == 0


async def test_mission_a15_ended_jobs_are_removed_by_state_and_name(ox, emails):
    emails.processor("good")(lambda: None)
    emails.processor("bad")(lambda: int("x"))
    await emails.add_many([("good", None), ("bad", None), ("bad", None), ("other", None), emails.new("other", delay=9)])
    await run_jobs(ox)

    assert await emails.remove_all(["completed", "failed"], name="bad") == 2
    assert await emails.remove_all(JobState.COMPLETED) == 1
    assert await emails.cancel_all() == 2
    assert {state: n for state, n in (await emails.counts()).states.items() if n} == {"cancelled": 2}


async def test_mission_a15_jobs_are_found_page_by_page_by_state_and_name(ox, emails):
    emails.processor("good")(lambda: None)
    await emails.add_many([("good", n) for n in range(5)] + [("other", None)] * 3)
    await run_jobs(ox)

    assert names((await emails.find()).jobs) == ["other"] * 3 + ["good"] * 5
    assert names((await emails.find("completed")).jobs) == ["good"] * 5
    assert len((await emails.find(["completed", JobState.WAITING], name="other")).jobs) == 3
    pages, cursor = [], None
    while cursor or not pages:
        found = await emails.find(JobState.COMPLETED, limit=2, after=cursor)
        pages.append([job.data for job in found.jobs])
        cursor = found.cursor
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {n for page in pages for n in page} == {0, 1, 2, 3, 4}


async def test_mission_a15_a_cancelled_run_may_no_longer_speak(ox, emails):
    said = []

    @emails.processor("slow")
    async def slow(job: ActiveJob) -> str:
        await emails.cancel(job.id)
        try:
            await job.update({"n": 1})
        except LeaseLost as error:
            said.append(str(error))
        return "too late"

    job = await emails.add("slow", {"n": 0})

    [ended] = await run_jobs(ox)

    assert (ended.id, ended.state, ended.result, ended.data) == (job.id, JobState.CANCELLED, None, {"n": 0})
    assert said == [f"job {job.id} is no longer this run's: its data was not changed"]


async def test_mission_a15_a_running_job_is_cancelled_from_outside(filed):
    emails, ends = filed.queue("email"), []

    @emails.processor("slow")
    async def slow(job: ActiveJob) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append(job.cancelled)
            raise

    async with filed.worker(lease=0.3):
        job = await emails.add("slow")
        await event(emails, "active")
        assert (await emails.cancel(job.id)).state is JobState.CANCELLED
        await until(lambda: ends)

    assert ends == [True]
    assert (await emails.get(job.id)).state is JobState.CANCELLED


async def test_mission_a15_lines_are_kept_with_the_job(ox, emails):
    @emails.processor("talk")
    async def talk(job: ActiveJob) -> None:
        for n in range(5):
            await job.log(f"line {n}")

    job = await emails.add("talk")
    await run_jobs(ox)

    assert [line.text for line in await emails.logs(job.id)] == [f"line {n}" for n in range(5)]
    assert [line.number for line in await emails.logs(job.id, after=3)] == [4, 5]
    assert await emails.logs("gone") == []


# --- A16


async def test_mission_a16_every_state_has_its_figure(ox, emails):
    figures = []

    @emails.processor("look")
    async def look() -> None:
        figures.append(await emails.counts())

    emails.processor("bad")(lambda: int("x"))
    await emails.add("bad", priority=2)
    await emails.add("look", priority=1)
    await emails.add_many([("look", None)] * 3)
    await emails.add("look", delay=60)
    await emails.cancel((await emails.add("look")).id)

    await run_jobs(ox, limit=2)

    [during] = figures
    assert {state.value: number for state, number in during.states.items()} == {
        "waiting": 3, "delayed": 1, "blocked": 0, "active": 1, "completed": 0, "failed": 1, "cancelled": 1,
    }  # fmt: skip
    assert (during.queue, during.total, during.paused) == ("email", 7, False)
    after = await emails.counts()
    assert (after.states["completed"], after.states["active"]) == (1, 0)
    assert [counts.queue for counts in await ox.counts()] == ["email"]
    assert {name.name: name.states["waiting"] for name in after.names} == {"look": 3, "bad": 0}


async def test_mission_a16_a_queue_without_jobs_has_zeros_and_a_paused_one_says_so(ox, emails):
    assert (await emails.counts()).total == 0

    await emails.pause()
    assert (await emails.counts()).paused is True
    emails.processor("good")(lambda: None)
    await emails.add("good")
    assert await run_jobs(ox) == []
    await emails.resume()
    assert len(await run_jobs(ox)) == 1


# --- A19


async def test_mission_a19_a_lost_connection_crashes_nothing_is_reported_and_heals(ox, emails, world, caplog):
    errors, ran = [], []
    emails.processor("good")(lambda job: ran.append(job.id))
    ox.on("error")(errors.append)
    flaky = ox.wrap_store(FlakyStore)
    async with working(ox, world):
        first = await emails.add("good")
        await until(lambda: ran == [first.id], world)
        flaky.down = True
        await until(lambda: len(errors) > 2, world)
        with pytest.raises(StoreUnavailable, match="down on purpose"):
            await emails.add("good")
        flaky.down = False
        second = await emails.add("good")
        await until(lambda: ran == [first.id, second.id], world)

    assert {error.message for error in errors} == {"the store is down on purpose: nothing was done"}
    assert "the store failed, it will be asked again" in caplog.text


async def test_mission_a19_a_lost_answer_is_no_lost_job_and_the_same_id_adds_it_once(ox, emails):
    flaky = ox.wrap_store(FlakyStore)
    flaky.lose_answers = True
    job = emails.new("good", id="one")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="it was done all the same"):
            await emails.add_many([job])
    flaky.lose_answers = False

    assert (await emails.add_many([job]))[0].id == "one"
    assert (await emails.counts()).total == 1


async def test_mission_a19_those_who_follow_events_go_on_when_the_store_is_back(ox, emails, world):
    flaky = ox.wrap_store(FlakyStore)
    await emails.add("good")
    seen = []

    async def follow() -> None:
        async for told in emails.events(after=0):
            seen.append(told.kind)  # noqa: PERF401 - there is no end after which to look at a list

    following = asyncio.create_task(follow())
    await until(lambda: seen == ["waiting"])
    flaky.down = True
    await flaky._store.pause("email", True)
    await until(lambda: flaky.calls["open"] > 3, world)
    flaky.down = False
    await until(lambda: seen == ["waiting", "paused"], world)
    following.cancel()


async def test_mission_a19_a_follower_outlives_an_outage_of_hours(ox, emails, world):
    flaky = ox.wrap_store(FlakyStore)
    job = await emails.add("good")
    flaky.down = True
    following = asyncio.create_task(anext(emails.events(after=0)))
    await until(lambda: flaky.calls["open"] > 1100, world, step=5)
    flaky.down = False
    await until(following.done, world)

    assert following.result().job_id == job.id


async def test_mission_a19_who_awaits_a_result_gets_it_when_the_store_is_back(ox, emails, world):
    emails.processor("good")(lambda: "done")
    flaky = ox.wrap_store(FlakyStore)
    job = await emails.add("good")
    waiting = asyncio.create_task(emails.result(job.id))
    limited = asyncio.create_task(emails.result(job.id, timeout=60))
    await until(lambda: flaky.calls["events"] > 3)
    flaky.down = True
    store = flaky._store
    [claimed] = await store.claim(ox.registry.wants(["email"]), limit=1, worker="w", lease=30)
    await store.settle([Complete(claimed.lease, '"done"')])
    await until(limited.done, world)
    assert not waiting.done()
    flaky.down = False
    await until(waiting.done, world)

    assert waiting.result() == "done"
    with pytest.raises(StoreUnavailable):
        limited.result()


# --- A21


async def test_mission_a21_ended_jobs_are_kept_by_age(ox, world):
    emails = ox.queue("email", retention=Retention(completed_for=100, failed_for=1000))
    emails.processor("good")(lambda: None)
    emails.processor("bad")(lambda: int("x"))
    good, bad = await emails.add("good"), await emails.add("bad")
    own = await emails.add("good", keep_for=3000)
    await run_jobs(ox)

    left = []
    async with working(ox, world), asyncio.timeout(LIMIT):
        started = world.now()
        while len(left) < 3:
            world.advance(5)
            for job in (good, bad, own):
                if job.id not in left and await emails.get(job.id) is None:
                    left.append(job.id)
                    assert world.now() - started >= (100, 1000, 3000)[len(left) - 1]

    assert left == [good.id, bad.id, own.id]


async def test_mission_a21_ended_jobs_are_kept_by_count_the_latest_ones(ox, world):
    emails = ox.queue("email", retention=Retention(completed_most=3))
    emails.processor("good")(lambda: None)
    await emails.add_many([("good", n) for n in range(10)])
    await run_jobs(ox)

    async with working(ox, world), asyncio.timeout(LIMIT):
        while (await emails.counts()).total > 3:
            world.advance(5)

    assert [job.data for job in (await emails.find("completed")).jobs] == [9, 8, 7]


async def test_mission_a21_a_job_may_be_removed_when_it_ends(ox, emails):
    emails.processor("good")(lambda: "done")
    emails.processor("bad", keep_for=0)(lambda: int("x"))
    await emails.add("good", keep_for=0)
    await emails.add("bad")

    ended = await run_jobs(ox)

    assert [(job.state, job.result, job.failure and job.failure.type) for job in ended] == [
        (JobState.COMPLETED, "done", None), (JobState.FAILED, None, "ValueError"),
    ]  # fmt: skip
    assert (await emails.counts()).total == 0


# --- from other processes

RESULT = """
import json, sys
from muskox import Muskox
ox = Muskox(sys.argv[1])
print(json.dumps(ox.queue("email").sync.result(sys.argv[2], timeout=20)))
ox.sync.close()
"""


async def test_mission_a07_another_process_awaits_the_result(tmp_path, filed, caplog):
    caplog.set_level(logging.INFO)
    emails = filed.queue("email")
    emails.processor("sum")(lambda a, b: {"sum": a + b})
    job = await emails.add("sum", {"a": 1, "b": 2})

    async with filed.worker():
        printed = await run(tmp_path, RESULT, filed.url, job.id)

    assert json.loads(printed) == {"sum": 3}
