"""Faults of a PostgreSQL server: it dies, freezes, refuses, breaks transactions; nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import psycopg
import pytest

from muskox import Fixed, Muskox
from muskox.core.errors import (
    OptionError,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsupported,
)
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import NewJob
from muskox.core.life import Complete, Fail, Release
from muskox.runtime.world import RealWorld
from muskox.store import open_store
from muskox.store.postgres.location import parse
from muskox.store.postgres.trouble import Remedy, remedy, translate
from muskox.store.protocol import Note, Selection, Want
from tests.runtime.helpers import until
from tests.servers import postgres
from tests.store.reading import BROKEN, events, figures, one

LIMIT = 60
ANY = [Want("files")]


@pytest.fixture(scope="module")
def own():
    """A server for the faults of this file; each test leaves it running and as it was."""
    with postgres.server(**postgres.FAST) as made:
        yield made


@pytest.fixture
def place(own):
    with postgres.schema(own.url) as url:
        yield url


@contextlib.asynccontextmanager
async def opened(url):
    store = open_store(url, RealWorld())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def new(number, **fields):
    return NewJob(str(number), "files", "resize", **fields)


# --- a worker while the server is in trouble ----------------------------------------------


class Drain:
    """A worker in this process that runs numbered jobs, and what it has run."""

    def __init__(self, url, jobs, *, pause=0.005, lease=3.0):
        self.ox = Muskox(url)
        self.jobs = jobs
        self.pause = pause
        self.lease = lease
        self.runs = Counter()
        self.queue = self.ox.queue("files")

        @self.queue.processor("resize", attempts=50, max_stalls=50, backoff=Fixed(0.1))
        async def resize(number: int) -> int:
            self.runs[number] += 1
            await asyncio.sleep(self.pause)
            return number

    async def __aenter__(self):
        await self.ox.__aenter__()
        await self.queue.add_many([("resize", {"number": number}) for number in range(self.jobs)])
        self.worker = self.ox.worker(concurrency=10, lease=self.lease)
        await self.worker.__aenter__()
        return self

    async def __aexit__(self, *error):
        try:
            await self.worker.__aexit__(*error)
        finally:
            await self.ox.__aexit__(*error)

    async def ran(self, number):
        """Return when so many runs have begun."""
        await until(lambda: self.runs.total() >= number, LIMIT)

    async def check(self):
        """Wait until all jobs are completed; every one once, and the store is sound."""
        async with asyncio.timeout(LIMIT):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    states = (await self.queue.counts()).states
                    if {str(state): count for state, count in states.items() if count} == {"completed": self.jobs}:
                        break
                await asyncio.sleep(0.05)
        assert set(self.runs) == set(range(self.jobs))
        assert await self.ox.audit() == []
        completed = Counter()
        store = await self.ox.store()
        for event in await events(store):
            if event.kind == "completed":
                completed[event.job_id] += 1
        assert (len(completed), set(completed.values())) == (self.jobs, {1})

    async def still_quick(self):
        """A job that is added to the idle worker is picked up by a hint and not by the poll."""
        store = await self.ox.store()
        async with asyncio.timeout(LIMIT):
            while not store._bells.hearing:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.05)


async def test_fault_p01_a_server_that_crashes_again_and_again_loses_nothing():
    """Real durability: each crash is an immediate shutdown, from which it must recover."""
    with postgres.server() as server:
        async with Drain(f"{server.url}?patience=5", 300) as drain:
            for turn in range(3):
                await drain.ran(40 * (turn + 1))
                await asyncio.to_thread(server.crash)
                await asyncio.to_thread(server.start)
            await drain.check()
            await drain.still_quick()


async def test_fault_p01_a_fence_whose_claim_a_crash_has_undone_is_never_given_again():
    """A run of before the crash goes on, and must not settle what was claimed since."""
    # Nothing is written that nobody waits for, and a second is not over when the server is back. The log tells of a
    # sequence 32 numbers at once, so a claim takes more.
    with postgres.server(wal_writer_delay="10s", checkpoint_timeout="1h") as server:
        async with opened(f"{server.url}?patience=10") as store:
            await store.add([new(number) for number in range(200)])
            kept = await store.claim(ANY, limit=1, worker="a", lease=60.0)
            await store.add([new(200)])  # which waits for the disk, and for all that was before it
            given = {job.lease.token for job in kept}
            for _ in range(3):
                lost = await store.claim(ANY, limit=50, worker="a", lease=60.0)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)

                again = await store.claim(ANY, limit=50, worker="b", lease=60.0)
                assert [job.id for job in again] == [job.id for job in lost], "the crash undid the claim"
                assert given.isdisjoint(job.lease.token for job in lost)
                given |= {job.lease.token for job in lost}
                assert min(job.lease.token for job in again) > max(given)
                given |= {job.lease.token for job in again}
                stale = [Complete(job.lease, "1") for job in lost]
                assert await store.settle(stale) == [job.lease for job in lost]
                assert await store.settle([Complete(job.lease, "2") for job in again]) == []
            assert await store.settle([Complete(job.lease, "2") for job in kept]) == []
            assert await store.audit() == []


async def test_fault_p01_a_server_that_is_killed_keeps_every_job_whose_add_was_answered():
    with postgres.server() as server:
        told = []
        async with opened(f"{server.url}?patience=5") as store:

            async def produce():
                for number in range(10_000):
                    await store.add([new(number)])
                    told.append(str(number))

            producing = asyncio.create_task(produce())
            await until(lambda: len(told) >= 50, LIMIT)
            await asyncio.to_thread(server.kill)
            with pytest.raises(StoreUnavailable):
                await producing
            await asyncio.to_thread(server.start)

            found = await store.get("files", told)
            assert None not in found
            assert await store.audit() == []


async def test_fault_p02_backends_that_are_terminated_are_replaced(own, place):
    async with Drain(place, 300) as drain:
        for turn in range(6):
            await drain.ran(20 * (turn + 1))
            own.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'muskox' AND pid <> pg_backend_pid()"
            )
        await drain.check()
        # The line that hears notifications was among them.
        await drain.still_quick()


async def test_fault_p13_short_timeouts_of_the_administrator_cut_off_nothing(own, place):
    """No transaction is held while a processor runs."""
    own.execute(
        "ALTER ROLE muskox SET idle_in_transaction_session_timeout = '50ms'",
        "ALTER ROLE muskox SET statement_timeout = '2s'",
        "ALTER ROLE muskox SET lock_timeout = '500ms'",
    )
    try:
        async with Drain(place, 30, pause=0.2) as drain:
            await drain.check()
            store = await drain.ox.store()
            assert all(job.stalls == job.releases == 0 for job in (await drain.queue.find()).jobs)
            assert await store.counts(["files"])
    finally:
        own.execute("ALTER ROLE muskox RESET ALL")


async def test_fault_p05_a_pooler_that_is_killed_and_started_again_is_survived(own):
    if postgres.POOLER is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    pooler = postgres.Pooler(own.port)
    pooler.start()
    try:
        with postgres.schema(own.url) as url:
            async with Drain(url.replace(f":{own.port}/", f":{pooler.port}/") + "&patience=5", 200) as drain:
                for turn in range(3):
                    await drain.ran(30 * (turn + 1))
                    await asyncio.to_thread(pooler.kill)
                    await asyncio.to_thread(pooler.start)
                await drain.check()
    finally:
        pooler.remove()


# --- a server that does not answer --------------------------------------------------------


async def test_fault_p16_a_frozen_server_is_given_up_at_the_deadline_and_found_again(own, place):
    async with opened(f"{place}&patience=1") as store:
        await store.add([new(number) for number in range(3)])
        [job] = await store.claim(ANY, limit=1, worker="w", lease=60)
        own.freeze()
        try:
            verbs = [
                store.add([new("late")]),
                store.claim(ANY, limit=1, worker="w", lease=60),
                store.settle([Complete(job.lease)]),
                store.renew([job.lease], lease=60),
                store.counts(),
                store.events(after=0),
                store.promote(),
                store.recover(),
            ]
            async with asyncio.timeout(LIMIT):
                answers = await asyncio.gather(*verbs, return_exceptions=True)
        finally:
            own.thaw()
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert "gave no answer within 1 seconds" in str(answers[0])

        # What was asked may have been done after all; said again it has no other effect.
        async with asyncio.timeout(LIMIT):
            assert await settled(store, job)
            [again] = await store.add([new("late")])
        assert again.job.id == "late"
        assert (await one(store, "0")).state == "completed"
        assert await store.audit() == []


async def settled(store, job):
    while True:
        with contextlib.suppress(StoreUnavailable):
            return await store.settle([Complete(job.lease)]) == []


async def test_fault_p16_a_worker_outlives_a_server_that_is_frozen_for_a_while(own, place):
    async with Drain(f"{place}&patience=1", 200) as drain:
        await drain.ran(40)
        own.freeze()
        try:
            await drain.ox.world.sleep(3)
        finally:
            own.thaw()
        await drain.check()


# --- what the server says -----------------------------------------------------------------

SAID = [
    ("40001", StoreUnavailable, Remedy.AGAIN), ("40P01", StoreUnavailable, Remedy.AGAIN),
    ("55P03", StoreUnavailable, Remedy.AGAIN), ("57014", StoreUnavailable, Remedy.NONE),
    ("57P01", StoreUnavailable, Remedy.RECONNECT), ("57P02", StoreUnavailable, Remedy.RECONNECT),
    ("57P03", StoreUnavailable, Remedy.NONE), ("53300", StoreUnavailable, Remedy.NONE),
    ("53400", StoreUnavailable, Remedy.NONE), ("53100", StoreFull, Remedy.NONE),
    ("25006", StoreReadOnly, Remedy.RECONNECT), ("08006", StoreUnavailable, Remedy.RECONNECT),
    ("08007", StoreUnavailable, Remedy.RECONNECT), ("40003", StoreUnavailable, Remedy.RECONNECT),
    ("28P01", StoreUnavailable, Remedy.NONE), ("3D000", StoreUnavailable, Remedy.NONE),
    ("42P01", StoreUnsupported, Remedy.NONE), ("XX001", StoreCorrupt, Remedy.NONE),
]  # fmt: skip


@pytest.mark.parametrize(("state", "kind", "helps"), SAID, ids=[state for state, _, _ in SAID])
def test_fault_p04_every_sqlstate_has_its_meaning(state, kind, helps):
    error = psycopg.errors.lookup(state)("said on purpose")

    found = translate(error, parse("postgresql://ada:secret@db.example/jobs"))

    assert (type(found), remedy(error)) == (kind, helps)
    assert str(found).startswith(f"PostgreSQL at db.example:5432/jobs says ({state}): said on purpose; ")
    assert "secret" not in str(found)


def raising(own, schema, state, times):
    """Have the next inserts of jobs fail with a SQLSTATE, so many times; a sequence counts also what is rolled back."""
    own.execute(
        f"CREATE SEQUENCE {schema}.faults",
        f"""CREATE FUNCTION {schema}.fault() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF nextval('{schema}.faults') <= {times} THEN
                    RAISE EXCEPTION 'on purpose' USING ERRCODE = '{state}';
                END IF;
                RETURN NEW;
            END $$""",
        f"CREATE TRIGGER fault BEFORE INSERT ON {schema}.jobs FOR EACH STATEMENT EXECUTE FUNCTION {schema}.fault()",
    )


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
async def test_fault_p04_what_another_transaction_broke_is_said_again(own, place, state):
    async with opened(place) as store:
        raising(own, store._location.schema, state, 3)

        [added] = await store.add([new("a")])

        assert added.created
        assert await figures(store) == {"waiting": 1}
        assert await store.audit() == []


@pytest.mark.parametrize("state", ["57014", "53400", "25006", "53100"])
async def test_fault_p04_what_cannot_be_helped_is_told_and_the_next_verb_works(own, place, state):
    async with opened(place) as store:
        raising(own, store._location.schema, state, 2 if state == "25006" else 1)

        with pytest.raises(StoreError, match=state):
            await store.add([new("a")])

        assert await figures(store) == {}
        [added] = await store.add([new("a")])
        assert added.created


async def test_fault_p04_a_deadlock_is_broken_and_said_again(own, place):
    """Two who settle the same jobs in opposite order, again and again."""
    own.execute("ALTER ROLE muskox SET deadlock_timeout = '10ms'")
    try:
        async with opened(place) as store, opened(place) as another, asyncio.timeout(LIMIT):
            for turn in range(10):
                await store.add([new(f"{turn}-{number}") for number in range(50)])
                jobs = await store.claim(ANY, limit=50, worker="w", lease=60)
                there = [Complete(job.lease) for job in jobs]
                back = [Complete(job.lease, keep=60) for job in reversed(jobs)]
                renewing = store.renew([job.lease for job in reversed(jobs)], lease=60)
                await asyncio.gather(store.settle(there), another.settle(back), renewing)
            assert await figures(store) == {"completed": 500}
            assert await store.audit() == []
    finally:
        own.execute("ALTER ROLE muskox RESET ALL")


MOVED = {
    "complete": (lambda store, lease: store.settle([Complete(lease, "1")]), "completed"),
    "complete and keep": (lambda store, lease: store.settle([Complete(lease, "1", keep=60)]), "completed"),
    "fail": (lambda store, lease: store.settle([Fail(lease, BROKEN)]), "failed"),
    "release": (lambda store, lease: store.settle([Release(lease)]), "waiting"),
    "renew": (lambda store, lease: store.renew([lease], lease=60), "active"),
    "annotate": (lambda store, lease: store.annotate([Note(lease, progress="5")]), "active"),
    "cancel": (lambda store, lease: store.cancel(Selection("files", ids=("a",))), "cancelled"),
    "cancel all": (lambda store, lease: store.cancel(Selection("files")), "cancelled"),
    "remove": (lambda store, lease: store.remove(Selection("files", ids=("a",))), None),
}


@pytest.mark.parametrize("verb", MOVED)
async def test_a_verb_that_waited_for_a_row_finds_it_where_it_has_gone(own, place, verb):
    """A renewal writes the row anew in another place while the verb waits for it: nothing is counted and not done."""
    say, expected = MOVED[verb]
    async with opened(place) as store, asyncio.timeout(LIMIT):
        await store.add([new("a")])
        [job] = await store.claim(ANY, limit=1, worker="w", lease=60)
        with psycopg.connect(own.url) as tx:
            tx.execute(f"UPDATE {store._location.schema}.jobs SET lease_until = lease_until + 1")
            saying = asyncio.create_task(say(store, job.lease))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            while own.execute(waiting) != [(1,)]:  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.01)
            tx.commit()

        assert await saying in ([], 1)
        assert await figures(store) == ({} if expected is None else {expected: 1})
        [kept] = await store.get("files", ["a"])
        assert (kept and str(kept.state)) == expected
        assert await store.audit() == []


async def test_fault_p06_more_stores_than_connections_take_turns():
    """Sixteen stores of five connections each want eighty; the server has ten."""
    with postgres.server(max_connections="10", **postgres.FAST) as server:
        stores = [open_store(f"{server.url}?listen=no", RealWorld()) for _ in range(16)]
        try:
            async with asyncio.timeout(LIMIT):
                await stores[0].open()
                for store in stores:
                    await store.add([new(f"first-{stores.index(store)}")])
                    await store.close()
                stores = [open_store(f"{server.url}?listen=no&patience=30", RealWorld()) for _ in range(8)]
                adding = [
                    store.add([new(f"{number}-{each}")]) for number, store in enumerate(stores) for each in range(20)
                ]
                await asyncio.gather(*adding)
            assert await figures(stores[0]) == {"waiting": 176}
        finally:
            for store in stores:
                await store.close()


async def test_fault_p06_a_server_without_a_free_connection_says_so():
    with postgres.server(max_connections="5", superuser_reserved_connections="1", **postgres.FAST) as server:
        with contextlib.ExitStack() as held:
            for _ in range(5):
                held.enter_context(psycopg.connect(server.url))
            store = open_store(f"{server.url}?patience=1", RealWorld())
            with pytest.raises(StoreUnavailable, match=r"gave no answer|no connection is left"):
                await store.open()
        async with opened(server.url):
            pass
        await store.close()


@pytest.mark.parametrize("settings", [(), ("enable_indexscan", "enable_hashjoin"), ("enable_nestloop", "enable_sort")])
async def test_fault_p08_no_claim_takes_more_than_it_was_asked_for_whatever_the_plan(own, place, settings):
    for setting in settings:
        own.execute(f"ALTER ROLE muskox SET {setting} = off")
    try:
        async with opened(place) as store, asyncio.timeout(LIMIT):
            await store.add([new(number, priority=number % 3) for number in range(200)])
            own.execute(f"ANALYZE {store._location.schema}.jobs")
            claims = await asyncio.gather(*(store.claim(ANY, limit=7, worker="w", lease=60) for _ in range(20)))

            assert max(len(claim) for claim in claims) <= 7
            ids = [job.id for claim in claims for job in claim]
            assert len(ids) == len(set(ids))
            assert len(ids) >= 100
            assert await store.audit() == []
    finally:
        own.execute("ALTER ROLE muskox RESET ALL")


async def test_a_standby_is_refused_at_the_door(own):
    """Told by a server that is made to look like one."""
    own.execute("ALTER ROLE muskox SET default_transaction_read_only = on")
    try:
        with pytest.raises(StoreReadOnly, match=r"25006.*primary"):
            await open_store(f"{own.url}?schema=never_made", RealWorld()).open()
    finally:
        own.execute("SET default_transaction_read_only = off", "ALTER ROLE muskox RESET ALL")


# --- text that PostgreSQL cannot hold -----------------------------------------------------


async def test_fault_p17_what_postgresql_cannot_hold_is_kept_in_another_form(own, place):
    async with opened(place) as store:
        await store.add([new("a", data='"\\u0000\\ud800"')])
        [job] = await store.claim(ANY, limit=1, worker="w", lease=60)
        await store.annotate([Note(job.lease, progress='"\\u0000"', lines=("a\x00b", "\ud800"))])
        await store.settle([Fail(job.lease, Failure(FailureKind.ERROR, "E", "nul \x00", "trace \x00"))])

        kept = await one(store, "a")
        assert (kept.data_text, kept.progress_text) == ('"\\u0000\\ud800"', '"\\u0000"')
        assert kept.failure.message == "nul \x00"
        assert [line.text for line in await store.logs("files", "a")] == ["a\u2400b", "?"]
        assert [event.failure.message for event in await events(store) if event.kind == "failed"] == ["nul \x00"]


async def test_fault_p17_seventy_thousand_jobs_in_one_call_are_no_parameters_too_many(own, place):
    async with opened(place) as store:
        added = await store.add([new(number) for number in range(70_000)])

        assert len(added) == 70_000
        assert await figures(store) == {"waiting": 70_000}


# --- migrations ---------------------------------------------------------------------------


async def test_fault_v02_stores_that_are_opened_at_once_migrate_once(own, place):
    stores = [open_store(place, RealWorld()) for _ in range(6)]
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*(store.open() for store in stores))
    await stores[0].add([new("a")])
    assert await figures(stores[1]) == {"waiting": 1}
    assert await stores[2].migrate() == []
    for store in stores:
        await store.close()


async def test_fault_v02_a_migration_that_is_cut_off_is_done_again(own, place):
    async with asyncio.timeout(LIMIT):
        for _ in range(5):
            store = open_store(place, RealWorld())
            opening = asyncio.create_task(store.open())
            await asyncio.to_thread(
                own.execute,
                "SELECT pg_sleep(0.01)",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'muskox'",
            )
            with contextlib.suppress(StoreUnavailable):
                await opening
            await store.close()
    async with opened(place) as store:
        await store.add([new("a")])
        assert await store.audit() == []


async def test_fault_v04_a_schema_of_a_later_release_is_refused(own, place):
    async with opened(place) as store:
        schema = store._location.schema
    own.execute(f"INSERT INTO {schema}.migrations (name) VALUES ('9999')")

    with pytest.raises(StoreUnsupported, match=r"9999.*upgrade Muskox"):
        await open_store(place, RealWorld()).open()


async def test_migrations_by_hand_only(own, place):
    store = open_store(f"{place}&migrate=no", RealWorld())
    with pytest.raises(StoreUnsupported, match="run `muskox migrate`"):
        await store.open()
    assert (await store.migrate())[0] == "0001"
    await store.open()
    await store.close()


# --- security -----------------------------------------------------------------------------


async def test_fault_s14_a_password_is_in_no_error(own):
    url = f"postgresql://muskox:s3cr3t@127.0.0.1:{own.port}/not_there"
    with pytest.raises(StoreUnavailable, match="no such database") as found:
        await open_store(url, RealWorld()).open()

    assert "s3cr3t" not in f"{found.value} {found.value.__cause__}"
    with pytest.raises(OptionError) as refused:
        open_store("postgresql://muskox:s3cr3t%zz@host/x", RealWorld())
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize("schema", ["Bad", "a b", 'a"b', "pg_x", "", "x" * 60, "a;drop"])
def test_fault_s17_a_schema_is_a_plain_name(schema):
    with pytest.raises(OptionError, match="schema"):
        open_store(f"postgresql://localhost/jobs?schema={schema}", RealWorld())


async def test_fault_s19_a_hostile_search_path_is_not_followed(own, place):
    """Somebody's functions and tables stand before those that are built in."""
    own.execute(
        "CREATE SCHEMA IF NOT EXISTS evil",
        "CREATE OR REPLACE FUNCTION evil.to_json(text) RETURNS json LANGUAGE sql AS $$SELECT '\"hijacked\"'::json$$",
        "CREATE OR REPLACE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
        "AS $$SELECT 'epoch'::timestamptz$$",
        "CREATE TABLE IF NOT EXISTS evil.jobs (id text)",
        "ALTER ROLE muskox SET search_path = evil, pg_catalog",
    )
    try:
        async with opened(place) as store:
            await store.add([new("a")])
            [job] = await store.claim(ANY, limit=1, worker="w", lease=60)
            assert await store.settle([Complete(job.lease)]) == []

            told = [(event.kind, getattr(event, "job_id", "")) for event in await events(store)]
            assert told == [("waiting", "a"), ("active", "a"), ("drained", ""), ("completed", "a")]
            assert (await one(store, "a")).added_at.year > 2000
    finally:
        own.execute("ALTER ROLE muskox RESET ALL", "DROP SCHEMA evil CASCADE")


