"""Workers on a Redis server that is killed, frozen, cut off or replaced: they go on by themselves, and lose nothing."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from muskox import JobState, Muskox
from muskox.core.errors import StoreError
from muskox.runtime.world import RealWorld
from tests.proxy import Proxy
from tests.runtime.helpers import LIMIT, until
from tests.servers.valkey import HOST, Server, running, valkey_binary

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
EVERY_SECOND = ("--appendonly", "yes", "--appendfsync", "everysec")


class Herd:
    """An app, its jobs, how often each ran, and what the store tells of their ends."""

    def __init__(self, url, *, world=None):
        self.ox = Muskox(url, world=world or RealWorld())
        self.queue = self.ox.queue("herd")
        self.runs = Counter()
        self.added = set()

        @self.queue.processor("tread", max_stalls=20)
        async def tread(index: int, pause: float) -> None:
            await asyncio.sleep(pause)
            self.runs[index] += 1

    async def add(self, count, *, pause=0.002):
        """Add jobs until they are there, as a program does that says an add again which had no answer."""
        first = len(self.added)
        jobs = [self.queue.new("tread", {"index": index, "pause": pause}) for index in range(first, first + count)]
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    await self.queue.add_many(jobs)
                    break
                except StoreError:
                    await asyncio.sleep(0.05)
        self.added.update(range(first, first + count))

    async def completed(self):
        """How many are; 0 while the store gives no answer."""
        try:
            return (await self.queue.counts()).states[JobState.COMPLETED]
        except StoreError:
            return 0

    async def all_completed(self):
        """Whether all that the store has are; False while it gives no answer."""
        try:
            counts = await self.queue.counts()
        except StoreError:
            return False
        return counts.states[JobState.COMPLETED] == counts.total > 0

    async def finish(self):
        """Wait until all are completed."""
        async with asyncio.timeout(2 * LIMIT):
            while await self.completed() < len(self.added):  # noqa: ASYNC110 - a server of a test's own sets no event
                await asyncio.sleep(0.02)

    async def check(self):
        """All ran, each was completed once, and the store is sound."""
        assert set(self.runs) == self.added
        told, offset = Counter(), 0
        store = await self.ox.store()
        while page := await store.events(after=offset):
            told.update(event.job_id for event in page if event.kind == "completed")
            offset = page[-1].offset
        assert set(told.values()) == {1}
        assert len(told) == len(self.added)
        assert await self.ox.audit() == []


@asynccontextmanager
async def herd_on(url, jobs=300, **worker):
    """A herd that is at work."""
    herd = Herd(url)
    async with herd.ox:
        await herd.add(jobs)
        async with herd.ox.worker(concurrency=10, poll=0.2, **worker):
            await until(lambda: len(herd.runs) > jobs // 10)
            yield herd


async def test_fault_r01_a_server_that_is_killed_and_started_again_loses_nothing_it_wrote_down():
    with running(*ALWAYS) as server:
        async with herd_on(f"{server.url}?timeout=2") as herd:
            for _ in range(2):
                server.kill()
                server.start()
                await herd.add(100)
            await herd.finish()
        async with herd.ox:
            await herd.check()


async def test_fault_r01_a_server_that_writes_every_second_loses_the_end_at_most_and_nothing_is_half_moved():
    # It puts off writing while its disk is busy, for up to two seconds; what it had answered meanwhile is forgotten.
    with running(*EVERY_SECOND) as server:
        async with herd_on(f"{server.url}?timeout=2", lease=3) as herd:
            server.kill()
            server.start()
            async with asyncio.timeout(2 * LIMIT):
                while not await herd.all_completed():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
            assert await herd.ox.audit() == []


async def test_fault_r03_a_server_that_comes_back_empty_gets_new_work_done():
    with running() as server:
        async with herd_on(f"{server.url}?timeout=2") as herd:
            server.kill()
            server.start()
            herd.added.clear()
            herd.runs.clear()
            await herd.add(50)
            await herd.finish()
            assert set(herd.runs) >= herd.added
            assert await herd.ox.audit() == []


async def test_fault_r05_scripts_that_are_flushed_under_load_are_no_trouble(caplog):
    with running() as server:
        async with herd_on(server.url) as herd:
            for _ in range(50):
                server.tell("SCRIPT", "FLUSH")
                await asyncio.sleep(0)
                await herd.add(2)
            await herd.finish()
            await herd.check()
    assert "the store failed" not in caplog.text


@pytest.mark.parametrize("what", ["clients killed", "paused", "asleep", "frozen"])
async def test_fault_r13_a_server_that_is_deaf_for_a_while_is_waited_for(what):
    with running("--enable-debug-command", "yes") as server:
        async with herd_on(f"{server.url}?timeout=1", lease=30) as herd:
            match what:
                case "clients killed":
                    for _ in range(10):
                        server.tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                        server.tell("CLIENT", "KILL", "TYPE", "pubsub")
                        await herd.add(5)
                case "paused":
                    server.tell("CLIENT", "PAUSE", 2500, "ALL")
                case "asleep":
                    await asyncio.to_thread(server.tell, "DEBUG", "SLEEP", 2.5)
                case "frozen":
                    server.freeze()
                    await herd.ox.world.sleep(2.5)
                    server.thaw()
            await herd.add(50)
            await herd.finish()
            await herd.check()


async def test_fault_n03_a_worker_behind_a_black_hole_goes_on_when_it_is_gone():
    with running() as server, Proxy(HOST, server.port) as proxy:
        async with herd_on(f"redis://{proxy.address}?timeout=1", lease=30) as herd:
            proxy.black_hole()
            await herd.ox.world.sleep(3)
            proxy.heal()
            await herd.add(50)
            await herd.finish()
            await herd.check()


async def test_fault_n08_a_worker_on_a_flapping_network_gets_its_work_done():
    with running() as server, Proxy(HOST, server.port) as proxy:
        async with herd_on(f"redis://{proxy.address}?timeout=1", jobs=600, lease=30) as herd:
            for _ in range(5):
                proxy.refuse()
                proxy.cut()
                await herd.ox.world.sleep(0.3)
                proxy.refuse(False)
                await herd.ox.world.sleep(0.3)
            await herd.finish()
            await herd.check()
            # A worker has some ten duties that ask the store; each may try again now and then.
            assert proxy.refused < 300


async def test_fault_n01_a_worker_on_a_slow_and_uneven_network_stalls_nothing():
    with running() as server, Proxy(HOST, server.port) as proxy:
        herd = Herd(f"redis://{proxy.address}?timeout=10")
        async with herd.ox:
            await herd.add(200)
            proxy.delay, proxy.jitter = 0.05, 0.3
            async with herd.ox.worker(concurrency=20, poll=0.2, lease=10):
                await herd.finish()
            proxy.heal()
            await herd.check()
    assert set(herd.runs.values()) == {1}


async def test_fault_t01_a_worker_whose_clock_is_an_hour_off_works_like_the_others():
    class Late(RealWorld):
        def now(self):
            return super().now() - 3600

    class Early(RealWorld):
        def now(self):
            return super().now() + 3600

    with running() as server:
        late, early = Herd(server.url, world=Late()), Herd(server.url, world=Early())
        async with late.ox, early.ox:
            await late.add(200)
            async with late.ox.worker(concurrency=5), early.ox.worker(concurrency=5):
                await late.finish()
            early.runs.update(late.runs)
            early.added = late.added
            await early.check()
    assert set(early.runs.values()) == {1}


async def test_fault_r14_a_worker_that_was_idle_for_long_picks_a_job_up_although_its_lines_died_in_silence(monkeypatch):
    monkeypatch.setattr("muskox.store.redis.hub.BEAT", 0.3)
    with running() as server, Proxy(HOST, server.port) as proxy:
        herd = Herd(f"redis://{proxy.address}?timeout=1")
        async with herd.ox, herd.ox.worker(concurrency=5, poll=0.2):
            await herd.add(1)
            await herd.finish()
            proxy.half_open()
            await herd.add(10)
            await herd.finish()
            await herd.check()


async def test_an_idle_worker_hears_of_jobs_after_ten_seconds_of_silence():
    """The driver's own patience with a silent line is five seconds, after which it would have closed it."""
    with running() as server:
        herd = Herd(server.url)
        async with herd.ox, herd.ox.worker(concurrency=5, poll=30):
            await herd.ox.world.sleep(11)
            await herd.add(1)
            await herd.finish()


