"""Batches: many jobs that are added piece by piece and end together, and the jobs that follow them exactly once."""

from __future__ import annotations

import pytest

from muskox.core.dedup import Dedup
from muskox.core.errors import FlowClosed, OptionError
from muskox.core.flows import FlowJob, FlowKind, FlowState, NewFlow
from muskox.core.job import JobState, NewJob, Options, Retention
from muskox.core.life import Complete, Retry
from muskox.core.limits import Limits
from muskox.store.protocol import Selection
from tests.store.flowing import complete, fail, fill, flow, node, record, run_all, runs, tally
from tests.store.reading import BROKEN, figures, kinds, state

DONE, OVER = NewJob("done", "ends", "tell", '"completed"'), NewJob("over", "ends", "tell", '"settled"')
BOTH = {"completed": DONE, "settled": OVER}


async def followed(store):
    """The jobs that have followed the batch."""
    return [job.id for job in await store.get("ends", ["done", "over"]) if job is not None]


async def test_a_batch_is_open_until_it_is_closed(store, clock):
    jobs = await fill(store, ["a", "b"], **BOTH)
    assert [job.state for job in jobs] == [JobState.WAITING] * 2
    await complete(store, *(await runs(store)).values())
    opened = await record(store, "batch")
    clock.advance(5)

    closed = await store.close_flow("batch")

    assert (opened.kind, opened.state, opened.total, opened.completed) == (FlowKind.BATCH, FlowState.OPEN, 2, 2)
    assert opened.ended_us is None
    assert closed == await record(store, "batch")
    assert (closed.state, closed.total, closed.completed) == (FlowState.COMPLETED, 2, 2)
    assert closed.ended_us == opened.added_us + 5_000_000
    assert await store.audit() == []


async def test_what_follows_is_added_by_the_close_when_all_have_ended_before(store):
    await fill(store, ["a"], **BOTH)
    await fill(store, ["b"])
    await complete(store, *(await runs(store)).values())
    assert await followed(store) == []

    await store.close_flow("batch")
    await store.close_flow("batch")

    assert await followed(store) == ["done", "over"]
    assert await figures(store, "ends") == {"waiting": 2}
    assert [await kinds(store, id) for id in ("done", "over")] == [["waiting"], ["waiting"]]
    assert await store.audit() == []


async def test_what_follows_is_added_by_the_last_settlement_when_it_was_closed_before(store):
    await fill(store, ["a", "b", "c"], **BOTH)
    await store.close_flow("batch")
    claimed = await runs(store)
    await complete(store, claimed["b"], claimed["a"])
    assert await followed(store) == []

    await complete(store, claimed["c"])

    assert await followed(store) == ["done", "over"]
    assert await record(store, "batch") == await store.close_flow("batch")
    assert await store.audit() == []


async def test_the_last_piece_may_close_it(store):
    await fill(store, ["a"], **BOTH)
    await fill(store, ["b"], more=False)

    assert (await record(store, "batch")).state is FlowState.RUNNING
    await complete(store, *(await runs(store)).values())
    assert await followed(store) == ["done", "over"]


async def test_only_what_has_settled_follows_when_one_has_failed(store):
    await fill(store, ["a", "b"], more=False, **BOTH)
    claimed = await runs(store)
    await fail(store, claimed["a"])
    await complete(store, claimed["b"])

    assert await followed(store) == ["over"]
    assert (await record(store, "batch")).state is FlowState.FAILED
    assert await tally(store, "batch") == (2, 1, 1, 0)


async def test_a_job_that_is_retried_after_the_end_changes_the_figures_and_completes_it(store):
    await fill(store, ["a", "b"], more=False, **BOTH)
    claimed = await runs(store)
    await fail(store, claimed["a"])
    await complete(store, claimed["b"])
    await store.retry(Selection("files", ids=("a",)))
    assert await tally(store, "batch") == (2, 1, 0, 0)
    assert (await record(store, "batch")).state is FlowState.RUNNING

    assert await run_all(store) == ["a"]

    assert (await record(store, "batch")).state is FlowState.COMPLETED
    assert await followed(store) == ["done", "over"]
    assert await figures(store, "ends") == {"waiting": 2}
    assert await store.audit() == []


