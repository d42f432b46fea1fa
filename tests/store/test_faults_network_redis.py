"""The network before a Redis server: cut, silent, slow, in pieces. Every call ends, and none harms the next."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from muskox.core.errors import StoreUnavailable
from muskox.core.job import Job, JobState, NewJob
from muskox.core.life import Complete, Fail
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Note, Selection, Want, WorkerRecord
from muskox.store.redis.scripts import script
from tests.proxy import Proxy
from tests.servers.valkey import HOST, fresh_prefix, shared_server
from tests.store.reading import BROKEN, ageless, everything, figures, one

FILES = [Want("files")]
LIMIT = 30


@pytest.fixture
def proxy():
    with Proxy(HOST, shared_server().port) as proxy:
        yield proxy


@asynccontextmanager
async def opened(address, world, *, prefix=None, **options):
    said = "&".join(f"{name}={value}" for name, value in options.items())
    store = open_store(f"redis://{address}/0?prefix={prefix or fresh_prefix()}&{said}", world)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def far(proxy, clock):
    """A store behind the proxy, which is patient for a second."""
    async with opened(proxy.address, clock, timeout=1) as store:
        yield store


def new(*ids, **fields):
    return [NewJob(id, "files", "resize", **fields) for id in ids]


async def eventful(store, clock):
    """Jobs in every state, and the leases of the active ones."""
    await store.add(new("due", "later", delay=5))
    await store.add(new("failed", "done", "stalled", "held", "a", "b"))
    jobs = await store.claim(FILES, limit=3, worker="w", lease=1)
    await store.settle([Fail(jobs[0].lease, BROKEN), Complete(jobs[1].lease)])
    [held] = await store.claim(FILES, limit=1, worker="w", lease=600)
    clock.advance(6)
    return held.lease


ADA = WorkerRecord("ada", "host", 1, (Want("files"),), 5)
VERBS = {
    "add": ("add", lambda store, _: store.add(new("x", "y", "a"))),
    "claim": ("claim", lambda store, _: store.claim(FILES, limit=1, worker="w", lease=30, ticket="7")),
    "settle": ("settle", lambda store, lease: store.settle([Complete(lease, "1")])),
    "settle by hand": ("settle", lambda store, lease: store.settle([Fail(lease, BROKEN, keep=60)])),
    "renew": ("renew", lambda store, lease: store.renew([lease], lease=900)),
    "annotate": ("annotate", lambda store, lease: store.annotate([Note(lease, data="5")])),
    "promote": ("promote_due", lambda store, _: store.promote()),
    "promote by hand": ("promote", lambda store, _: store.promote(Selection("files", ids=("later",)))),
    "recover": ("recover", lambda store, _: store.recover()),
    "clear": ("clear", lambda store, _: store.clear({})),
    "retry": ("retry", lambda store, _: store.retry(Selection("files", ids=("failed",)))),
    "cancel": ("cancel", lambda store, _: store.cancel(Selection("files", ids=("a",)))),
    "remove": ("remove", lambda store, _: store.remove(Selection("files", ids=("b",)))),
    "update": ("update", lambda store, _: store.update("files", "a", "9")),
    "pause": ("pause", lambda store, _: store.pause("files", True)),
    "beat": ("beat", lambda store, _: store.beat(ADA)),
}
TOLD_AGAIN = {"annotate", "update"}
"""These replace data by the same data: nothing is different but that it is told twice."""


@pytest.mark.parametrize("weather", ["the question is lost", "the answer is lost"])
@pytest.mark.parametrize("verb", VERBS)
async def test_fault_r10_a_verb_that_had_no_answer_may_be_said_again(proxy, clock, verb, weather):
    step, act = VERBS[verb]
    sha = script(step, flags=True).sha
    lost = proxy.cut_before if weather == "the question is lost" else proxy.lose_answer

    async with opened(shared_server().url[8:-2], clock) as near:
        start = clock.now()
        once = await act(near, await eventful(near, clock))
        expected = await everything(near)
        clock.jump(start - clock.now())
    async with opened(proxy.address, clock, timeout=5) as far:
        lease = await eventful(far, clock)
        lost(lambda piece: sha in piece)
        with pytest.raises(StoreUnavailable):
            await act(far, lease)
        assert proxy.was_cut()
        again = await act(far, lease)
        found = await everything(far)
        audited = await far.audit()

    if verb in {"add", "claim", "settle", "settle by hand", "renew", "annotate", "update"}:
        assert _told(again) == _told(once)
    if verb in TOLD_AGAIN:
        expected.pop("events")
        found.pop("events")
    assert found == expected
    assert audited == []


def _told(answer):
    """What an answer says of jobs: not whether they are new, nor since when they had waited, which is told once."""
    told = [getattr(each, "job", each) for each in (answer if isinstance(answer, list) else [answer])]
    return [ageless(each)[0] if isinstance(each, Job) else each for each in told]


async def test_fault_r11_a_hundred_adds_at_once_are_each_added_once_whatever_the_cut(proxy, far):
    for number in range(6):
        proxy.cut_after(down=150 * (number + 1))
        batch = [far.add(new(f"{number}-{each}")) for each in range(100)]
        answers = await asyncio.gather(*batch, return_exceptions=True)
        failed = [each for each, answer in enumerate(answers) if isinstance(answer, StoreUnavailable)]
        assert failed
        assert all(isinstance(answer, list | StoreUnavailable) for answer in answers)
        proxy.heal()
        for each in failed:
            await far.add(new(f"{number}-{each}"))

    assert await figures(far) == {"waiting": 600}
    assert await far.audit() == []


# --- silence -------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["up", "down", "both"])
async def test_fault_n03_a_black_hole_ends_every_call_and_heals(proxy, far, direction):
    await far.add(new("a"))
    proxy.black_hole(up=direction != "down", down=direction != "up")

    async with asyncio.timeout(LIMIT):
        for act in (far.add(new("b")), far.get("files", ["a"]), far.counts()):
            with pytest.raises(StoreUnavailable, match="gave no answer within 1 seconds"):
                await act
    proxy.heal()

    await far.add(new("b"))
    assert (await one(far, "b")).state is JobState.WAITING


async def test_fault_r14_a_line_that_died_in_silence_is_found_by_the_deadline(proxy, far):
    await far.add(new("a"))
    proxy.half_open()

    with pytest.raises(StoreUnavailable):
        await far.add(new("b"))

    assert [added.created for added in await far.add(new("b"))] == [True]


async def test_fault_r14_a_line_that_the_server_closed_while_idle_is_not_used_again():
    world = RealWorld()
    server = shared_server()
    async with opened(server.url[8:-2], world) as store:
        await store.add(new("a"))
        server.tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await store.wait(["nothing"], seconds=0.05)

        assert [added.created for added in await store.add(new("b"))] == [True]


async def test_a_wait_hears_of_a_job_also_after_a_long_silence(monkeypatch, clock):
    monkeypatch.setattr("muskox.store.redis.hub.BEAT", 0.05)
    monkeypatch.setattr("muskox.store.redis.hub.POLL", 3600)
    server = shared_server()
    prefix = fresh_prefix()
    async with (
        opened(server.url[8:-2], clock, prefix=prefix) as store,
        opened(server.url[8:-2], clock, prefix=prefix) as other,
    ):
        for number in range(3):
            # Finding nothing is what asks for a hint; what begins to listen hears one in vain before.
            while await store.claim(FILES, limit=5, worker="w", lease=30):
                pass
            await store.wait(["files"], seconds=0.2)
            waiting = asyncio.create_task(store.wait(["files"], seconds=3600))
            await store.wait(["nothing"], seconds=0.3)
            assert not waiting.done()
            await other.add(new(str(number)))
            async with asyncio.timeout(LIMIT):
                await waiting


# --- cuts and pieces -----------------------------------------------------------------------


@pytest.mark.parametrize("gently", [True, False])
async def test_fault_n04_lines_that_are_closed_or_reset_are_made_anew(proxy, far, gently):
    await far.add(new("a"))
    for number in range(5):
        proxy.cut(gently=gently)
        try:
            await far.add(new(str(number)))
        except StoreUnavailable:
            await far.add(new(str(number)))

    assert await figures(far) == {"waiting": 6}


@pytest.mark.parametrize("down", [1, 3, 40, 200, 3000])
async def test_fault_n04_an_answer_that_was_cut_short_is_no_answer(proxy, far, down):
    await far.add(new(*(str(number) for number in range(100))))
    proxy.cut_after(down=down)

    with pytest.raises(StoreUnavailable):
        await far.get("files", [str(number) for number in range(100)])

    assert [job.id for job in await far.get("files", ["5", "7"])] == ["5", "7"]


async def test_fault_n04_answers_byte_by_byte_are_read_as_they_are(proxy, clock):
    async with opened(proxy.address, clock, timeout=20) as far:
        proxy.split = 1
        await far.add(new("a", "b", data='{"text":"\u00e9\u20ac"}'))
        [a, b] = await far.claim(FILES, limit=2, worker="w", lease=30)

        assert (a.data, b.data) == ({"text": "é€"}, {"text": "é€"})
        assert await far.settle([Complete(a.lease, "1"), Complete(b.lease)]) == []


@pytest.mark.parametrize("after", [0.0, 0.001, 0.004, 0.01])
async def test_fault_n05_a_call_that_is_cancelled_in_the_middle_mixes_up_no_answers(proxy, clock, after):
    async with opened(proxy.address, clock, timeout=20) as far:
        await far.add([NewJob(str(number), "files", "resize", data=f'"{number}"') for number in range(50)])
        proxy.delay = 0.003
        for round_ in range(10):
            calls = [asyncio.create_task(far.get("files", [str(number)])) for number in range(20)]
            await asyncio.wait(calls, timeout=after)
            for call in calls[::2]:
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            for number, answer in enumerate(answers):
                if number % 2:
                    assert [(job.id, job.data) for job in answer] == [(str(number), str(number))], round_


async def test_fault_n05_a_wait_that_is_cancelled_again_and_again_costs_no_connection(clock):
    server = shared_server()
    async with opened(server.url[8:-2], clock) as store:
        await store.wait(["files"], seconds=0.2)
        before = int(server.tell("INFO", "stats")["total_connections_received"])
        for _ in range(50):
            waiting = asyncio.create_task(store.wait(["files"], seconds=60))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await store.add(new("a"))

        # One is that of the question itself.
        assert int(server.tell("INFO", "stats")["total_connections_received"]) - before <= 2


# --- slowness ------------------------------------------------------------------------------


async def test_fault_n01_a_slow_and_uneven_network_only_makes_things_slow(proxy):
    world = RealWorld()
    async with opened(proxy.address, world, timeout=20) as far:
        proxy.delay, proxy.jitter = 0.05, 0.15
        await far.add(new(*"abcdef"))
        jobs = await far.claim(FILES, limit=6, worker="w", lease=10)
        answers = await asyncio.gather(*(far.renew([job.lease], lease=10) for job in jobs))

        assert answers == [[]] * 6
        assert await far.recover() == []
        assert await far.settle([Complete(job.lease) for job in jobs]) == []
        proxy.heal()
        assert await far.audit() == []


async def test_fault_n02_a_renewal_does_not_wait_behind_a_megabyte(proxy):
    world = RealWorld()
    async with opened(proxy.address, world, timeout=60) as far:
        await far.add(new("a"))
        [job] = await far.claim(FILES, limit=1, worker="w", lease=30)
        await far.renew([job.lease], lease=30)
        proxy.rate = 500_000
        large = asyncio.create_task(far.add(new("large", data='"' + "x" * 1_000_000 + '"')))
        await asyncio.sleep(0)

        assert await far.renew([job.lease], lease=30) == []
        assert not large.done()
        await large


async def test_fault_n08_a_flapping_network_makes_no_storm_of_connections(proxy, clock):
    async with opened(proxy.address, clock, timeout=1) as far:
        await far.wait(["files"], seconds=0.2)
        proxy.refuse()
        proxy.cut()
        before = proxy.refused
        loop = asyncio.get_running_loop()
        end = loop.time() + 3
        while loop.time() < end:  # it may return early, as hints do
            await far.wait(["files"], seconds=end - loop.time())
        tries = proxy.refused - before

        # The pause doubles from 0.05 s up to 2 s, with jitter.
        assert 1 <= tries <= 12
        proxy.heal()
        async with asyncio.timeout(LIMIT):
            waiting = asyncio.create_task(far.wait(["files"], seconds=3600))
            await far.add(new("a"))
            await waiting
