"""Faults of the network before PostgreSQL: delays, cuts in mid-answer, silence, flapping, and cancelled verbs."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import pytest

from muskox import ActiveJob, Fixed, Muskox
from muskox.core.errors import StoreUnavailable
from muskox.core.job import NewJob
from muskox.core.life import Complete
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Want
from tests.proxy import Proxy
from tests.runtime.helpers import ended, until
from tests.servers import postgres
from tests.store.reading import events, figures, one

LIMIT = 60
ANY = [Want("files")]


@pytest.fixture
def place():
    """A schema of its own on the shared server, reached directly."""
    with postgres.schema(postgres.direct(postgres.shared_url())) as url:
        yield url


@pytest.fixture
def proxy(place):
    port = int(place.rpartition(":")[2].partition("/")[0])
    with Proxy("127.0.0.1", port) as made:
        yield made


@pytest.fixture
def url(place, proxy):
    """The same through the proxy."""
    port = place.rpartition(":")[2].partition("/")[0]
    return place.replace(f":{port}/", f":{proxy.port}/") + "&patience=5"


@contextlib.asynccontextmanager
async def opened(url):
    store = open_store(url, RealWorld())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(url):
    async with opened(url) as made:
        yield made


def new(number, **fields):
    return NewJob(str(number), "files", "resize", **fields)


def says(word):
    """Whether a piece towards the server calls the function, or one of those named after it."""
    return lambda piece: f".{word}(".encode() in piece or f".{word}_".encode() in piece


# --- an answer that is lost ---------------------------------------------------------------


async def test_fault_p03_an_add_whose_answer_was_lost_is_said_again_and_made_once(store, proxy):
    await store.add([new("first")])
    proxy.lose_answer(says("add"))

    [added] = await store.add([new("a")])

    assert await asyncio.to_thread(proxy.was_cut)
    # It was stored by the first saying, so the second one found it there.
    assert (added.job.id, added.created) == ("a", False)
    assert await figures(store) == {"waiting": 2}
    assert [event.job_id for event in await events(store)] == ["first", "a"]
    assert await store.audit() == []


async def test_fault_p03_a_settlement_whose_answer_was_lost_is_written_once(store, proxy):
    await store.add([new("a")])
    [job] = await store.claim(ANY, limit=1, worker="w", lease=60)
    proxy.lose_answer(says("complete"))

    assert await store.settle([Complete(job.lease, '"done"')]) == []

    assert await asyncio.to_thread(proxy.was_cut)
    assert (await one(store, "a")).result == "done"
    assert [event.kind for event in await events(store)].count("completed") == 1


async def test_fault_p03_a_claim_whose_answer_was_lost_gives_the_same_jobs_under_its_ticket(store, proxy):
    await store.add([new(number) for number in range(5)])
    proxy.lose_answer(says("claim"))

    jobs = await store.claim(ANY, limit=3, worker="w", lease=60, ticket="1")

    assert await asyncio.to_thread(proxy.was_cut)
    assert [job.id for job in jobs] == ["0", "1", "2"]
    assert await figures(store) == {"waiting": 2, "active": 3}
    assert await store.settle([Complete(job.lease) for job in jobs]) == []


@pytest.mark.parametrize("word", ["add", "claim", "complete", "renew", "read_events", "recover", "promote"])
async def test_fault_p03_a_line_cut_before_the_server_heard_is_said_again(store, proxy, word):
    await store.add([new("a"), new("b")])
    [job] = await store.claim(ANY, limit=1, worker="w", lease=60)
    proxy.cut_before(says(word))

    await {
        "add": lambda: store.add([new("c")]),
        "claim": lambda: store.claim(ANY, limit=1, worker="w", lease=60),
        "complete": lambda: store.settle([Complete(job.lease)]),
        "renew": lambda: store.renew([job.lease], lease=60),
        "read_events": lambda: store.events(after=0),
        "recover": store.recover,
        "promote": store.promote,
    }[word]()

    assert await asyncio.to_thread(proxy.was_cut)
    assert await store.audit() == []


# --- slow, split, silent ------------------------------------------------------------------


async def test_fault_n01_a_slow_line_stalls_nothing(url, proxy):
    async with Muskox(url.replace("patience=5", "patience=30")) as ox:
        queue = ox.queue("files")

        @queue.processor("resize")
        async def resize(number: int) -> int:
            return number

        await queue.add_many([("resize", {"number": number}) for number in range(30)])
        proxy.delay, proxy.jitter = 0.1, 0.15
        async with ox.worker(concurrency=10, lease=10), asyncio.timeout(LIMIT):
            while (await queue.counts()).completed < 30:  # noqa: ASYNC110 - other connections complete them
                await asyncio.sleep(0.05)
        proxy.heal()
        assert all((job.stalls, job.attempt) == (0, 1) for job in (await queue.find()).jobs)
        assert await ox.audit() == []


async def test_fault_n02_renewals_are_not_stuck_behind_large_data(url, proxy):
    """A job holds its lease of two seconds while half a megabyte crawls towards the server on another connection."""
    async with Muskox(url.replace("patience=5", "patience=30")) as ox:
        queue = ox.queue("files")
        gate = asyncio.Event()

        @queue.processor("hold")
        async def hold(job: ActiveJob) -> int:
            await gate.wait()
            return job.attempt

        async with ox.worker(concurrency=2, lease=3):
            job = await queue.add("hold")
            await until(lambda: ox)
            proxy.rate = 100_000
            await queue.add("other", {"text": "x" * 500_000})
            proxy.heal()
            gate.set()
            done = await ended(queue, job)

        assert (done.result, done.stalls) == (1, 0)


async def test_fault_n03_a_black_hole_is_given_up_and_a_late_answer_is_refused(store, proxy, place):
    await store.add([new("a")])
    [job] = await store.claim(ANY, limit=1, worker="lost", lease=1)
    proxy.black_hole()
    async with opened(place) as other, asyncio.timeout(LIMIT):
        with pytest.raises(StoreUnavailable, match="gave no answer within 5 seconds"):
            await store.renew([job.lease], lease=30)

        while not await other.recover():  # noqa: ASYNC110 - a lease runs out in its own time
            await asyncio.sleep(0.05)
        [again] = await other.claim(ANY, limit=1, worker="found", lease=30)
        proxy.heal()

        assert await store.settle([Complete(job.lease, '"zombie"')]) == [job.lease]
        assert await other.settle([Complete(again.lease, '"right"')]) == []
        assert (await one(store, "a")).result == "right"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_fault_n03_silence_in_one_direction_is_given_up_too(store, proxy, way):
    proxy.black_hole(up=way == "up", down=way == "down")
    with pytest.raises(StoreUnavailable):
        await store.counts()
    proxy.heal()

    async with asyncio.timeout(LIMIT):
        [added] = await store.add([new("a")])
    assert added.created


async def test_fault_n04_answers_in_single_bytes_are_read(store, proxy):
    proxy.split = 1
    await store.add([new(number, data='"é😀"') for number in range(20)])
    jobs = await store.claim(ANY, limit=20, worker="w", lease=60)

    assert [job.data for job in jobs] == ["é😀"] * 20
    assert await store.settle([Complete(job.lease) for job in jobs]) == []
    assert await store.audit() == []


@pytest.mark.parametrize("how", ["reset", "gently", "half-open"])
async def test_fault_n04_connections_that_died_in_their_sleep_are_replaced(store, proxy, how):
    await asyncio.gather(*(store.add([new(number)]) for number in range(5)))
    if how == "half-open":
        proxy.half_open()
        with pytest.raises(StoreUnavailable):
            await store.counts()
    else:
        proxy.cut(gently=how == "gently")

    async with asyncio.timeout(LIMIT):
        found = await asyncio.gather(*(store.get("files", [str(number)]) for number in range(5)))
    assert [job.id for [job] in found] == ["0", "1", "2", "3", "4"]


async def test_fault_n04_a_line_cut_after_any_number_of_bytes_mixes_nothing_up(store, proxy):
    await store.add([new(number, data=str(number)) for number in range(50)])
    for count in (1, 5, 17, 100, 333, 1000, 2500):
        proxy.cut_after(down=count)
        jobs = await store.get("files", [str(number) for number in range(50)])
        assert [job.data for job in jobs] == list(range(50))
    assert await store.audit() == []


# --- cancelled verbs ----------------------------------------------------------------------


async def test_fault_n05_a_cancelled_verb_leaves_no_answer_to_the_next(store, proxy):
    await store.add([new(number, data=str(number)) for number in range(30)])
    dice = random.Random(5)
    proxy.delay = 0.001
    for turn in range(150):
        task = asyncio.create_task(store.get("files", [str(turn % 30)]))
        for _ in range(dice.randrange(12)):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        number = dice.randrange(30)
        [job] = await store.get("files", [str(number)])
        assert job.data == number


async def test_fault_n05_cancelled_adds_are_all_or_nothing(store, proxy):
    proxy.delay = 0.001
    for turn in range(60):
        task = asyncio.create_task(store.add([new(f"{turn}-{each}") for each in range(3)]))
        await asyncio.wait([task], timeout=turn % 7 * 0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    proxy.heal()

    async with asyncio.timeout(LIMIT):
        # What was on its way when it was cancelled may be committed a moment later.
        while await store.audit():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    counted = Counter(event.job_id.partition("-")[0] for event in await events(store))
    assert set(counted.values()) <= {3}


# --- flapping -----------------------------------------------------------------------------


async def passed(seconds):
    """The weather lasts for a while: its length is what is tested."""
    world = RealWorld()
    end = world.monotonic() + seconds
    while world.monotonic() < end:  # noqa: ASYNC110 - time has no event
        await asyncio.sleep(0.01)


async def test_fault_n08_a_line_that_flaps_makes_no_storm_of_connections(url, proxy):
    runs = Counter()
    async with Muskox(url.replace("patience=5", "patience=2")) as ox:
        queue = ox.queue("files")

        @queue.processor("resize", attempts=20, max_stalls=20, backoff=Fixed(0.1))
        async def resize(number: int) -> None:
            runs[number] += 1
            await asyncio.sleep(0.02)

        await queue.add_many([("resize", {"number": number}) for number in range(200)])
        async with ox.worker(concurrency=5, lease=3), asyncio.timeout(LIMIT):
            for _ in range(4):
                proxy.refuse()
                proxy.cut()
                before = proxy.refused
                await passed(1)
                # The loop of the worker, its line for hints, and the thread that renews leases.
                assert proxy.refused - before < 40
                proxy.heal()
                await passed(1)
            while True:
                with contextlib.suppress(StoreUnavailable):
                    if (await queue.counts()).completed == 200:
                        break
                await asyncio.sleep(0.05)
        assert set(runs) == set(range(200))
        assert await ox.audit() == []