async def test_what_has_followed_never_follows_again(store):
    await fill(store, ["a", "b"], more=False, **BOTH)
    claimed = await runs(store)
    await fail(store, *claimed.values())
    await run_all(store, ["ends"])
    await store.remove(Selection("ends", ids=("over",)))
    for _ in range(2):
        assert await store.retry_flow("batch") == 2
        await fail(store, *(await runs(store)).values())

    assert await followed(store) == []
    assert await store.retry_flow("batch") == 2
    assert await run_all(store) == ["a", "b"]
    assert await followed(store) == ["done"]
    await store.remove(Selection("ends", ids=("done",)))
    await store.close_flow("batch")
    assert await followed(store) == []
    assert await store.audit() == []


async def test_what_follows_may_have_a_key_a_delay_and_a_dedup_key(store, clock):
    first = NewJob("done", "ends", "tell", key="acme")
    later = NewJob("over", "ends", "tell", key="acme", delay=60)
    once = NewJob("once", "ends", "tell", options=Options(dedup=Dedup("news")))
    await store.limit("ends", Limits(key_concurrency=1))
    await fill(store, ["a"], more=False, completed=first, settled=later)
    await fill(store, ["b"], id="other", more=False, completed=NewJob("next", "ends", "tell", key="acme"), settled=once)

    assert sorted(await run_all(store)) == ["a", "b"]

    assert await figures(store, "ends") == {"waiting": 2, "blocked": 1, "delayed": 1}
    assert await store.audit() == []
    clock.advance(61)
    await store.promote()
    assert sorted(await run_all(store, ["ends"])) == ["done", "next", "once", "over"]
    assert await store.audit() == []


async def test_an_empty_batch_is_completed_when_it_is_closed(store):
    await fill(store, [], **BOTH)
    assert (await record(store, "batch")).state is FlowState.OPEN

    closed = await store.close_flow("batch")

    assert (closed.state, closed.total, closed.progress) == (FlowState.COMPLETED, 0, 1)
    assert await followed(store) == ["done", "over"]
    assert await store.audit() == []


async def test_a_job_for_a_closed_batch_is_refused(store):
    await fill(store, ["a"], more=False)

    with pytest.raises(FlowClosed, match="batch 'batch' is closed"):
        await fill(store, ["a", "b"])

    assert await store.get("files", ["b"]) == [None]
    assert await tally(store, "batch") == (1, 0, 0, 0)


async def test_a_piece_may_be_said_again(store):
    for more in (True, True, False, False, True):
        assert [job.id for job in await fill(store, ["a", "b"], more=more, **BOTH)] == ["a", "b"]

    assert await tally(store, "batch") == (2, 0, 0, 0)
    assert await run_all(store) == ["a", "b"]
    assert await followed(store) == ["done", "over"]
    await fill(store, ["b", "a"], more=False, **BOTH)
    assert await tally(store, "batch") == (2, 2, 0, 0)
    assert await store.audit() == []


async def test_twins_in_a_piece_and_known_jobs_count_once(store, add):
    await add("mail", id="known")

    answers = await store.grow(
        NewFlow("batch", FlowKind.BATCH, open=True),
        [FlowJob(NewJob(id, "files", "mail")) for id in ("a", "known", "b", "a")],
    )

    assert [answer.created for answer in answers] == [True, False, True, False]
    assert await tally(store, "batch") == (2, 0, 0, 0)
    assert await run_all(store) == ["known", "a", "b"]
    assert await tally(store, "batch") == (2, 2, 0, 0)
    assert await store.audit() == []


async def test_nothing_of_it_waits_for_others(store):
    with pytest.raises(OptionError, match="batch"):
        await flow(store, node("a"), node("b", ["a"]), kind=FlowKind.BATCH)

    assert await store.get("files", ["a", "b"]) == [None, None]


