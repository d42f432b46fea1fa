"""Why a job does not run, and when it will: from the facts of the store, on every store there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muskox import Flow, JobNotFound, Muskox, OptionError, ReasonKind, chain
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import NewJob
from muskox.core.life import Complete, Fail, Retry
from muskox.explaining import MOST_AHEAD
from muskox.store.protocol import Want, WorkerRecord
from muskox.testing import FakeWorld
from tests.stores import STORES

TORN = Failure(FailureKind.ERROR, "RuntimeError", "the picture is torn")


@pytest.fixture(params=STORES)
async def ox(request: pytest.FixtureRequest, tmp_path: Path, world: FakeWorld) -> AsyncIterator[Muskox]:
    async with STORES[request.param](tmp_path, world) as (url, store):
        app = Muskox(url, world=world)
        app._new_store = lambda: store  # type: ignore[method-assign]
        yield app


def working(id: str = "w", *, names: frozenset[str] | None = None, queue: str = "files", **fields) -> WorkerRecord:
    return WorkerRecord(id, "host", 7, (Want(queue, names),), **{"slots": 2, "running": 0, **fields})


async def kinds(ox: Muskox, id: str = "job") -> list[str]:
    return [kind.value for kind in (await ox.queue("files").explain(id)).kinds]


async def claim(ox: Muskox, limit: int = 1):
    return await (await ox.store()).claim([Want("files")], limit=limit, worker="w", lease=30)


async def test_the_next_job_is_held_by_nothing(ox):
    await ox.queue("files").add("resize", id="job")
    await (await ox.store()).beat(working())

    found = await ox.explain("job")

    assert found.kinds == [ReasonKind.NEXT]
    assert found.job.id == "job"
    assert str(found).startswith("job job named resize in queue files is waiting\n- ")


async def test_a_job_without_a_worker_says_which_kind_is_missing(ox):
    files, store = ox.queue("files"), await ox.store()
    await files.add("resize", id="job")

    async def said():
        [reason] = (await files.explain("job")).reasons
        assert reason.kind is ReasonKind.NO_WORKER
        return reason.text

    assert await said() == "no worker is alive"
    await store.beat(working(queue="mail"))
    assert await said() == "no live worker takes jobs from queue files"
    await store.beat(working("b", names=frozenset({"convert"})))
    assert "has a processor resize" in await said()
    await store.beat(working("c", stopping=True))
    assert "stopping" in await said()


async def test_a_paused_queue_and_the_jobs_ahead_are_all_told(ox):
    files, store = ox.queue("files"), await ox.store()
    await files.add("resize")
    await files.add("resize", priority=1)
    await files.add("convert", priority=1)
    await files.add("resize", id="job")
    await store.beat(working(names=frozenset({"resize"}), running=2))
    await files.pause()

    found = await files.explain("job")

    assert found.kinds == [ReasonKind.PAUSED, ReasonKind.BEHIND, ReasonKind.BUSY]
    assert found.reasons[1].jobs == 2
    assert found.reasons[1].text == (
        "it is behind 1 job of higher priority and 1 job of the same priority that came before it"
    )


async def test_what_no_worker_can_run_is_in_nobodys_way(ox):
    files = ox.queue("files")
    await files.add("unknown", priority=9)
    await files.add("resize", id="job")
    await (await ox.store()).beat(working(names=frozenset({"resize"})))

    assert await kinds(ox) == ["next"]


async def test_no_more_than_so_many_ahead_are_counted(ox):
    store = await ox.store()
    for first in range(0, MOST_AHEAD + 1, 5001):
        await store.add([NewJob(f"early-{first + number}", "files", "resize") for number in range(5001)])
    await ox.queue("files").add("resize", id="job")
    await store.beat(working())

    [reason] = (await ox.explain("job")).reasons

    assert (reason.jobs, reason.more) == (MOST_AHEAD, True)
    assert "more than 10000 jobs" in reason.text


async def test_a_delayed_job_says_when_it_is_due(ox):
    job = await ox.queue("files").add("resize", id="job", delay=60)
    await (await ox.store()).beat(working())

    [reason] = (await ox.explain("job")).reasons

    assert (reason.kind, reason.at) == (ReasonKind.DELAYED, job.due_at)


async def test_a_job_between_two_attempts_says_what_failed_and_when_it_is_tried_again(ox):
    await ox.queue("files").add("resize", id="job", attempts=3)
    [run] = await claim(ox)
    await (await ox.store()).settle([Retry(run.lease, 10, TORN)])

    found = await ox.explain("job")

    assert found.kinds == [ReasonKind.RETRYING, ReasonKind.NO_WORKER]
    assert found.reasons[0].failure == TORN
    assert (found.reasons[0].at - found.at).total_seconds() == 10
    assert "attempt 1 failed with RuntimeError: the picture is torn" in found.reasons[0].text


async def test_a_running_job_says_where_and_until_when_and_then_that_it_stalled(ox, world):
    await ox.queue("files").add("resize", id="job")
    await (await ox.store()).beat(working())
    await claim(ox)

    running = await ox.explain("job")
    world.advance(31)
    stalled = await ox.explain("job")

    [reason] = running.reasons
    assert (reason.kind, reason.worker) == (ReasonKind.RUNNING, "w")
    assert (reason.at - running.at).total_seconds() == 30
    assert "worker w (host, process 7)" in reason.text
    assert stalled.kinds == [ReasonKind.STALLED, ReasonKind.NO_WORKER]


async def test_a_job_that_has_ended_says_how(ox):
    files = ox.queue("files")
    for id in ("done", "broken", "dropped"):
        await files.add("resize", id=id)
    done, broken = await claim(ox, 2)
    await (await ox.store()).settle([Complete(done.lease), Fail(broken.lease, TORN)])
    await files.cancel("dropped")

    found = [(await files.explain(id)).reasons[0] for id in ("done", "broken", "dropped")]

    assert [reason.kind for reason in found] == ["completed", "failed", "cancelled"]
    assert found[1].failure == TORN
    assert all(reason.at is not None for reason in found)


async def test_a_job_that_is_not_there_or_there_twice_is_an_error(ox):
    await ox.queue("files").add("resize", id="job")
    await ox.queue("mail").add("welcome", id="job")

    with pytest.raises(OptionError, match="files and mail"):
        await ox.explain("job")
    with pytest.raises(JobNotFound):
        await ox.explain("nobody")
    with pytest.raises(JobNotFound):
        await ox.queue("files").explain("nobody")
    with pytest.raises(OptionError):
        await ox.explain("")


async def test_a_job_that_waits_for_others_says_for_which(ox):
    files, store = ox.queue("files"), await ox.store()
    await store.beat(working())
    flow = Flow("flow")
    parents = [flow.add(files, "resize", id=f"p-{number}") for number in range(12)]
    flow.add(files, "pack", after=parents[0], id="one")
    flow.add(files, "pack", after=parents[:2], id="two")
    flow.add(files, "pack", after=parents, id="many")
    await ox.flows.add(flow)
    await claim(ox)

    async def said(id: str) -> str:
        [reason] = (await files.explain(id)).reasons
        assert reason.kind is ReasonKind.PARENTS
        return reason.text

    assert await said("one") == "it waits for job p-0 in queue files (active)"
    assert await said("two") == "it waits for jobs p-0 in queue files (active) and p-1 in queue files (waiting)"
    assert (await said("many")).endswith("p-2 in queue files (waiting) and 7 or more others")


async def test_a_job_that_failed_because_of_a_parent_says_so(ox):
    files, store = ox.queue("files"), await ox.store()
    await ox.flows.add(chain(files.new("resize", id="parent"), files.new("pack", id="child")))
    [run] = await claim(ox)
    await store.settle([Fail(run.lease, TORN)])

    [reason] = (await files.explain("child")).reasons

    assert reason.kind is ReasonKind.FAILED
    assert "its parent parent in queue files failed: RuntimeError: the picture is torn" in reason.text
