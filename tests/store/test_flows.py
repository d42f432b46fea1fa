"""Flows: jobs that are blocked until their parents have ended, and what becomes of them when a parent fails."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.errors import FlowClosed, OptionError
from muskox.core.failure import FailureKind
from muskox.core.flows import FlowKind, FlowState, NewFlow, OnFailure, Wait
from muskox.core.job import JobState, NewJob, Retention
from muskox.core.life import Complete, Fail, Release, Retry
from muskox.core.limits import Limits
from muskox.store.protocol import Selection, Want
from tests.store.flowing import complete, fail, flow, node, record, run_all, runs, tally
from tests.store.reading import BROKEN, figures, kinds, latest, one, state

B, C, D, F, W, X = (
    JobState.BLOCKED,
    JobState.COMPLETED,
    JobState.DELAYED,
    JobState.FAILED,
    JobState.WAITING,
    JobState.CANCELLED,
)


async def states(store, *ids):
    return [job and job.state for job in await store.get("files", ids)]


# --- waiting for parents -----------------------------------------------------------------


async def test_a_job_with_parents_is_blocked_and_cannot_be_claimed(store):
    [first, child] = await flow(store, node("a"), node("b", ["a"]))

    assert (first.state, child.state) == (W, B)
    assert await figures(store) == {"waiting": 1, "blocked": 1}
    assert await kinds(store, "b") == ["blocked"]
    assert list(await runs(store)) == ["a"]
    assert await runs(store) == {}
    assert await store.audit() == []


async def test_it_waits_from_when_the_last_of_its_parents_has_ended(store, clock):
    await flow(store, node("a"), node("b"), node("c", ["a", "b"]))
    claimed = await runs(store)
    before = await latest(store)
    clock.advance(5)
    await complete(store, claimed["b"])
    assert await state(store, "c") is B
    clock.advance(5)

    await complete(store, claimed["a"])

    assert await state(store, "c") is W
    assert await kinds(store, "c", after=before) == ["waiting"]
    assert await store.audit() == []
    assert await run_all(store) == ["c"]
    assert await kinds(store, "c", after=before) == ["waiting", "active", "completed"]


async def test_jobs_of_one_settlement_may_be_the_parents_of_one(store):
    await flow(store, *(node(f"p-{n}") for n in range(50)), node("child", [f"p-{n}" for n in range(50)]))
    claimed = await runs(store)

    await complete(store, *claimed.values(), result="1")

    assert await state(store, "child") is W
    assert await store.audit() == []


async def test_a_chain_runs_in_its_order(store):
    await flow(store, node("a"), node("b", ["a"], priority=9), node("c", ["b"], priority=99), node("d", ["c"]))

    assert await run_all(store) == ["a", "b", "c", "d"]
    assert await tally(store) == (4, 4, 0, 0)
    assert await store.audit() == []


async def test_a_diamond_across_queues(store):
    await flow(
        store,
        node("a"),
        node("left", ["a"], queue="left"),
        node("right", ["a"], queue="right", name="convert"),
        node("end", [Wait("left", "left", "l"), Wait("right", "right", "r")], queue="ends"),
    )
    queues = ["files", "left", "right", "ends"]

    order = await run_all(store, queues)

    assert order[0] == "a"
    assert order[3] == "end"
    assert set(order[1:3]) == {"left", "right"}
    assert await store.audit() == []


async def test_same_ids_in_several_queues_are_several_jobs(store):
    await flow(store, node("a"), node("a", [Wait("files", "a", "a")], queue="other"))
    await store.add([NewJob("a", "third", "resize")])

    for queue in ("files", "other", "third"):
        assert await run_all(store, [queue]) == ["a"]
    assert (await record(store)).state is FlowState.COMPLETED
    assert await store.audit() == []


async def test_the_delay_of_a_child_counts_from_when_its_parents_have_ended(store, clock):
    await flow(store, node("a"), node("b", ["a"], delay=60))
    assert (await one(store, "b")).due_us is None
    clock.advance(100)
    claimed = await runs(store)

    await complete(store, *claimed.values())

    child = await one(store, "b")
    assert child.state is D
    assert child.due_us == (await one(store, "a")).ended_us + 60_000_000
    assert await store.audit() == []
    clock.advance(61)
    await store.promote()
    assert list(await runs(store)) == ["b"]


async def test_blocked_jobs_are_found_and_stand_with_the_parents_they_wait_for(store):
    await flow(store, *(node(f"p-{n}") for n in range(12)), node("c", [f"p-{n}" for n in range(12)]), node("d", ["c"]))
    await complete(store, *(await runs(store, limit=1)).values())

    found = await store.find(Selection("files", states=(B,)))
    standing = await store.standing("files", "c", names=None, most=10)

    assert sorted(job.id for job in found.jobs) == ["c", "d"]
    assert standing.job.state is B
    assert [parent.id for parent in standing.parents] == [f"p-{n}" for n in range(1, 11)]
    assert [parent.state for parent in standing.parents] == [W] * 10


async def test_a_job_says_in_which_flow_it_is(store, add):
    await flow(store, node("a"), node("b", ["a"]), id="order-17")
    await add(id="plain")

    assert [job.flow for job in await store.get("files", ["a", "b", "plain"])] == ["order-17", "order-17", None]


async def test_only_jobs_for_whose_end_somebody_waits_are_tied(store, add):
    await flow(store, node("a"))
    await add(id="plain")

    claimed = await runs(store)

    assert claimed["a"].lease.tied
    assert not claimed["plain"].lease.tied


async def test_jobs_that_are_tried_again_or_given_back_have_not_ended(store, clock):
    await flow(store, node("a", attempts=5), node("b", ["a"]))
    for again in (lambda lease: Retry(lease, 0, BROKEN), Release):
        [run] = (await runs(store)).values()
        await store.settle([again(run.lease)])
        assert await state(store, "b") is B
    await runs(store, lease=1)
    clock.advance(2)
    await store.recover()
    assert await state(store, "b") is B

    assert await run_all(store) == ["a", "b"]
    assert await store.audit() == []


async def test_a_lost_lease_tells_nobody(store, clock):
    await flow(store, node("a", max_stalls=5), node("b", ["a"]))
    [lost] = (await runs(store, lease=1)).values()
    clock.advance(2)
    await store.recover()
    [run] = (await runs(store)).values()

    assert await store.settle([Complete(lost.lease)]) == [lost.lease]
    assert await store.settle([Fail(lost.lease, BROKEN)]) == [lost.lease]

    assert await state(store, "b") is B
    assert await tally(store) == (2, 0, 0, 0)
    await complete(store, run)
    assert await state(store, "b") is W
    assert await tally(store) == (2, 1, 0, 0)
    assert await store.audit() == []


async def test_a_settlement_said_twice_counts_once(store):
    await flow(store, node("a"), node("b"), node("c", ["a", "b"]))
    claimed = await runs(store)
    for _ in range(3):
        await complete(store, claimed["a"], result="1")

    assert await state(store, "c") is B
    assert await tally(store) == (3, 1, 0, 0)
    assert await store.audit() == []


# --- results -----------------------------------------------------------------------------


async def test_the_parents_of_a_job_are_at_hand_in_the_order_given(store):
    await flow(
        store,
        node("a"),
        node("b"),
        node("c", [Wait("files", "b", "second"), Wait("files", "a", "first", OnFailure.IGNORE)]),
    )
    claimed = await runs(store)
    await complete(store, claimed["a"], result='{"sent":true}')

    [second, first] = await store.parents("files", "c")

    assert (second.name, second.queue, second.id, second.state) == ("second", "files", "b", JobState.ACTIVE)
    assert second.result is None
    assert (first.name, first.state, first.result) == ("first", C, {"sent": True})
    assert (first.on_failure, second.on_failure) == (OnFailure.IGNORE, OnFailure.FAIL)
    assert await store.parents("files", "a") == []
    assert await store.parents("files", "nobody") == []
    assert await store.parents("nowhere", "a") == []


async def test_what_parents_gave_outlasts_them(store, clock):
    await flow(store, node("a"), node("b"), node("c", ["a", "b"]))
    claimed = await runs(store)
    await complete(store, claimed["a"], result="1", keep=0)
    await complete(store, claimed["b"], result="2")
    await store.remove(Selection("files", ids=("b",)))

    assert await states(store, "a", "b", "c") == [None, None, W]
    assert [(parent.state, parent.result) for parent in await store.parents("files", "c")] == [(C, 1), (C, 2)]
    assert await tally(store) == (3, 2, 0, 0)
    assert await store.audit() == []


async def test_parents_may_be_cleared_before_their_children_end(store, clock):
    await flow(store, node("a"), node("b"), node("c", ["a", "b"]))
    claimed = await runs(store)
    await complete(store, claimed["a"], result="1")
    clock.advance(100)

    assert await store.clear({"files": Retention(completed_for=10)}) == 1

    assert await states(store, "a", "c") == [None, B]
    await complete(store, claimed["b"], result="2")
    assert [parent.result for parent in await store.parents("files", "c")] == [1, 2]
    assert await run_all(store) == ["c"]
    assert await store.audit() == []


# --- parents that fail -------------------------------------------------------------------


async def test_a_failed_parent_fails_its_children_and_so_down_the_line(store):
    await flow(store, node("a"), node("z"), node("b", ["a", "z"]), node("c", ["b"], queue="other"))
    claimed = await runs(store)
    before = await latest(store)

    await fail(store, claimed["a"])

    child, grandchild = await one(store, "b"), await one(store, "c", "other")
    assert (child.state, grandchild.state) == (F, F)
    assert (child.failure.kind, child.failure.type) == (FailureKind.PARENT, "ParentFailed")
    assert child.failure.message == "its parent a in queue files failed: ValueError: no such file"
    assert grandchild.failure.message.startswith("its parent b in queue files failed: ParentFailed: its parent a in")
    assert child.ended_us == (await one(store, "a")).ended_us
    assert await kinds(store, "b", after=before) == ["failed"]
    assert await kinds(store, "c", after=before) == ["failed"]
    assert await tally(store) == (4, 0, 3, 0)
    await complete(store, claimed["z"])
    assert (await record(store)).state is FlowState.FAILED
    assert await run_all(store, ["files", "other"]) == []
    assert await store.audit() == []


@pytest.mark.parametrize("meaning", ["continue", "ignore"])
async def test_a_child_may_go_on_without_a_parent(store, meaning):
    await flow(store, node("a"), node("b"), node("c", ["a", "b"], on_failure=meaning))
    claimed = await runs(store)
    await fail(store, claimed["a"])
    assert await state(store, "c") is B

    await complete(store, claimed["b"], result="2")

    assert await state(store, "c") is W
    failed, completed = await store.parents("files", "c")
    assert (failed.state, failed.failure, failed.result) == (F, BROKEN, None)
    assert (completed.state, completed.result) == (C, 2)
    assert await run_all(store) == ["c"]
    assert await tally(store) == (3, 2, 1, 0)
    assert await store.audit() == []


async def test_what_a_failure_means_is_said_per_parent(store):
    waits = [Wait("files", "a", "a", OnFailure.CONTINUE), Wait("files", "b", "b", OnFailure.FAIL)]
    await flow(store, node("a"), node("b"), node("c", waits))
    claimed = await runs(store)

    await fail(store, claimed["a"])
    assert await state(store, "c") is B
    await fail(store, claimed["b"])

    assert (await one(store, "c")).failure.message.startswith("its parent b")
    assert await store.audit() == []


@pytest.mark.parametrize("way", ["cancel", "cancel active", "remove", "drain", "stall"])
async def test_a_parent_that_ends_in_another_way_fails_its_children_too(store, clock, way):
    await flow(store, node("a", max_stalls=0), node("b", ["a"]), node("c", ["b"]))
    match way:
        case "cancel":
            await store.cancel(Selection("files", ids=("a",)))
            said, count = "its parent a in queue files was cancelled", (3, 0, 2, 1)
        case "cancel active":
            await runs(store)
            await store.cancel(Selection("files", ids=("a",)))
            said, count = "its parent a in queue files was cancelled", (3, 0, 2, 1)
        case "remove":
            await store.remove(Selection("files", ids=("a",)))
            said, count = "its parent a in queue files was removed before it ended", (3, 0, 2, 1)
        case "drain":
            await store.remove(Selection("files", states=(W,)))
            said, count = "its parent a in queue files was removed before it ended", (3, 0, 2, 1)
        case _:
            await runs(store, lease=1)
            clock.advance(2)
            await store.recover()
            said, count = "its parent a in queue files failed: Stalled: its lease ran out", (3, 0, 3, 0)

    assert await states(store, "b", "c") == [F, F]
    assert (await one(store, "b")).failure.message.startswith(said)
    assert await tally(store) == count
    assert await store.audit() == []


async def test_a_removed_parent_is_seen_as_cancelled_by_those_that_go_on(store):
    await flow(store, node("a"), node("b", ["a"], on_failure="continue"))

    await store.remove(Selection("files", ids=("a",)))

    [parent] = await store.parents("files", "b")
    assert (parent.state, parent.result) == (X, None)
    assert await state(store, "b") is W
    assert await store.audit() == []


async def test_a_blocked_job_can_be_cancelled_and_removed(store):
    await flow(store, node("a"), node("b", ["a"]), node("c", ["a"]), node("d", ["c"], on_failure="ignore"))

    assert await store.cancel(Selection("files", ids=("b",))) == 1
    assert await store.remove(Selection("files", ids=("c",))) == 1

    assert await states(store, "b", "c", "d") == [X, None, W]
    assert await run_all(store) == ["a", "d"]
    assert await tally(store) == (4, 2, 0, 2)
    assert (await record(store)).state is FlowState.CANCELLED
    assert await store.audit() == []


# --- adding ------------------------------------------------------------------------------


async def test_a_flow_that_is_added_again_adds_nothing(store):
    jobs = [node("a"), node("b", ["a"])]
    await flow(store, *jobs)
    await complete(store, *(await runs(store)).values())

    again = await store.grow(NewFlow("flow"), jobs)

    assert [(added.created, added.job.state) for added in again] == [(False, C), (False, W)]
    assert await tally(store) == (2, 1, 0, 0)
    assert await store.audit() == []


async def test_a_closed_flow_takes_no_more(store):
    await flow(store, node("a"))

    with pytest.raises(FlowClosed, match="flow 'flow' is closed"):
        await flow(store, node("a"), node("b", ["a"]))

    assert await states(store, "a", "b") == [W, None]
    assert await tally(store) == (1, 0, 0, 0)
    assert await store.audit() == []


async def test_an_open_flow_grows_also_below_parents_that_have_ended(store):
    await flow(store, node("a"), node("x"), open=True)
    claimed = await runs(store)
    await complete(store, claimed["a"], result="1")
    await fail(store, claimed["x"])

    [b, y, z] = await flow(
        store, node("b", ["a"]), node("y", ["x"]), node("z", ["x", "b"], on_failure="ignore"), open=True
    )

    assert (b.state, z.state) == (W, B)
    assert y.state is F
    assert y.failure.kind is FailureKind.PARENT
    assert (await record(store)).state is FlowState.OPEN
    assert await run_all(store) == ["b", "z"]
    assert (await store.close_flow("flow")).state is FlowState.FAILED
    assert await tally(store) == (5, 3, 2, 0)
    assert await store.audit() == []


async def test_a_missing_parent_adds_nothing(store, add):
    await add(id="plain")

    for jobs in ([node("a"), node("b", ["nobody"])], [node("b", ["plain"])], [node("b", ["a"]), node("a")]):
        with pytest.raises(OptionError, match="which is not in"):
            await flow(store, *jobs)

    assert await states(store, "a", "b") == [None, None]
    assert (await store.flows()).flows == []
    assert await store.audit() == []


async def test_a_known_job_is_answered_and_does_not_join(store, add):
    await add(id="a")

    [a, b] = await store.grow(NewFlow("flow"), [node("a"), node("b")])

    assert (a.created, b.created) == (False, True)
    assert (await one(store, "a")).flow is None
    assert await tally(store) == (1, 0, 0, 0)
    assert await run_all(store) == ["a", "b"]
    assert await tally(store) == (1, 1, 0, 0)
    assert await store.audit() == []


async def test_a_flow_is_no_batch(store):
    await flow(store, node("a"), open=True)

    with pytest.raises(OptionError, match="is a flow and no batch"):
        await flow(store, node("b"), kind=FlowKind.BATCH, open=True)

    assert await states(store, "b") == [None]


async def test_all_that_is_said_of_a_job_is_kept_while_it_is_blocked(store):
    job = node("b", ["a"], priority=7, data='{"x":1}', attempts=3, timeout=9.0)
    await flow(store, node("a"), job)
    await complete(store, *(await runs(store)).values())

    [run] = (await runs(store)).values()

    assert (run.priority, run.data, run.attempts) == (7, {"x": 1}, 3)
    assert run.options == job.job.options
    assert await store.audit() == []


async def test_data_of_a_blocked_job_can_be_replaced(store):
    await flow(store, node("a"), node("b", ["a"]))

    assert (await store.update("files", "b", "5")).data == 5

    await complete(store, *(await runs(store)).values())
    assert (await runs(store))["b"].data == 5


# --- by hand -----------------------------------------------------------------------------


async def test_blocked_children_wait_again_for_a_parent_that_is_retried(store):
    await flow(store, node("a"), node("b"), node("c", ["a", "b"], on_failure="continue"))
    claimed = await runs(store)
    await fail(store, claimed["a"])
    assert await store.retry(Selection("files", ids=("a",))) == 1
    assert await tally(store) == (3, 0, 0, 0)
    await complete(store, claimed["b"])
    assert await state(store, "c") is B

    assert await run_all(store) == ["a", "c"]
    assert await tally(store) == (3, 3, 0, 0)
    assert await store.audit() == []


async def test_a_job_that_is_retried_by_hand_runs_though_its_parent_failed(store):
    await flow(store, node("a"), node("b", ["a"]), node("c", ["b"]))
    await fail(store, *(await runs(store)).values())

    assert await store.retry(Selection("files", ids=("b",))) == 1

    assert await states(store, "a", "b", "c") == [F, W, F]
    assert await tally(store) == (3, 0, 2, 0)
    assert await store.audit() == []
    assert await run_all(store) == ["b"]
    assert await states(store, "c") == [F]


async def test_a_job_that_is_retried_by_hand_waits_for_parents_that_have_not_ended(store):
    await flow(store, node("a"), node("z"), node("b", ["a", "z"]))
    await store.cancel(Selection("files", ids=("b",)))

    before = await latest(store)
    assert await store.retry(Selection("files", ids=("b",))) == 1

    assert await state(store, "b") is B
    assert await kinds(store, "b", after=before) == ["blocked"]
    assert await run_all(store) == ["a", "z", "b"]
    assert await store.audit() == []


async def test_a_whole_flow_is_retried_down_the_line(store):
    await flow(store, node("a"), node("z"), node("b", ["a"]), node("c", ["b", "z"]), node("d", ["z"]))
    claimed = await runs(store)
    await fail(store, claimed["a"])
    await complete(store, claimed["z"], result="1")
    await complete(store, *(await runs(store)).values())
    assert await states(store, "a", "b", "c", "d") == [F, F, F, C]

    assert await store.retry_flow("flow") == 3

    assert await states(store, "a", "b", "c", "d") == [W, B, B, C]
    assert await tally(store) == (5, 2, 0, 0)
    assert (await record(store)).state is FlowState.RUNNING
    assert (await record(store)).ended_us is None
    assert await store.audit() == []
    assert await run_all(store) == ["a", "b", "c"]
    assert (await record(store)).state is FlowState.COMPLETED
    assert await store.retry_flow("flow") == 0
    assert await store.retry_flow("nobody") == 0


async def test_a_whole_flow_is_cancelled_running_and_blocked_jobs_too(store):
    await flow(store, node("a"), node("z"), node("b", ["a"]), node("c", ["b"], on_failure="ignore"), open=True)
    [run] = (await runs(store, limit=1)).values()

    assert await store.cancel_flow("flow") == 4

    assert await states(store, "a", "z", "b", "c") == [X, X, X, X]
    assert await store.settle([Complete(run.lease)]) == [run.lease]
    assert (await record(store)).state is FlowState.CANCELLED
    with pytest.raises(FlowClosed):
        await flow(store, node("e"), open=True)
    assert await store.cancel_flow("flow") == 0
    assert await store.cancel_flow("nobody") == 0
    assert await store.audit() == []


async def test_a_flow_is_cancelled_in_steps_and_nothing_of_it_fails_meanwhile(store):
    await flow(store, node("a"), node("b", ["a"]), node("c", ["b"]), node("d", ["c"]))
    taken = []
    while (count := await store.cancel_flow("flow", limit=2)) == 2:
        taken.append(count)

    assert await states(store, "a", "b", "c", "d") == [X, X, X, X]
    assert await tally(store) == (4, 0, 0, 4)
    assert await store.audit() == []


async def test_a_cancelled_flow_can_be_retried(store):
    await flow(store, node("a"), node("b", ["a"]))
    await store.cancel_flow("flow")

    assert await store.retry_flow("flow") == 2

    assert await states(store, "a", "b") == [W, B]
    await fail(store, *(await runs(store)).values())
    assert await states(store, "a", "b") == [F, F]
    assert await store.audit() == []


async def test_a_job_whose_parents_have_ended_is_told_of_by_what_it_has_become(store, clock):
    await flow(store, node("a"), open=True)
    await run_all(store)
    before = await store.events(after=0, limit=1000)

    children = [node("b", ["a"]), node("c", ["b"]), node("late", ["a"], delay=5), node("keyed", ["a"], key="acme")]
    added = await store.grow(NewFlow("flow"), children)

    told = await store.events(after=before[-1].offset, limit=1000)
    facts = {"b": "Waiting", "c": "Blocked", "late": "Delayed", "keyed": "Waiting"}
    assert [one.job.state for one in added] == [W, B, D, W]
    assert sorted((event.job_id, type(event).__name__) for event in told) == sorted(facts.items())
    assert sorted(await run_all(store)) == ["b", "c", "keyed"]
    clock.advance(5)
    await store.promote()
    assert await run_all(store) == ["late"]
    assert await store.audit() == []


# --- from inside a run -------------------------------------------------------------------


async def test_whoever_waits_for_a_run_waits_for_the_jobs_that_it_adds(store):
    await flow(store, node("a"), node("b", ["a"]), node("c", ["b"]))
    [run] = (await runs(store)).values()

    added = await store.branch(run.lease, [node("a:1"), node("a:2", queue="other")])
    await complete(store, run, result="0")

    assert [(one.created, one.job.state) for one in added] == [(True, W), (True, W)]
    assert await tally(store) == (5, 1, 0, 0)
    assert await state(store, "b") is B
    assert await run_all(store) == ["a:1"]
    assert await state(store, "b") is B
    assert await run_all(store, ["other"]) == ["a:2"]
    assert await state(store, "b") is W
    assert [parent.name for parent in await store.parents("files", "b")] == ["a", "a:1", "a:2"]
    assert await store.audit() == []
    assert await run_all(store) == ["b", "c"]


async def test_added_jobs_that_fail_mean_what_the_run_would(store):
    await flow(store, node("a"), node("b", ["a"]), node("c", ["a"], on_failure="continue"))
    [run] = (await runs(store)).values()
    await store.branch(run.lease, [node("a:1")])
    await complete(store, run)

    await fail(store, *(await runs(store)).values())

    assert await states(store, "b", "c") == [F, W]
    assert (await one(store, "b")).failure.message.startswith("its parent a:1 in queue files failed")
    assert await store.audit() == []


async def test_fault_h13_a_second_attempt_doubles_no_children(store, clock):
    await flow(store, node("a", max_stalls=5), node("b", ["a"]))
    [lost] = (await runs(store, lease=1)).values()
    assert len(await store.branch(lost.lease, [node("a:1"), node("a:2")])) == 2
    clock.advance(2)
    await store.recover()

    assert await store.branch(lost.lease, [node("a:3")]) is None
    claimed = await runs(store)
    again = await store.branch(claimed["a"].lease, [node("a:1"), node("a:2"), node("a:3")])

    assert [one.created for one in again] == [False, False, True]
    assert await tally(store) == (5, 0, 0, 0)
    assert len(await store.parents("files", "b")) == 4
    await complete(store, *claimed.values())
    assert await run_all(store) == ["a:3", "b"]
    assert await tally(store) == (5, 5, 0, 0)
    assert await store.audit() == []


async def test_added_jobs_may_wait_for_one_another(store):
    await flow(store, node("a"), node("b", ["a"]))
    [run] = (await runs(store)).values()

    await store.branch(run.lease, [node("a:1"), node("a:2", ["a:1", "a"])])

    assert await states(store, "a:1", "a:2") == [W, B]
    await complete(store, run)
    assert await run_all(store) == ["a:1", "a:2", "b"]
    assert await store.audit() == []


async def test_a_run_outside_of_flows_adds_plain_jobs_under_its_lease(store, add, clock):
    await add(id="plain", max_stalls=5)
    [run] = (await runs(store, lease=1)).values()

    [child] = await store.branch(run.lease, [node("plain:1")])
    clock.advance(2)
    await store.recover()

    assert child.job.state is W
    assert (await one(store, "plain:1")).flow is None
    assert await store.branch(run.lease, [node("plain:2")]) is None
    [again] = (await runs(store, limit=1)).values()
    with pytest.raises(OptionError, match="in no flow"):
        await store.branch(again.lease, [node("plain:3", ["plain"])])
    assert await states(store, "plain:2", "plain:3") == [None, None]
    assert await store.audit() == []


# --- as one thing ------------------------------------------------------------------------


async def test_a_flow_is_seen_as_one_thing(store, clock):
    await flow(store, node("a"), node("b", ["a"]), id="order-17")
    made = await record(store, "order-17")
    assert (made.kind, made.state, made.total, made.unended, made.progress) == ("flow", "running", 2, 2, 0)
    assert made.added_us == (await one(store, "a")).added_us
    clock.advance(1)

    await complete(store, *(await runs(store)).values())
    assert (await record(store, "order-17")).progress == 0.5
    assert (await record(store, "order-17")).ended_us is None
    clock.advance(1)
    await complete(store, *(await runs(store)).values())

    ended = await record(store, "order-17")
    assert (ended.state, ended.completed, ended.progress) == (FlowState.COMPLETED, 2, 1)
    assert ended.ended_us == (await one(store, "b")).ended_us


async def test_flows_are_listed_page_by_page_latest_first(store, clock):
    for number in range(5):
        await flow(store, node(f"job-{number}"), id=f"flow-{number}")
        clock.advance(1)
    await store.cancel_flow("flow-3")

    first = await store.flows(limit=2)
    second = await store.flows(limit=2, after=first.cursor)
    third = await store.flows(limit=2, after=second.cursor)
    named = await store.flows(["flow-2", "nobody", "flow-0"])
    unended = await store.flows(unended=True)

    assert [one.id for one in first.flows + second.flows + third.flows] == [f"flow-{n}" for n in (4, 3, 2, 1, 0)]
    assert third.cursor is None
    assert [one.id for one in named.flows] == ["flow-2", "flow-0"]
    assert [one.id for one in unended.flows] == [f"flow-{n}" for n in (4, 2, 1, 0)]
    with pytest.raises(OptionError, match="cursor"):
        await store.flows(after="no cursor of ours")


async def test_the_jobs_of_a_flow_are_listed_page_by_page(store, add):
    await add(id="plain")
    await flow(store, *(node(f"job-{n}", queue="files" if n % 2 else "other") for n in range(5)), node("x", ["job-1"]))
    await complete(store, *(await runs(store, queues=["other"])).values())

    first = await store.flow_jobs("flow", limit=4)
    second = await store.flow_jobs("flow", limit=4, after=first.cursor)

    assert [job.id for job in first.jobs + second.jobs] == ["job-0", "job-1", "job-2", "job-3", "job-4", "x"]
    assert second.cursor is None
    assert [job.id for job in (await store.flow_jobs("flow", states=[C])).jobs] == ["job-0", "job-2", "job-4"]
    assert [job.id for job in (await store.flow_jobs("flow", states=[B, W])).jobs if job.queue == "files"] == [
        "job-1", "job-3", "x",
    ]  # fmt: skip
    assert (await store.flow_jobs("nobody")).jobs == []
    with pytest.raises(OptionError, match="cursor"):
        await store.flow_jobs("flow", after="no cursor of ours")


async def test_the_record_goes_a_day_after_the_end_and_not_before_its_last_job(store, clock):
    rules = {"files": Retention(completed_for=3 * 86_400)}
    await flow(store, node("a"), node("b", ["a"]))
    await run_all(store)
    await flow(store, node("c", keep_for=0), id="short")
    await complete(store, *(await runs(store)).values(), keep=0)
    await flow(store, node("d"), id="unended")
    clock.advance(86_000)
    await store.clear(rules)
    assert {one.id for one in (await store.flows()).flows} == {"flow", "short", "unended"}

    clock.advance(1000)
    await store.clear(rules)
    assert {one.id for one in (await store.flows()).flows} == {"flow", "unended"}
    assert await store.audit() == []

    clock.advance(3 * 86_400)
    await store.clear(rules)
    await store.clear(rules)
    assert {one.id for one in (await store.flows()).flows} == {"unended"}
    assert await states(store, "a", "b", "d") == [None, None, W]
    assert await store.audit() == []


async def test_an_id_can_be_used_again_when_the_flow_has_gone(store, clock):
    await flow(store, node("a"), node("b", ["a"]))
    await run_all(store)
    clock.advance(40 * 86_400)
    await store.clear({})
    await store.clear({})

    assert [job.state for job in await flow(store, node("a"), node("b", ["a"]))] == [W, B]

    assert await run_all(store) == ["a", "b"]
    assert await store.audit() == []


async def test_jobs_follow_a_flow_that_was_completed(store):
    await flow(
        store, node("a"), node("b", ["a"]),
        completed=NewJob("done", "files", "tell"), settled=NewJob("over", "other", "tell", '{"x":1}', priority=3),
    )  # fmt: skip
    made = await record(store)
    assert (made.completed_job, made.settled_job) == (("files", "done"), ("other", "over"))
    assert (made.completed_added, made.settled_added) == (False, False)

    assert await run_all(store) == ["a", "b", "done"]

    over = await one(store, "over", "other")
    assert (over.state, over.data, over.priority, over.flow) == (W, {"x": 1}, 3, None)
    assert await tally(store) == (2, 2, 0, 0)
    ended = await record(store)
    assert (ended.completed_added, ended.settled_added) == (True, True)
    assert await store.audit() == []


async def test_no_job_of_a_flow_is_packed_while_it_is_blocked(store):
    await flow(store, node("a"), node("b", ["a"]))

    assert await store.pack("files", B) == []


async def test_fault_q07_a_thousand_children_on_three_levels_are_released_exactly_once(store):
    middle = [node(f"m-{n}", ["top"]) for n in range(1000)]
    ends = [node("end", [f"m-{n}" for n in range(1000)], on_failure="ignore"), node("last", ["end"])]
    await flow(store, node("top"), *middle, *ends)
    before = await latest(store)
    await complete(store, *(await runs(store)).values())
    assert await figures(store) == {"waiting": 1000, "blocked": 2, "completed": 1}
    await store.cancel(Selection("files", ids=("m-3",)))
    await store.remove(Selection("files", ids=("m-4",)))
    while claimed := await runs(store, limit=300):
        if "end" in claimed:
            break
        failed = [job for job in claimed.values() if job.id.endswith("7")]
        await fail(store, *failed)
        await complete(store, *(job for job in claimed.values() if job not in failed))

    assert list(claimed) == ["end"]
    assert await kinds(store, "end", after=before) == ["waiting", "active"]
    assert len(await store.parents("files", "end")) == 1000
    await complete(store, *claimed.values())
    assert await run_all(store) == ["last"]
    assert await tally(store) == (1003, 901, 100, 2)
    assert await store.audit() == []


async def test_three_hundred_jobs_in_a_row_fail_in_one_step(store):
    await flow(store, node("job-0"), *(node(f"job-{n}", [f"job-{n - 1}"]) for n in range(1, 300)))

    await fail(store, *(await runs(store)).values())

    assert await figures(store) == {"failed": 300}
    assert await tally(store) == (300, 0, 300, 0)
    assert await store.audit() == []


async def test_a_worker_that_waits_hears_of_children(store):
    await flow(store, node("a"), node("b", ["a"], queue="other"))
    [run] = (await runs(store)).values()
    assert await store.claim([Want("other")], limit=1, worker="w", lease=30) == []

    await asyncio.gather(store.wait(["other"], seconds=20), complete(store, run))

    assert list(await runs(store, queues=["other"])) == ["b"]


# --- beside keys -------------------------------------------------------------------------


async def test_a_child_with_a_key_joins_the_line_of_its_key_when_its_parents_have_ended(store):
    await store.limit("files", Limits(key_concurrency=1))
    await store.add([NewJob("first", "files", "resize", key="acme"), NewJob("second", "files", "resize", key="acme")])
    await flow(store, node("a", queue="other"), node("b", [Wait("other", "a", "a")], key="acme"))
    [state_of_key] = await store.keys("files", ["acme"])
    assert (state_of_key.waiting, state_of_key.blocked) == (1, 1)
    claimed = await runs(store, queues=["other", "files"])
    assert set(claimed) == {"a", "first"}

    await complete(store, claimed["a"])

    [state_of_key] = await store.keys("files", ["acme"])
    assert (state_of_key.active, state_of_key.waiting, state_of_key.blocked) == (1, 0, 2)
    assert await store.audit() == []
    await complete(store, claimed["first"])
    assert await run_all(store) == ["second", "b"]
    assert await store.audit() == []


async def test_jobs_with_keys_are_parents_as_any_others(store, clock):
    await store.limit("files", Limits(key_concurrency=1))
    parents = [node(f"p-{n}", key="acme", max_stalls=n % 2) for n in range(6)]
    await flow(store, *parents, node("c", [f"p-{n}" for n in range(6)], key="acme", on_failure="continue"))
    assert await figures(store) == {"waiting": 1, "blocked": 6}
    await store.cancel(Selection("files", ids=("p-5",)))
    await store.remove(Selection("files", ids=("p-4",)))
    [lost] = (await runs(store, lease=1)).values()
    clock.advance(2)
    await store.recover()
    assert await store.audit() == []

    order = await run_all(store)

    assert order[-1] == "c"
    assert sorted(order) == ["c", "p-1", "p-2", "p-3"]
    assert await state(store, lost.id) is F
    assert await tally(store) == (7, 4, 1, 2)
    [state_of_key] = await store.keys("files", ["acme"])
    assert (state_of_key.active, state_of_key.waiting, state_of_key.blocked) == (0, 0, 0)
    assert await store.audit() == []


async def test_a_flow_of_jobs_with_keys_is_cancelled_and_retried(store):
    await store.limit("files", Limits(key_concurrency=1))
    await flow(store, node("a", key="acme"), node("b", key="acme"), node("c", ["a", "b"], key="acme"), node("d", ["c"]))
    await runs(store)
    assert await store.cancel_flow("flow") == 4
    assert await store.audit() == []

    assert await store.retry_flow("flow") == 4

    assert await figures(store) == {"waiting": 1, "blocked": 3}
    assert await store.audit() == []
    assert sorted((await run_all(store))[:2]) == ["a", "b"]
    assert await tally(store) == (4, 4, 0, 0)
    assert await store.audit() == []


async def test_a_blocked_child_with_a_key_takes_no_place_in_its_line(store):
    await store.limit("files", Limits(key_concurrency=1))
    await flow(store, node("a"), node("b", ["a"], key="acme", priority=99), node("c", ["a"], key="acme"))
    await store.add([NewJob("free", "files", "resize", key="acme")])

    assert list(await runs(store)) == ["a", "free"]
    assert await store.cancel(Selection("files", ids=("b",))) == 1
    assert await store.remove(Selection("files", ids=("c",))) == 1
    assert await store.retry(Selection("files", ids=("b",))) == 1
    assert await figures(store) == {"active": 2, "blocked": 1}
    assert await store.audit() == []