async def test_jobs_of_several_queues_and_kinds(store, clock):
    jobs = [
        node(f"job-{n}", queue=("files", "other")[n % 2], name=("mail", "sms")[n // 2 % 2], delay=n % 3)
        for n in range(12)
    ]
    await store.grow(NewFlow("batch", FlowKind.BATCH, settled=OVER), jobs)
    clock.advance(5)
    await store.promote()

    assert len(await run_all(store, ["files", "other"])) == 12

    assert await tally(store, "batch") == (12, 12, 0, 0)
    assert await followed(store) == ["over"]
    assert await store.audit() == []


async def test_jobs_that_are_removed_at_their_end_count(store):
    await fill(store, [f"job-{n}" for n in range(20)], more=False, **BOTH)

    claimed = (await runs(store)).values()
    await store.settle([Complete(job.lease, keep=0) for job in claimed])

    assert await figures(store) == {}
    assert await tally(store, "batch") == (20, 20, 0, 0)
    assert await followed(store) == ["done", "over"]
    assert await store.audit() == []


async def test_jobs_that_end_by_hand_or_stall_count(store, clock):
    jobs = [node(id, max_stalls=0) for id in ("cancelled", "removed", "lost", "run")]
    await store.grow(NewFlow("batch", FlowKind.BATCH, **BOTH), jobs)
    await store.cancel(Selection("files", ids=("cancelled",)))
    await store.remove(Selection("files", ids=("removed",)))
    await runs(store, limit=1, lease=1)
    clock.advance(2)
    await store.recover()

    assert await run_all(store) == ["run"]

    assert await tally(store, "batch") == (4, 1, 1, 2)
    assert await followed(store) == ["over"]
    assert await store.audit() == []


async def test_jobs_that_will_be_tried_again_have_not_ended(store):
    await fill(store, ["a"], more=False, **BOTH)
    [run] = (await runs(store)).values()

    await store.settle([Retry(run.lease, 0, BROKEN)])

    assert await tally(store, "batch") == (1, 0, 0, 0)
    assert await followed(store) == []


async def test_a_settlement_said_again_counts_once(store):
    await fill(store, ["a", "b"], more=False, **BOTH)
    claimed = await runs(store)
    for _ in range(3):
        await complete(store, claimed["a"])

    assert await tally(store, "batch") == (2, 1, 0, 0)
    for _ in range(3):
        await complete(store, *claimed.values())
    assert await tally(store, "batch") == (2, 2, 0, 0)
    assert await figures(store, "ends") == {"waiting": 2}
    assert await store.audit() == []


async def test_a_whole_batch_is_cancelled_in_steps(store):
    await fill(store, [f"job-{n}" for n in range(25)], settled=OVER)
    await complete(store, *(await runs(store, limit=5)).values())
    counts = []
    while not counts or counts[-1] == 10:
        counts.append(await store.cancel_flow("batch", limit=10))

    assert sum(counts) == 20
    assert await tally(store, "batch") == (25, 5, 0, 20)
    assert (await record(store, "batch")).state is FlowState.CANCELLED
    assert await followed(store) == ["over"]
    with pytest.raises(FlowClosed):
        await fill(store, ["more"])
    assert await store.audit() == []


async def test_a_whole_batch_is_retried_in_steps(store):
    await fill(store, [f"job-{n}" for n in range(25)], more=False)
    claimed = list((await runs(store)).values())
    await fail(store, *claimed[:15])
    await complete(store, *claimed[15:])
    counts = []
    while not counts or counts[-1] == 10:
        counts.append(await store.retry_flow("batch", limit=10))

    assert sum(counts) == 15
    assert await tally(store, "batch") == (25, 10, 0, 0)
    assert len(await run_all(store)) == 15
    assert (await record(store, "batch")).state is FlowState.COMPLETED
    assert await store.audit() == []


async def test_jobs_that_a_run_adds_join_its_batch(store):
    await fill(store, ["a"], more=False, **BOTH)
    [run] = (await runs(store)).values()

    await store.branch(run.lease, [FlowJob(NewJob("a:1", "files", "mail"))])
    await complete(store, run)

    assert await followed(store) == []
    assert await tally(store, "batch") == (2, 1, 0, 0)
    assert await run_all(store) == ["a:1"]
    assert await followed(store) == ["done", "over"]
    assert await store.audit() == []


async def test_an_open_batch_is_kept_and_shown(store, clock):
    await fill(store, ["a"])
    await run_all(store)
    clock.advance(60 * 86_400)
    await store.clear({"files": Retention(completed_for=10)})

    found = await store.flows(unended=True)

    assert [(one.id, one.state, one.completed) for one in found.flows] == [("batch", FlowState.OPEN, 1)]
    assert await store.get("files", ["a"]) == [None]
    await store.close_flow("batch")
    clock.advance(86_401)
    await store.clear({})
    assert (await store.flows()).flows == []
    assert await store.audit() == []


async def test_it_has_no_jobs_that_are_not_in_it(store, add):
    await add("mail", id="plain")
    await fill(store, ["a", "b"])

    found = await store.flow_jobs("batch")

    assert [(job.id, job.flow) for job in found.jobs] == [("a", "batch"), ("b", "batch")]
    assert (await runs(store))["a"].lease.tied
    assert await state(store, "plain") is JobState.ACTIVE


async def test_no_batch_is_closed_that_is_not_there(store):
    assert await store.close_flow("nobody") is None
