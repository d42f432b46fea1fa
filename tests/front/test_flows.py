"""Flows through the app: built, added as one, run by a worker, looked at, cancelled and retried as one."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from muskox import (
    ActiveJob,
    After,
    Fixed,
    Flow,
    FlowClosed,
    FlowNotFound,
    FlowState,
    JobState,
    Muskox,
    OptionError,
    SyncActiveJob,
    chain,
    group,
)
from muskox.testing import run_jobs
from tests.front import kin

B, C, F, W = JobState.BLOCKED, JobState.COMPLETED, JobState.FAILED, JobState.WAITING


@pytest.fixture
def ran(ox, emails):
    """Declares `work`, which notes what ran and returns its data, and raises where that says so."""
    order: list[str] = []

    @emails.processor("work")
    async def work(job: ActiveJob) -> object:
        order.append(job.id)
        if job.data == "raise":
            raise ValueError("on purpose")
        return job.data

    return order


async def test_a_flow_runs_in_its_order_and_hands_results_down(ox, emails):
    @emails.processor()
    async def resize(size: int) -> str:
        return f"{size}.jpg"

    @emails.processor()
    async def pack(job: ActiveJob) -> list[object]:
        parents = await job.parents()
        return [parents["small"].result, parents["large"].result, parents.results, len(parents)]

    flow = Flow("order-17")
    small = flow.add(resize.new(size=300))
    large = flow.add(emails, "resize", {"size": 1920})
    packed = flow.add(emails, "pack", after={"small": small, "large": large}, priority=5)
    jobs = await ox.flows.add(flow)

    assert [job.state for job in jobs] == [W, W, B]
    assert [job.flow for job in jobs] == ["order-17"] * 3
    assert (large.id, packed.id) == ("order-17/2", "order-17/3")
    await run_jobs(ox)
    assert (await emails.get(packed.id)).result == ["300.jpg", "1920.jpg", ["300.jpg", "1920.jpg"], 2]
    record = await ox.flows.get("order-17")
    assert (record.state, record.progress, record.completed) == (FlowState.COMPLETED, 1, 3)


async def test_a_chain_and_a_list_in_it(ox, emails, ran):
    parts = [emails.new("work", name, id=name) for name in "abcd"]

    await ox.flows.add(chain(parts[0], parts[1:3], parts[3], id="line"))
    await run_jobs(ox)

    assert ran == ["a", "b", "c", "d"]
    assert [one.name for one in await ox.flows.parents("email", "d")] == ["work-1", "work-2"]
    assert [one.id for one in await ox.flows.parents("email", "d")] == ["b", "c"]


async def test_a_group_calls_back_with_the_results(ox, emails, ran):
    @emails.processor()
    async def total(job: ActiveJob) -> int:
        return sum((await job.parents()).results)

    parts = [emails.new("work", number) for number in range(5)]

    *_, last = await ox.flows.add(group(parts, then=emails.new("total", id="total")))
    await run_jobs(ox)

    assert last.state is B
    assert (await emails.get("total")).result == 10


async def test_what_a_failed_parent_means_is_said_per_job_and_per_parent(ox, emails, ran):
    seen: dict[str, list[object]] = {}

    @emails.processor()
    async def after(job: ActiveJob) -> None:
        seen[job.id] = [(one.name, one.completed, one.failure and one.failure.message) for one in await job.parents()]

    flow = Flow("f")
    bad = flow.add(emails, "work", "raise", label="bad")
    good = flow.add(emails, "work", 1, label="good")
    flow.add(emails, "after", after=[bad, good], id="falls")
    flow.add(emails, "after", after=[bad, good], on_failure="continue", id="continues")
    flow.add(emails, "after", after=[bad, good], on_failure="ignore", id="ignores")
    flow.add(emails, "after", after=[After(bad, on_failure="ignore"), good], id="ignores one")
    await ox.flows.add(flow)
    await run_jobs(ox)

    assert seen == {
        "continues": [("bad", False, "on purpose"), ("good", True, None)],
        "ignores": [("bad", True, None), ("good", True, None)],
        "ignores one": [("bad", True, None), ("good", True, None)],
    }
    falls = await emails.get("falls")
    assert (falls.state, str(falls.failure)) == (
        F, "ParentFailed: its parent f/1 in queue email failed: ValueError: on purpose",
    )  # fmt: skip


async def test_bad_graphs_are_refused_when_they_are_made(ox, emails):
    flow, other = Flow("flow"), Flow("other")
    mine, its = flow.add(emails, "work"), other.add(emails, "work")

    for wrong, said in (
        (lambda: flow.add(emails, "work", after=its), "is in another flow"),
        (lambda: flow.add(emails, "work", after=["flow/1"]), "after takes what this flow's add returned, not str"),
        (lambda: flow.add(emails, "work", after=mine, on_failure="retry"), "fail, continue, ignore, not 'retry'"),
        (lambda: flow.add("email", "work"), "takes what a queue's new"),
        (lambda: flow.add(emails), "takes what a queue's new"),
        (lambda: flow.add(emails, ""), "job name"),
        (lambda: flow.add(emails.new("work"), attempts=3), "is made already"),
        (lambda: flow.add(emails, "work", label="x" * 300), "name of a parent"),
        (lambda: flow.add(emails, "work", attemps=3), "no option 'attemps'"),
        (lambda: Flow(""), "id of a flow or batch"),
        (lambda: After(emails), "After takes"),
        (lambda: chain([]), "a list in a chain needs at least one job"),
    ):
        with pytest.raises(OptionError, match=said):
            wrong()
    assert len(flow.jobs) == 1
    for empty in (Flow("x"), chain(), group([])):
        with pytest.raises(OptionError, match="needs at least one job"):
            await ox.flows.add(empty)
    assert (await ox.flows.list()).flows == []


async def test_jobs_that_wait_in_a_circle_cannot_be_added(ox, emails):
    flow = Flow("flow")
    first = flow.add(emails, "work", id="first")
    second = flow.add(emails, "work", after=first, id="second")
    first.waits.append(("second", second, second.waits[0][2]))

    with pytest.raises(OptionError, match="has a cycle: "):
        await ox.flows.add(flow)
    assert await emails.get("first") is None


async def test_two_jobs_of_one_id_cannot_be_added(ox, emails):
    flow = Flow("flow")
    flow.add(emails, "work", id="twin")
    flow.add(emails, "work", id="twin")

    with pytest.raises(OptionError, match="two jobs 'twin'"):
        await ox.flows.add(flow)


async def test_mission_a20_a_flow_with_an_id_is_added_once(ox, emails, ran):
    def made(more: int = 0) -> Flow:
        flow = Flow("order-17")
        first = flow.add(emails, "work", 1)
        for _ in range(1 + more):
            flow.add(emails, "work", 2, after=first)
        return flow

    await ox.flows.add(made())
    again = await ox.flows.add(made())
    assert [job.state for job in again] == [W, B]
    with pytest.raises(FlowClosed):
        await ox.flows.add(made(more=1))
    await run_jobs(ox)

    assert ran == ["order-17/1", "order-17/2"]
    assert [job.state for job in await ox.flows.add(made())] == [C, C]


async def test_a_flow_without_an_id_is_given_one(ox, emails):
    flow = Flow()
    first = flow.add(emails, "work")
    flow.add(emails, "work", after=first)
    assert first.id == ""

    jobs = await ox.flows.add(flow)

    assert [job.id for job in jobs] == [f"{flow.id}/1", f"{flow.id}/2"]
    assert first.id == jobs[0].id
    assert (await ox.flows.get(flow.id)).total == 2


async def test_a_flow_is_added_within_a_transaction_or_not_at_all(filed, url):
    emails = filed.queue("email")
    await filed.migrate()
    with closing(sqlite3.connect(Path(url.removeprefix("sqlite:///")))) as connection:
        for number in (1, 2):
            flow = Flow(f"flow-{number}")
            flow.add(emails, "work", after=flow.add(emails, "work"))
            connection.execute("BEGIN")
            jobs = filed.flows.sync.add(flow, within=connection)
            assert [job.state for job in jobs] == [W, B]
            connection.rollback() if number == 1 else connection.commit()

    assert [one.id for one in (await filed.flows.list()).flows] == ["flow-2"]
    assert await emails.get("flow-1/1") is None
    assert (await emails.get("flow-2/2")).state is B


async def test_a_whole_flow_is_retried_and_cancelled(ox, emails, ran):
    flow = Flow("flow")
    bad = flow.add(emails, "work", "raise", id="bad")
    flow.add(emails, "work", after=bad, id="next")
    await ox.flows.add(flow)
    await run_jobs(ox)
    assert (await ox.flows.get("flow")).state is FlowState.FAILED

    await emails.update("bad", "mended")
    assert await ox.flows.retry("flow") == 2
    await run_jobs(ox)
    assert ran == ["bad", "bad", "next"]
    assert (await ox.flows.get("flow")).state is FlowState.COMPLETED

    other = Flow("other")
    other.add(emails, "work", after=other.add(emails, "work"))
    await ox.flows.add(other)
    assert await ox.flows.cancel("other") == 2
    assert (await ox.flows.get("other")).state is FlowState.CANCELLED
    assert await ox.flows.cancel("other") == 0
    for verb in (ox.flows.cancel, ox.flows.retry, ox.flows.close):
        with pytest.raises(FlowNotFound, match="no flow or batch 'nobody'"):
            await verb("nobody")
    assert await ox.flows.get("nobody") is None


async def test_a_flow_and_its_jobs_are_listed(ox, emails):
    for number in range(3):
        flow = Flow(f"flow-{number}")
        flow.add(emails, "work", after=flow.add(emails, "work"))
        await ox.flows.add(flow)
    await ox.flows.cancel("flow-1")

    page = await ox.flows.list(limit=2)
    rest = await ox.flows.list(limit=2, after=page.cursor)

    assert [one.id for one in page.flows + rest.flows] == ["flow-2", "flow-1", "flow-0"]
    assert [one.id for one in (await ox.flows.list(unended=True)).flows] == ["flow-2", "flow-0"]
    assert [job.id for job in (await ox.flows.jobs("flow-0")).jobs] == ["flow-0/1", "flow-0/2"]
    assert [job.id for job in (await ox.flows.jobs("flow-0", "blocked")).jobs] == ["flow-0/2"]
    for wrong in ({"limit": 0}, {"limit": 1001}):
        with pytest.raises(OptionError, match="limit must be between"):
            await ox.flows.list(**wrong)


# --- from inside a run -------------------------------------------------------------------


async def test_a_run_adds_children_and_whoever_waits_for_it_waits_for_them(ox, emails, ran):
    @emails.processor()
    async def split(job: ActiveJob) -> str:
        first = await job.add_child(emails.new("work", 1))
        rest = await job.add_children(emails.new("work", number) for number in (2, 3))
        assert [one.flow for one in (first, *rest)] == ["flow"] * 3
        return "split"

    @emails.processor()
    async def total(job: ActiveJob) -> list[object]:
        return sorted(one.result for one in await job.parents() if one.name != "split")

    flow = Flow("flow")
    last = flow.add(emails, "total", after=flow.add(emails, "split"))
    await ox.flows.add(flow)
    await run_jobs(ox)

    assert (await emails.get(last.id)).result == [1, 2, 3]
    assert (await ox.flows.get("flow")).total == 5


async def test_fault_h13_a_second_attempt_adds_no_child_twice_also_where_steps_are_left_out(ox, emails, ran):
    @emails.processor(attempts=3, backoff=Fixed(0))
    async def split(job: ActiveJob) -> None:
        async def first() -> str:
            return (await job.add_child(emails.new("work", "a"))).id

        await job.step("first", first)
        for data in ("b", "b", "c"):
            await job.add_child(emails.new("work", data))
        await job.add_child(emails.new("work", f"in attempt {job.attempt}"), id=f"{job.id}/clock")
        if job.attempt < 3:
            raise ValueError("on purpose")

    flow = Flow("flow")
    flow.add(emails, "split", id="split")
    await ox.flows.add(flow)
    ended = await run_jobs(ox)

    assert sorted(job.data for job in ended if job.name == "work") == ["a", "b", "b", "c", "in attempt 1"]
    assert (await ox.flows.get("flow")).total == 6


async def test_a_run_in_no_flow_adds_jobs_too(ox, emails, ran):
    @emails.processor()
    async def split(job: ActiveJob) -> list[object]:
        for wrong in (lambda: job.add_child("work"), lambda: job.add_children([("work", 1)])):
            with pytest.raises(OptionError, match="made by a queue's new"):
                await wrong()
        return [(await job.add_child(emails.new("work", 1))).flow, len(await job.parents())]

    await emails.add("split", id="split")
    await run_jobs(ox)

    assert (await emails.get("split")).result == [None, 0]
    assert len(ran) == 1


@pytest.mark.parametrize("way", ["thread", "isolated", "isolated async"])
async def test_other_kinds_of_processors_see_parents_and_add_children_too(ox, emails, ran, way):
    if way == "thread":

        @emails.processor("split")
        def split(job: SyncActiveJob) -> list[object]:
            return kin.split(job)
    elif way == "isolated":
        emails.processor("split", isolated=True)(kin.split)
    else:
        emails.processor("split", isolated=True)(kin.async_split)
    flow = Flow("flow")
    split_job = flow.add(emails, "split", after=flow.add(emails, "work", 7), id="split")
    flow.add(emails, "work", "last", after=split_job, id="last")
    await ox.flows.add(flow)

    await run_jobs(ox)

    assert (await emails.get("split")).result == [[7], "named", 2]
    assert ran[-1] == "last"
    assert (await ox.flows.get("flow")).total == 6


async def test_fault_s04_an_error_that_has_no_text_reaches_children_as_text_only(ox, emails, ran):

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @emails.processor()
    async def odd() -> None:
        raise Odd(object())

    flow = Flow("flow")
    flow.add(emails, "work", after=flow.add(emails, "odd"), id="child")
    await ox.flows.add(flow)
    await run_jobs(ox)

    child = await emails.get("child")
    assert child.failure.type == "ParentFailed"
    assert "its text cannot be had" in child.failure.message


async def test_blocking_code_has_the_same_verbs(filed: Muskox):
    emails = filed.queue("email")
    flows = filed.flows.sync
    flow = Flow("flow")
    flow.add(emails, "work", after=flow.add(emails, "work"))

    def block() -> list[object]:
        jobs = flows.add(flow)
        return [
            [job.state for job in jobs],
            flows.get("flow").total,
            len(flows.list().flows),
            len(flows.jobs("flow").jobs),
            flows.parents("email", "flow/2")[0].id,
            flows.cancel("flow"),
            flows.retry("flow"),
            flows.close("flow").state,
        ]

    assert await asyncio.to_thread(block) == [[W, B], 2, 1, 2, "flow/1", 2, 2, FlowState.RUNNING]