async def test_fault_p15_two_schemas_in_one_database_know_nothing_of_each_other(own):
    with postgres.schema(own.url) as first, postgres.schema(own.url) as second:
        async with opened(first) as one_store, opened(second) as other:
            await one_store.add([new("a")])

            assert await figures(other) == {}
            assert await other.claim(ANY, limit=1, worker="w", lease=60) == []
            assert await events(other) == []


async def test_fault_p15_a_schema_that_is_dropped_is_told_and_made_anew_by_migrating(own, place):
    async with opened(place) as store:
        await store.add([new("a")])
        own.execute(f"DROP SCHEMA {place.rpartition('=')[2]} CASCADE")
        with pytest.raises(StoreUnsupported, match=r"run `muskox migrate`"):
            await store.add([new("b")])
        with pytest.raises(StoreUnsupported, match=r"run `muskox migrate`"):
            await store.counts()

        async with opened(place) as another:
            await another.add([NewJob("c", "mail", "welcome")])
        await store.add([new("b")])
        assert await figures(store) == {"waiting": 1}
        assert await store.audit() == []


async def test_a_user_with_the_least_rights_can_do_everything_but_migrate(own, place):
    async with opened(place) as owner:
        schema = owner._location.schema
    own.execute(
        "DROP ROLE IF EXISTS app",
        "CREATE ROLE app LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO app",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO app",
        f"GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO app",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO app",
    )
    try:
        async with opened(place.replace("muskox@", "app@")) as store:
            await store.add([new("a"), new("b", delay=60)])
            jobs = await store.claim(ANY, limit=1, worker="w", lease=60)
            assert await store.renew([job.lease for job in jobs], lease=60) == []
            assert await store.settle([Complete(job.lease) for job in jobs]) == []
            await store.pause("files", True)
            await asyncio.gather(store.promote(), store.recover(), store.clear({}))
            assert await figures(store) == {"completed": 1, "delayed": 1}
            assert await store.audit() == []
        with pytest.raises(StoreUnavailable, match="42501"):
            await open_store(place.replace("muskox@", "app@") + "x", RealWorld()).open()
    finally:
        own.execute("DROP OWNED BY app", "DROP ROLE app")