# --- Sentinel ------------------------------------------------------------------------------


@asynccontextmanager
async def watched():
    """A primary, a replica and a Sentinel that watches them; gives the Sentinel and the two."""
    with running() as primary, running("--replicaof", HOST, str(primary.port)) as replica:
        sentinel = Server(valkey_binary())
        config = sentinel.folder / "sentinel.conf"
        config.write_text(
            f"port {sentinel.port}\nbind {HOST}\ndir {sentinel.folder}\n"
            f"sentinel monitor main {HOST} {primary.port} 1\nsentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        sentinel.process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [str(sentinel.binary), str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            await until(sentinel.answers)
            await until(lambda: sentinel.tell("SENTINEL", "REPLICAS", "main"))
            await until(lambda: replica.tell("INFO", "replication")["master_link_status"] == "up")
            yield sentinel, primary, replica
        finally:
            sentinel.stop()


@pytest.mark.parametrize("how", ["asked", "killed"])
async def test_fault_r06_a_worker_follows_the_sentinels_to_the_new_primary(how):
    async with watched() as (sentinel, primary, replica):  # noqa: SIM117 - the URL is known then
        async with herd_on(f"redis+sentinel://{HOST}:{sentinel.port}/main?timeout=2") as herd:
            primary.tell("WAIT", 1, 2000)
            if how == "asked":
                # It has to have heard from the replica lately to think it fit.
                await until(lambda: _failed_over(sentinel))
            else:
                primary.kill()
            await until(lambda: replica.tell("INFO", "replication")["role"] == "master", 60)
            await herd.add(100)
            await herd.finish()
            assert set(herd.runs) == herd.added
            assert await herd.ox.audit() == []


def _failed_over(sentinel):
    try:
        return sentinel.tell("SENTINEL", "FAILOVER", "main")
    except Exception:  # noqa: BLE001 - NOGOODSLAVE until it has looked around
        return False
