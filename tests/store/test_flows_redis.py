"""Flows and batches on Redis: they last, large ones are one step each, cost little, and leave nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.flows import FlowJob, FlowKind, FlowState, NewFlow, OnFailure, Wait
from muskox.core.job import JobState, NewJob
from muskox.store.protocol import Selection
from tests.servers.valkey import fresh_prefix, running, shared_server
from tests.store.flowing import complete, fail, fill, flow, node, record, run_all, runs, tally
from tests.store.reading import figures, state
from tests.store.test_faults_redis import opened

DONE, OVER = NewJob("done", "ends", "tell"), NewJob("over", "ends", "tell")
MOST = 2000


def kept(server, prefix):
    """The names of all keys of a store."""
    mark = f"{{{prefix}}}:"
    return {name.decode().removeprefix(mark) for name in server.tell("KEYS", f"{mark}*")}


def calls(server):
    """How often each command was called since the last time."""
    told = server.tell("INFO", "commandstats")
    server.tell("CONFIG", "RESETSTAT")
    return {name.removeprefix("cmdstat_"): its["calls"] for name, its in told.items() if name != "cmdstat_info"}


# --- lasting -------------------------------------------------------------------------------


async def test_flows_and_batches_last_over_a_restart_and_the_loss_of_all_scripts(clock):
    prefix = fresh_prefix()
    with running("--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server, clock, prefix=prefix) as store:
            await flow(store, node("a"), node("b"), node("c", ["a", "b"]), node("d", ["c"]), completed=DONE)
            await fill(store, ["x", "y"], settled=OVER)
            claimed = await runs(store)
            await complete(store, claimed["a"], result='{"size":7}')
            await complete(store, claimed["x"])
            before = (await store.flows()).flows, await store.parents("files", "c")

            server.kill()
            server.start()
        async with opened(server, clock, prefix=prefix) as store:
            assert ((await store.flows()).flows, await store.parents("files", "c")) == before
            await complete(store, claimed["b"], claimed["y"])
            assert await state(store, "c") is JobState.WAITING
            server.tell("SCRIPT", "FLUSH")
            assert await run_all(store) == ["c", "d"]
            server.tell("SCRIPT", "FLUSH")
            await store.close_flow("batch")
            assert [job.id for job in await store.get("ends", ["done", "over"])] == ["done", "over"]
            assert await store.audit() == []


async def test_scripts_that_are_flushed_between_all_steps_change_nothing(clock):
    server = shared_server()
    async with opened(server, clock) as store:
        stop = asyncio.Event()

        async def flush():
            while not stop.is_set():
                server.tell("SCRIPT", "FLUSH")
                await asyncio.sleep(0)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(flush())
            await flow(store, node("a"), node("b", ["a"]), node("c", ["b"]), open=True)
            [run] = (await runs(store)).values()
            assert len(await store.branch(run.lease, [node("a:1")])) == 1
            await complete(store, run)
            await fail(store, *(await runs(store)).values())
            assert await store.retry_flow("flow") == 3
            assert await run_all(store) == ["a:1", "b", "c"]
            assert (await store.close_flow("flow")).state is FlowState.COMPLETED
            assert await store.cancel_flow("flow") == 0
            assert len((await store.flow_jobs("flow")).jobs) == 4
            assert [parent.id for parent in await store.parents("files", "b")] == ["a", "a:1"]
            stop.set()

        assert await tally(store) == (4, 4, 0, 0)
        assert await store.audit() == []


# --- large ones ----------------------------------------------------------------------------


async def test_a_large_flow_is_one_step_to_add_to_release_to_fail_to_retry_and_to_cancel(clock):
    middle = [node(f"m-{n}", ["top"], queue=("files", "other")[n % 2]) for n in range(MOST)]
    waits = [Wait(one.job.queue, one.job.id, one.job.id, OnFailure.FAIL) for one in middle]
    with running() as server:
        async with opened(server, clock) as store:
            calls(server)

            await flow(store, node("top"), *middle, node("end", waits))
            await fail(store, *(await runs(store)).values())
            assert await tally(store) == (MOST + 2, 0, MOST + 2, 0)
            assert await store.retry_flow("flow", limit=10) == MOST + 2
            await complete(store, *(await runs(store)).values())
            assert await figures(store, "other") == {"waiting": MOST / 2}
            assert await store.cancel_flow("flow", limit=MOST + 2) == MOST + 1

            asked = calls(server)
            assert asked.get("evalsha", 0) + asked.get("eval", 0) <= 2 * 10
            assert await tally(store) == (MOST + 2, 1, 0, MOST + 1)
            assert await store.audit() == []


async def test_a_large_batch_is_cancelled_and_retried_without_looking_at_its_beginning_again(clock):
    with running() as server:
        async with opened(server, clock) as store:
            await fill(store, [f"job-{n}" for n in range(1000)])
            for verb in (store.cancel_flow, store.retry_flow):
                calls(server)
                costs = []
                for _ in range(10):
                    assert await verb("batch", limit=100) == 100
                    costs.append(calls(server)["hget"])
                assert await verb("batch", limit=100) == 0
                assert max(costs) < 2 * min(costs)

            assert await tally(store, "batch") == (1000, 0, 0, 0)
            assert await store.audit() == []


# --- what it costs -------------------------------------------------------------------------


async def test_a_job_that_is_in_no_flow_costs_what_it_does_where_there_are_none():
    with running() as server:
        costs = []
        for flows in (0, 1):
            async with opened(server) as store:
                for _ in range(flows):
                    await flow(store, node("a", queue="other"), node("b", [Wait("other", "a", "a")], queue="other"))
                await store.add([NewJob("first", "files", "resize")])
                await complete(store, *(await runs(store)).values())
                calls(server)
                await store.add([NewJob("plain", "files", "resize")])
                await complete(store, *(await runs(store)).values())
                asked = calls(server)
                costs.append({name: number for name, number in asked.items() if name[0] in "hlrz"})

        assert costs[0] == costs[1]


async def test_what_a_settlement_costs_a_batch_has_nothing_to_do_with_how_many_it_settles():
    with running() as server:
        async with opened(server) as store:
            await fill(store, [f"job-{n}" for n in range(400)])
            costs = []
            for limit in (10, 300):
                claimed = await runs(store, limit=limit)
                calls(server)
                await complete(store, *claimed.values())
                asked = calls(server)
                costs.append(sum(asked[name] for name in asked.keys() & {"hget", "hset", "hincrby", "rpush"}))

            assert costs[0] == costs[1]
            assert await tally(store, "batch") == (400, 310, 0, 0)


# --- leaving nothing -----------------------------------------------------------------------


async def test_nothing_of_a_flow_is_left_when_it_has_gone(clock):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, clock, prefix=prefix) as store:
        await store.add([NewJob("plain", "files", "resize")])
        before = kept(server, prefix)
        await flow(store, node("a"), node("b", ["a"]), node("c", ["b"]), completed=DONE, settled=OVER)
        await fill(store, ["x", "y"], more=False, completed=NewJob("late", "ends", "tell"))
        await run_all(store, ["files", "ends"])
        assert {name.partition(":")[0] for name in kept(server, prefix)} >= {"flows", "nodes", "followers", "flow-jobs"}

        clock.advance(40 * 86_400)
        await store.clear({})

        flowing = {name for name in kept(server, prefix) - before if name.startswith(("flow", "nodes", "blocked"))}
        assert flowing == set()
        assert await store.audit() == []


@pytest.mark.parametrize("way", ["completed and not kept", "removed"])
async def test_the_list_of_an_open_batch_does_not_grow_with_jobs_that_have_gone(way, clock):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, clock, prefix=prefix) as store:
        for piece in range(20):
            await fill(store, [f"{piece}-{n}" for n in range(10)])
            if way == "removed":
                await store.remove(Selection("files", states=(JobState.WAITING,)))
            else:
                await complete(store, *(await runs(store)).values(), keep=0)

        assert server.tell("LLEN", f"{{{prefix}}}:flow-jobs:batch") == 0
        await fill(store, ["last"])
        assert [job.id for job in (await store.flow_jobs("batch")).jobs] == ["last"]
        assert (await record(store, "batch")).total == 201
        assert await store.audit() == []


async def test_a_job_that_was_removed_and_added_again_is_listed_once(clock):
    async with opened(shared_server(), clock) as store:
        for _ in range(3):
            await store.grow(NewFlow("batch", FlowKind.BATCH, open=True), [FlowJob(NewJob("a", "files", "mail"))])
            await fill(store, ["first"])
            assert await store.remove(Selection("files", ids=("a",))) == 1
            clock.advance(1)
        await fill(store, ["a"])

        assert [job.id for job in (await store.flow_jobs("batch")).jobs] == ["first", "a"]
        assert await tally(store, "batch") == (5, 0, 0, 3)
        assert await store.cancel_flow("batch") == 2
        assert await store.audit() == []
