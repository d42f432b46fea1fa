"""Limits and keys on Redis: they last, cost nothing where there are none, little where there are, and leave nothing."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.job import JobState, NewJob, Retention
from muskox.core.life import Complete, Hold, Release
from muskox.core.limits import NO_LIMITS, KeyLimits, Limits, Rate
from muskox.store.protocol import Selection, Want
from tests.servers.valkey import fresh_prefix, running, shared_server
from tests.store.reading import figures, state
from tests.store.test_faults_redis import opened

FILES = [Want("files")]
LIMIT = 30
OF_KEYS = ("keys:", "key-", "blocked:", "limits")


def keyed(*names, key="acme", **fields):
    return [NewJob(name, "files", "resize", key=key, **fields) for name in names]


async def claim(store, limit=5):
    return await store.claim(FILES, limit=limit, worker="w", lease=30)


def left_of_keys(server, prefix):
    """What is kept of keys and limits in a store, by the names of the server's keys."""
    mark = f"{{{prefix}}}:"
    names = [name.decode().removeprefix(mark) for name in server.tell("KEYS", f"{mark}*")]
    return [name for name in names if name.startswith(OF_KEYS)]


def calls(server):
    """How often each command was called since the last time."""
    told = server.tell("INFO", "commandstats")
    server.tell("CONFIG", "RESETSTAT")
    return {name.removeprefix("cmdstat_"): its["calls"] for name, its in told.items() if name != "cmdstat_info"}


# --- lasting -------------------------------------------------------------------------------


async def test_limits_buckets_and_holds_last_over_a_restart_and_the_loss_of_all_scripts(clock):
    prefix = fresh_prefix()
    with running("--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server, clock, prefix=prefix) as store:
            await store.limit("files", Limits(rate=Rate(1, per=10, burst=3), concurrency=9, key_concurrency=1))
            await store.limit_key("files", "other", KeyLimits(concurrency=2, weight=3))
            await store.add(keyed("a", "b", "c") + keyed("d", "e", key="other") + keyed("f", key="held"))
            await store.hold("files", 30, key="held")
            jobs = await claim(store)
            assert [job.id for job in jobs] == ["a", "d", "e"]
            before = await store.limits("files"), await store.keys("files")

            server.kill()
            server.start()
        async with opened(server, clock, prefix=prefix) as store:
            after = await store.limits("files"), await store.keys("files")

            assert after == before
            assert await claim(store) == []
            assert await store.settle([Complete(jobs[0].lease)]) == []
            clock.advance(10)
            assert [job.id for job in await claim(store)] == ["b"]
            server.tell("SCRIPT", "FLUSH")
            clock.advance(20)
            assert [job.id for job in await claim(store)] == ["f"]
            assert await store.audit() == []


async def test_scripts_that_are_flushed_between_all_steps_change_nothing(clock):
    server = shared_server()
    async with opened(server, clock) as store:
        await store.limit("files", Limits(key_concurrency=2, key_rate=Rate(2, per=1, burst=2)))
        await store.add(keyed(*(f"{number:02}" for number in range(9))))
        done = []
        for _ in range(9):
            server.tell("SCRIPT", "FLUSH")
            jobs = await claim(store)
            server.tell("SCRIPT", "FLUSH")
            assert await store.settle([Complete(job.lease) for job in jobs]) == []
            done += [job.id for job in jobs]
            clock.advance(0.5)

        assert done == [f"{number:02}" for number in range(9)]
        assert await store.audit() == []


# --- what it costs -------------------------------------------------------------------------


async def test_a_queue_without_limits_asks_for_none():
    with running() as server:
        async with opened(server) as store:
            await store.add([NewJob("a", "files", "resize")])
            calls(server)

            [job] = await claim(store)
            await store.settle([Complete(job.lease)])

            asked = calls(server)
            assert not asked.keys() & {"hexists", "hscan", "zrangebylex", "zrangebyscore", "zpopmin"}
            assert asked["hmget"] <= 5


@pytest.mark.parametrize("limits", [NO_LIMITS, Limits(key_concurrency=1), Limits(key_rate=Rate(1000, burst=5))])
async def test_what_a_claim_costs_has_nothing_to_do_with_how_many_keys_and_jobs_there_are(limits, clock):
    with running() as server:
        costs = []
        for keys, of_each in ((5, 3), (600, 3), (5, 200)):
            async with opened(server, clock) as store:
                await store.limit("files", limits)
                for key in range(keys):
                    await store.add(keyed(*(f"{key}-{number}" for number in range(of_each)), key=f"{key}"))
                calls(server)
                jobs = await claim(store)
                await store.settle([Complete(job.lease) for job in jobs])
                costs.append(sum(number for name, number in calls(server).items() if name != "config|resetstat"))

        # Some lines are longer than one piece, that is all.
        assert max(costs) <= min(costs) + 8


async def test_many_keys_are_looked_at_in_bounded_steps(clock):
    with running() as server:
        async with opened(server, clock) as store:
            await store.limit("files", Limits(key_concurrency=1))
            for key in range(2000):
                await store.add(keyed(f"{key}-0", f"{key}-1", key=f"{key}"))
            await store.limit("files", Limits(key_concurrency=2))
            calls(server)

            await claim(store, 1)

            assert calls(server)["zpopmin"] < 400
            while len(await claim(store, 1000)):
                pass
            assert await figures(store) == {"active": 4000}
            assert await store.audit() == []


# --- what is left --------------------------------------------------------------------------


async def test_a_key_without_jobs_leaves_nothing_behind(clock):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, clock, prefix=prefix) as store:
        await store.add(keyed(*(f"{number:02}" for number in range(40))))
        assert sorted(left_of_keys(server, prefix)) == [
            "blocked:files",
            "key-line:files:acme",
            "key-names:files",
            "keys:files",
        ]

        while jobs := await claim(store):
            await store.settle([Complete(job.lease) for job in jobs])

        assert left_of_keys(server, prefix) == []


