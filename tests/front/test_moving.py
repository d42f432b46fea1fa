"""Moving house: everything arrives once, in its order, whenever the move is interrupted and by whatever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack

import msgspec
import pytest

from muskox import JobState, LeaseLost, Muskox, NewJob, OptionError, StoreError, StoreUnavailable, WrongState, moving
from muskox.core.flows import FlowJob, FlowKind, NewFlow, Wait
from muskox.core.life import Complete, Fail
from muskox.core.limits import KeyLimits, Limits, Rate
from muskox.core.schedule import Overlap
from muskox.moving import ENDED, QUEUE, UNENDED, move
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.protocol import Selection, Want, WorkerRecord
from muskox.testing import FakeWorld
from tests import processes
from tests.front import moved
from tests.store import schedules as ticking
from tests.store.reading import BROKEN, figures
from tests.stores import SHARED

KINDS = [kind for kind in ("sqlite", "redis", "postgres") if kind in SHARED]
PAIRS = [(here, there) for here in KINDS for there in KINDS]
LIMIT = 60
QUEUES = ("files", "mail")
W, D, X = JobState.WAITING, JobState.DELAYED, JobState.CANCELLED


@pytest.fixture
def clock():
    return FakeWorld(seed=1)


@pytest.fixture(params=PAIRS, ids="-to-".join)
async def stores(request, tmp_path, clock):
    """Two open, empty stores."""
    async with AsyncExitStack() as stack:
        found = []
        for number, kind in enumerate(request.param):
            (tmp_path / str(number)).mkdir()
            found.append(await stack.enter_async_context(SHARED[kind](tmp_path / str(number), clock)))
        yield [store for _, store in found]
        for _, store in found:
            assert await store.audit() == []


@pytest.fixture
def source(stores):
    return stores[0]


@pytest.fixture
def target(stores):
    return stores[1]


async def fill(store, clock, count=20):
    """Jobs in all states but active, of two queues, three names and three priorities."""
    for number in range(count):
        queue, name, priority = QUEUES[number % 2], f"name-{number % 3}", number * 7 % 3
        delay = 60 if number % 10 == 9 else 0
        await store.add([NewJob(str(number), queue, name, data=str(number), priority=priority, delay=delay)])
        clock.advance(0.01)
    for end in (Complete, lambda lease: Fail(lease, BROKEN)):
        jobs = await store.claim([Want("files"), Want("mail")], limit=3, worker="w", lease=30)
        await store.settle([end(job.lease) for job in jobs])
    await store.cancel(Selection("files", ids=("0", "2")))


async def packed(store, states=(*UNENDED, *ENDED)):
    """All there is in a store, in order. Since when an ended job has waited matters to nobody."""
    return {
        (queue, state): [
            one if state in {W, D} else msgspec.structs.replace(one, arrival_us=0)
            for one in await store.pack(queue, state)
        ]
        for queue in QUEUES
        for state in states
    }


async def run(store, ledger):
    """A worker that takes what it can get; nothing is kept of what it has run."""
    while jobs := await store.claim([Want("files"), Want("mail")], limit=5, worker="w", lease=3600):
        ledger.update((job.queue, job.id) for job in jobs)
        await store.settle([Complete(job.lease, keep=0) for job in jobs])


# --- what is carried ----------------------------------------------------------------------


async def test_everything_is_there_as_it_was_here(source, target, clock, monkeypatch):
    monkeypatch.setattr(moving, "BATCH", 3)
    await fill(source, clock)
    before = await packed(source)

    done = await move(source, target, clock, states=(*UNENDED, *ENDED))

    assert await packed(target) == before
    assert not any((await packed(source)).values())
    assert (done.carried, done.total, done.known, done.left) == ({"files": 10, "mail": 10}, 20, 0, 0)


async def test_ended_jobs_stay_unless_they_are_asked_for(source, target, clock):
    await fill(source, clock)
    before = await packed(source)

    await move(source, target, clock)

    assert await packed(target, UNENDED) == {key: jobs for key, jobs in before.items() if key[1] in UNENDED}
    assert await packed(source, ENDED) == {key: jobs for key, jobs in before.items() if key[1] in ENDED}
    assert not any((await packed(target, ENDED)).values())


async def test_jobs_with_keys_are_carried_with_their_limits_and_stand_as_they_did(source, target, clock):
    await source.limit("files", Limits(key_concurrency=1, key_rate=Rate(1, per=1000, burst=2)))
    await source.limit_key("files", "own", KeyLimits(concurrency=2))
    for key in ("acme", "own"):
        await source.add([NewJob(f"{key}-{n}", "files", "x", key=key) for n in range(5)])
    clock.advance(1)
    [taken] = await source.claim([Want("files")], limit=1, worker="w", lease=30)
    await source.settle([Complete(taken.lease)])

    done = await move(source, target, clock)

    assert (done.carried, done.left) == ({"files": 9}, 0)
    assert await figures(source) == {"completed": 1}
    found = await target.keys("files")
    assert [(key.key, key.own, key.waiting, key.blocked) for key in found] == [
        ("acme", KeyLimits(), 1, 3),
        ("own", KeyLimits(concurrency=2), 2, 3),
    ]
    assert [job.id for job in await target.claim([Want("files")], limit=1, worker="w", lease=30)] == ["own-0"]


async def test_flows_that_have_not_ended_are_not_carried_and_the_jobs_of_others_are(source, target, clock):
    await source.grow(
        NewFlow("flow"),
        [FlowJob(NewJob("a", "files", "x")), FlowJob(NewJob("b", "files", "x"), (Wait("files", "a", "a"),))],
    )
    with pytest.raises(WrongState, match="flow flow has 2 jobs that have not ended, and what waits for other jobs"):
        await move(source, target, clock)
    await source.cancel_flow("flow")
    await source.grow(NewFlow("batch", FlowKind.BATCH, open=True), [])
    with pytest.raises(WrongState, match="batch batch is open, and"):
        await move(source, target, clock)
    await source.close_flow("batch")

    done = await move(source, target, clock, states=(*UNENDED, *ENDED))

    assert done.carried == {"files": 2}
    assert [(job.state, job.flow) for job in await target.get("files", ["a", "b"])] == [(X, None), (X, None)]
    assert await source.audit() == await target.audit() == []


async def test_afterwards_nothing_is_left_of_the_move_itself(source, target, clock):
    await fill(source, clock)

    await move(source, target, clock)

    for store in (source, target):
        assert await figures(store, QUEUE) == {}
        assert {counts.paused for counts in await store.counts()} == {False}
        assert await store.claim([Want(QUEUE)], limit=1, worker="w", lease=30) == []


async def test_jobs_that_wait_there_already_go_on_waiting(source, target, clock):
    await target.add([NewJob("there", "files", "name-0")])
    await fill(source, clock)

    await move(source, target, clock)

    ledger = Counter()
    await run(target, ledger)
    assert ledger["files", "there"] == 1


async def test_a_job_that_is_there_already_is_not_doubled(source, target, clock):
    await source.add([NewJob("a", "files", "resize", "1")])
    await target.add([NewJob("a", "files", "resize", "2")])

    done = await move(source, target, clock)

    [job] = await target.get("files", ["a"])
    assert (job.data_text, done.known) == ("2", 1)
    assert await source.get("files", ["a"]) == [None]


@pytest.mark.parametrize("stores", [("sqlite", "sqlite")], indirect=True)
@pytest.mark.parametrize(
    ("size", "limits"), [(10, [10, 20, 40, 80]), (1000, [10, 5, 2, 2, 2]), (9000, [10, 5, 2, 1, 1])]
)
async def test_steps_are_large_for_small_jobs_and_small_for_large_ones(
    source, target, clock, monkeypatch, size, limits
):
    monkeypatch.setattr(moving, "LARGE", 3000)
    asked = []

    class Asked(Passing):
        async def pack(self, queue, state, limit):
            asked.append(limit)
            return await source.pack(queue, state, limit=limit)

    await source.add([NewJob(str(number), "files", "resize", data='"' + "x" * size + '"') for number in range(100)])
    done = await move(Asked(source), target, clock)

    assert (done.total, asked[: len(limits)]) == (100, limits)


async def test_an_empty_store_is_moved_too(source, target, clock):
    done = await move(source, target, clock)

    assert (done.total, done.left) == (0, 0)


@pytest.mark.parametrize(("here", "there"), [(True, False), (False, True), (True, True)])
async def test_a_paused_queue_is_paused_afterwards(source, target, clock, here, there):
    await source.add([NewJob("a", "files", "resize"), NewJob("b", "mail", "send")])
    await source.pause("files", here)
    await target.pause("files", there)

    await move(source, target, clock)

    assert {counts.queue: counts.paused for counts in await target.counts(QUEUES)} == {"files": True, "mail": False}
    assert {counts.queue: counts.paused for counts in await source.counts(QUEUES)} == {"files": here, "mail": False}


async def test_what_is_added_during_the_move_is_carried_too(source, target, clock):
    await fill(source, clock)
    late = [NewJob("late", "files", "resize"), NewJob("new", "other", "thing")]

    class Adding(Passing):
        async def called(self, verb):
            if verb == "adopt" and late:
                await source.add([late.pop()])

    await move(source, Adding(target), clock)

    assert [job.id for job in await target.get("files", ["late"]) + await target.get("other", ["new"])] == [
        "late",
        "new",
    ]
    assert {counts.paused for counts in [*await source.counts(), *await target.counts()]} == {False}


# --- when it is refused -------------------------------------------------------------------


async def test_it_is_refused_while_a_worker_lives(source, target, clock):
    await fill(source, clock)
    before = await packed(source)
    await source.beat(WorkerRecord("w", "host-a", 77, (Want("files"),), 5))

    with pytest.raises(WrongState, match=r"1 workers .* are alive, on host-a \(process 77\); stop them first"):
        await move(source, target, clock)

    assert (await packed(source), await target.counts()) == (before, [])
    assert {counts.paused for counts in await source.counts()} == {False}


async def test_it_is_refused_while_a_job_is_active_and_not_when_its_lease_has_run_out(source, target, clock):
    await source.add([NewJob("a", "files", "resize")])
    await source.claim([Want("files")], limit=1, worker="w", lease=30)

    with pytest.raises(WrongState, match="1 jobs of queue files are active though no worker is alive"):
        await move(source, target, clock)
    clock.advance(31)
    await move(source, target, clock)

    assert await figures(target) == {"waiting": 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_store_is_not_moved_to_itself(tmp_path, clock, kind):
    async with SHARED[kind](tmp_path, clock) as (url, store):
        await store.add([NewJob("a", "files", "resize")])
        again = open_store(url, clock)
        await again.open()

        with pytest.raises(OptionError, match="both URLs are of the same store"):
            await move(store, again, clock)

        assert (await figures(store), await figures(store, QUEUE)) == ({"waiting": 1}, {})
        await again.close()


# --- interruptions ------------------------------------------------------------------------


class Killed(BaseException):
    """The process of the mover is gone."""


class Passing:
    """Passes every verb on to a store."""

    def __init__(self, store):
        self._store = store

    async def called(self, verb):
        pass

    def __getattr__(self, verb):
        work = getattr(self._store, verb)

        async def call(*args, **named):
            await self.called(verb)
            return await work(*args, **named)

        return call


class Mortal:
    """Lets a mover die at its `last` round trip, before or after that took effect."""

    def __init__(self, last, *, after):
        self.left = last
        self.after = after

    def around(self, store):
        mortal = self

        class Dying(Passing):
            def __getattr__(self, verb):
                work = getattr(self._store, verb)

                async def call(*args, **named):
                    mortal.left -= 1
                    if mortal.left == 0 and mortal.after:
                        await work(*args, **named)
                    if mortal.left <= 0:
                        raise Killed
                    return await work(*args, **named)

                return call

        return Dying(store)


AROUND = [(KINDS[place - 1], kind) for place, kind in enumerate(KINDS)]
"""Each kind once as the source and once as the target; backwards they are the other pairs of unlike kinds."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stores", "after"),
    [*((pair, False) for pair in AROUND), *((pair[::-1], True) for pair in AROUND)],
    indirect=["stores"],
    ids=lambda value: "-to-".join(value) if isinstance(value, tuple) else "after" if value else "before",
)
async def test_interrupted_at_any_round_trip_nothing_is_lost_or_doubled(source, target, clock, monkeypatch, after):
    """The mover dies at each of its round trips in turn, and a worker of the new store takes all that it can get."""
    monkeypatch.setattr(moving, "BATCH", 2)
    died = last = 0
    while died == last:
        last += 1
        prefix, ledger = f"{last}-", Counter()
        await source.add([NewJob(f"{prefix}{n}", QUEUES[n % 2], "resize", delay=n // 4 * 60) for n in range(6)])
        mortal = Mortal(last, after=after)
        try:
            await move(mortal.around(source), mortal.around(target), clock, lease=30)
        except Killed:
            died += 1
        await run(target, ledger)

        clock.advance(31)
        await move(source, target, clock, lease=30)
        clock.advance(60)
        await target.promote()
        await run(target, ledger)

        assert ledger == {(QUEUES[n % 2], f"{prefix}{n}"): 1 for n in range(6)}
        assert await source.claim([Want(queue) for queue in QUEUES], limit=1, worker="w", lease=30) == []
        assert {counts.paused for counts in [*await source.counts(), *await target.counts()]} == {False}
        await target.remove(Selection(QUEUE, states=(D,)))  # what a death between two notes may leave
    assert last > 20


async def test_one_that_was_interrupted_goes_to_no_other_store(source, target, clock, tmp_path):
    await fill(source, clock)
    with pytest.raises(Killed):
        await move(source, Mortal(8, after=True).around(target), clock)
    clock.advance(31)

    async with SHARED["sqlite"](tmp_path, clock) as (_, other):
        with pytest.raises(OptionError, match="to another one than this was begun and not ended"):
            await move(source, other, clock)
        with pytest.raises(WrongState, match="a move to the store that is left is not ended"):
            await move(target, other, clock)
        assert await figures(other) == {}

    await move(source, target, clock)


class Silenced(Passing):
    """The store of a mover that stands still after it has packed, while another does all the work."""

    def __init__(self, store, clock, target):
        super().__init__(store)
        self.clock = clock
        self.target = target

    async def pack(self, *args, **named):
        found = await self._store.pack(*args, **named)
        if self.target is not None:
            target, self.target = self.target, None
            self.clock.advance(31)
            await move(self._store, target, self.clock)
        return found


async def test_one_that_was_silent_for_too_long_stops(source, target, clock):
    await fill(source, clock)
    before = await packed(source, UNENDED)

    with pytest.raises(LeaseLost, match="another move from this store has begun"):
        await move(Silenced(source, clock, target), target, clock)

    assert await packed(target, UNENDED) == before


class Hasty:
    """A world in which nobody sleeps: the clock is moved instead."""

    def __init__(self, clock):
        self._clock = clock
        self.slept = []

    def __getattr__(self, name):
        return getattr(self._clock, name)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self._clock.advance(seconds)


async def test_one_that_was_killed_is_waited_for(source, target, clock):
    await fill(source, clock)
    before = await packed(source, UNENDED)
    mortal = Mortal(30, after=True)
    with pytest.raises(Killed):
        await move(mortal.around(source), mortal.around(target), clock)
    hasty = Hasty(clock)

    await move(source, target, hasty)

    assert (hasty.slept, await packed(target, UNENDED)) == ([31], before)


async def test_a_move_under_way_is_left_alone(source, target, clock):
    await fill(source, clock)
    slept = []

    class Still(Hasty):
        async def sleep(self, seconds):
            slept.append(seconds)

    class Beside(Passing):
        async def called(self, verb):
            if verb == "adopt" and not slept:
                with pytest.raises(WrongState, match="another move from this store is under way"):
                    await move(source, target, Still(clock))

    await move(source, Beside(target), clock)

    assert slept == [31, 31]


@pytest.mark.parametrize("verb", ["pack", "adopt", "remove", "renew"])
async def test_a_store_without_an_answer_is_asked_again(source, target, clock, verb):
    await fill(source, clock)
    before = await packed(source, UNENDED)
    times = [2]

    class Napping(Passing):
        async def called(self, asked):
            if asked == verb and times[0]:
                times[0] -= 1
                raise StoreUnavailable("away on purpose")

    hasty = Hasty(clock)
    await move(Napping(source), Napping(target), hasty)

    assert (await packed(target, UNENDED), hasty.slept) == (before, [0.5, 1.0])


async def test_a_store_that_stays_away_ends_the_move_and_says_how_it_goes_on(source, target, clock):
    await fill(source, clock)

    class Away(Passing):
        async def called(self, verb):
            if verb == "adopt":
                raise StoreUnavailable("away on purpose")

    with pytest.raises(StoreError, match="away on purpose; the move is not ended: give the command again"):
        await move(source, Away(target), Hasty(clock))
    done = await move(source, target, clock)

    assert done.left == 0


# --- by the app, and as processes -----------------------------------------------------------


async def test_an_app_moves_to_another(tmp_path):
    async with Muskox(f"sqlite:///{tmp_path}/here.db") as here, Muskox(f"sqlite:///{tmp_path}/there.db") as there:
        job = await here.queue("email").add("welcome", {"to": "ada"}, priority=5)

        done = await here.move_to(there)

        assert (done.carried, done.total) == ({"email": 1}, 1)
        assert await there.queue("email").get(job.id) == job
        assert await here.queue("email").get(job.id) is None


def test_an_app_moves_from_blocking_code(tmp_path):
    here, there = Muskox(f"sqlite:///{tmp_path}/here.db"), Muskox(f"sqlite:///{tmp_path}/there.db")
    job = here.queue("email").sync.add("welcome")

    assert here.sync.move_to(there, ended=True).total == 1

    assert there.queue("email").sync.get(job.id) == job
    here.sync.close()
    there.sync.close()


@pytest.mark.slow
@pytest.mark.parametrize("kinds", AROUND, ids="-to-".join)
async def test_killed_again_and_again_nothing_is_lost_or_doubled(tmp_path, kinds):
    """A process that moves is killed with -9 at moments of chance, while a worker of the new store runs all it gets."""
    world, dice, ledger = RealWorld(), random.Random(7), Counter()
    async with AsyncExitStack() as stack:
        (url, source), (target_url, target) = [
            await stack.enter_async_context(SHARED[kind](_folder(tmp_path, number), world))
            for number, kind in enumerate(kinds)
        ]
        ids = [str(number) for number in range(120)]
        await source.add([NewJob(id, QUEUES[int(id) % 2], "resize") for id in ids])

        async with asyncio.timeout(LIMIT):
            for _ in range(8):
                async with processes.started("tests.front.moved", url, target_url) as process:
                    await processes.until(process, "ready")
                    for _ in range(dice.randrange(1, 5)):
                        if not await process.stdout.readline():
                            break
                    if process.returncode is None:
                        process.kill()
                    await process.wait()
                await run(target, ledger)
            await move(source, target, world, lease=moved.LEASE)
            await run(target, ledger)

        assert ledger == {(QUEUES[int(id) % 2], id): 1 for id in ids}
        assert (await source.audit(), await target.audit()) == ([], [])


def _folder(path, number):
    made = path / str(number)
    made.mkdir()
    return made


# --- schedules -------------------------------------------------------------------------


async def schedules_of(store):
    """What a store keeps of its schedules, but for versions and moments of its own."""
    kept = (await store.schedules()).kept
    return [msgspec.structs.replace(one, version=0, added_us=0, changed_us=0) for one in kept]


async def several_schedules(store):
    """One that is due and has fired, one that is paused, one that is over."""
    [seen, *_] = await ticking.put(
        store, ticking.kept("due", overlap=Overlap.SKIP), ticking.kept("still", paused=True, next_us=ticking.START + 7),
        ticking.kept("over", next_us=None),
    )  # fmt: skip
    assert await store.fire([ticking.firing(seen)]) == [1]


async def test_schedules_are_carried_with_their_next_moments_and_last_jobs(source, target, clock):
    await several_schedules(source)
    before = await schedules_of(source)

    done = await move(source, target, clock)

    assert (done.schedules, done.total, done.known) == (3, 1, 0)
    assert await schedules_of(target) == before
    assert (await source.schedules()).kept == []
    # The last job is there as well, so that it is still in the way of the next.
    assert await target.fire([ticking.firing(await ticking.read(target, "due"))]) == [0]


async def test_a_schedule_that_was_only_declared_there_takes_over_where_the_old_one_stood(source, target, clock):
    await several_schedules(source)
    before = await schedules_of(source)
    later = ticking.START + 10**9
    await ticking.put(target, ticking.kept("due", overlap=Overlap.SKIP, next_us=later))

    assert (await move(source, target, clock)).schedules == 3

    assert await schedules_of(target) == before


@pytest.mark.parametrize("fired", [True, False], ids=["has fired", "says something else"])
async def test_another_schedule_of_that_name_stays_as_it_is_there(source, target, clock, fired):
    await several_schedules(source)
    [there] = await ticking.put(target, ticking.kept("due", overlap=Overlap.SKIP if fired else Overlap.ALLOW))
    if fired:
        await target.fire([msgspec.structs.replace(ticking.firing(there), jobs=(), entries=())])
    before = await ticking.read(target, "due")

    done = await move(source, target, clock)

    assert (done.schedules, done.known) == (2, 1)
    assert await ticking.read(target, "due") == before
    assert (await source.schedules()).kept == []


@pytest.mark.parametrize("verb", ["put_schedules", "schedules"])
@pytest.mark.parametrize("here", [True, False], ids=["here", "there"])
async def test_a_move_that_breaks_off_among_the_schedules_goes_on_and_doubles_none(source, target, clock, verb, here):
    await several_schedules(source)
    before = await schedules_of(source)
    broken = source if here else target

    async def refuse(*_, **__):
        raise StoreError("cut off")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broken, verb, refuse)
        with pytest.raises(StoreError, match="cut off"):
            await move(source, target, clock)
    done = await move(source, target, clock)

    assert (done.schedules, done.known) == (3, 0)
    assert await schedules_of(target) == before
    assert (await source.schedules()).kept == []