async def test_a_key_is_forgotten_when_its_bucket_is_full_and_its_hold_is_over(clock):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, clock, prefix=prefix) as store:
        await store.limit("files", Limits(key_rate=Rate(1, per=10)))
        await store.add(keyed("a"))
        [job] = await claim(store)
        await store.settle([Complete(job.lease)])
        await store.hold("files", 20, key="other")
        clock.advance(9)
        await store.clear({})
        assert len(left_of_keys(server, prefix)) == 4

        clock.advance(1)
        await store.clear({})
        assert [key.key for key in await store.keys("files")] == ["other"]
        clock.advance(10)
        await store.clear({})

        assert left_of_keys(server, prefix) == ["limits"]
        assert await store.audit() == []


async def test_limits_that_are_taken_away_leave_nothing_to_look_for(clock):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, clock, prefix=prefix) as store:
        assert not await store.limit("files", NO_LIMITS, declared=True)
        assert left_of_keys(server, prefix) == []
        await store.limit("files", Limits(rate=Rate(5), concurrency=2, key_concurrency=1))
        await store.add(keyed("a", "b"))
        await store.hold("files", 5)
        await store.limit("files", NO_LIMITS)
        clock.advance(5)
        while jobs := await claim(store):
            await store.settle([Complete(job.lease) for job in jobs])
        await store.clear({"files": Retention(completed_most=0)})

        assert left_of_keys(server, prefix) == []
        assert server.tell("HGET", f"{{{prefix}}}:meta", "limited") is None


# --- hints ---------------------------------------------------------------------------------


ENOUGH = {
    "a higher limit": lambda store: store.limit("files", Limits(concurrency=2)),
    "the end of a hold": lambda store: store.hold("files", 0),
    "a higher limit of the key": lambda store: store.limit_key("files", "acme", KeyLimits(concurrency=2)),
    "the end of the key's hold": lambda store: store.hold("files", 0, key="acme"),
}


@pytest.mark.parametrize("done", ENOUGH.values(), ids=ENOUGH)
async def test_whoever_waits_hears_at_once_of(done):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, prefix=prefix) as store, opened(server, prefix=prefix) as another:
        await store.limit("files", Limits(concurrency=1, key_concurrency=1))
        await store.hold("files", 1000)
        assert await claim(store) == []
        waiting = asyncio.create_task(store.wait(["files"], seconds=LIMIT * 10))
        async with asyncio.timeout(LIMIT):
            await done(another)
            await waiting


async def test_a_wait_ends_when_more_may_start_by_the_rate():
    async with opened(shared_server()) as store:
        await store.limit("files", Limits(rate=Rate(1, per=0.2)))
        await store.add([NewJob(id, "files", "resize") for id in "abc"])
        started = []
        async with asyncio.timeout(LIMIT):
            while len(started) < 3:
                jobs = await claim(store)
                started += [job.id for job in jobs]
                if not jobs:
                    await store.wait(["files"], seconds=LIMIT * 10)

        assert started == ["a", "b", "c"]


# --- damage --------------------------------------------------------------------------------


async def test_a_blocked_job_whose_record_is_gone_stops_nobody(clock):
    server, prefix = shared_server(), fresh_prefix()
    async with opened(server, clock, prefix=prefix) as store:
        await store.limit("files", Limits(key_concurrency=1))
        await store.add(keyed("a", "b", "c"))
        [job] = await claim(store)
        server.tell("HDEL", f"{{{prefix}}}:jobs:files", "b")

        await store.settle([Complete(job.lease)])
        await store.settle([Complete(job.lease)])

        assert await state(store, "c") is JobState.WAITING


async def test_a_job_that_holds_its_key_comes_before_those_that_came_after_it(clock):
    async with opened(shared_server(), clock) as store:
        await store.limit("files", Limits(key_concurrency=3))
        await store.add(keyed("a", "b", "c", "d"))
        await store.limit("files", Limits(key_concurrency=1))
        [job] = await claim(store)
        await store.settle([Release(job.lease, 5, Hold.KEY)])
        clock.advance(5)
        order = []
        while jobs := await claim(store):
            order += [job.id for job in jobs]
            await store.settle([Complete(job.lease) for job in jobs])

        assert order == ["b", "c", "d", "a"]
        assert await store.audit() == []
        assert (await store.find(Selection("files", states=(JobState.BLOCKED,)))).jobs == []
