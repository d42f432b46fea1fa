"""The outbox: a job is stored when the application's rows are committed, and only then, and once."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.schema import CreateTable

from muskox import DataError, Dedup, Exponential, JobState, Muskox, OptionError, StoreUnavailable
from muskox.contrib import _relay
from muskox.contrib._tables import Tables
from muskox.contrib.outbox import Outbox
from muskox.testing import FakeWorld, FlakyStore
from tests import engines
from tests.contrib.conftest import STORES, rows

LIMIT = 20


class Undo(Exception):
    """Raised by a test to roll back."""


@pytest.fixture
def emails(ox):
    return ox.queue("email")


async def until(fact):
    async with asyncio.timeout(LIMIT):
        while not await fact():  # noqa: ASYNC110 - a fact in a database sets no event
            await asyncio.sleep(0)


# --- adding ---------------------------------------------------------------------------------


async def test_a_job_is_relayed_after_the_commit(outbox, emails, engine, database):
    with engine.begin() as tx:
        tx.execute(sa.text(f"INSERT INTO {database.users} VALUES ('ada')"))
        new = outbox.sync.add(tx, emails, "welcome", {"to": "ada"}, priority=5, attempts=3, backoff=Exponential(2))
        assert await emails.get(new.id) is None

    assert await outbox.relay() == 1

    job = await emails.get(new.id)
    assert (job.state, job.name, job.data, job.priority) == (JobState.WAITING, "welcome", {"to": "ada"}, 5)
    assert (job.attempts, job.options.backoff) == (3, Exponential(2))
    assert rows(engine, outbox.tables.jobs.name) == 0
    assert rows(engine, database.users) == 1


async def test_rolled_back_the_job_never_existed(outbox, emails, engine):
    with pytest.raises(Undo), engine.begin() as tx:  # noqa: PT012 - the block is what is undone
        outbox.sync.add(tx, emails, "welcome")
        raise Undo

    assert await outbox.relay() == 0
    assert (await emails.counts()).total == 0


WAYS = {
    "connection": lambda engine: engine.connect(),
    "session": Session,
    "scoped": lambda engine: scoped_session(sessionmaker(engine)),
}


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("way", WAYS)
async def test_blocking_connections_and_sessions_are_taken(outbox, emails, engine, way):
    tx = WAYS[way](engine)
    new = outbox.sync.add(tx, emails, "welcome")
    again = await outbox.add(tx, emails, "welcome")
    tx.commit()
    outbox.sync.add(tx, emails, "welcome")
    tx.rollback()
    tx.close()

    assert await outbox.relay() == 2
    assert [job.id for job in (await emails.find()).jobs] == [new.id, again.id]


ASYNC_WAYS = {
    "connection": lambda engine: engine.connect(),
    "session": AsyncSession,
    "scoped": lambda engine: async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task),
}


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("way", ASYNC_WAYS)
async def test_asynchronous_connections_and_sessions_are_taken(outbox, emails, async_engine, way):
    tx = ASYNC_WAYS[way](async_engine)
    if way == "connection":
        await tx.start()
    new = await outbox.add(tx, emails, "welcome")
    await tx.commit()
    await outbox.add(tx, emails, "welcome")
    await tx.rollback()
    with pytest.raises(OptionError, match=r"is asynchronous; give it to await outbox\.add"):
        outbox.sync.add(tx, emails, "welcome")
    await tx.close()

    assert await outbox.relay() == 1
    assert [job.id for job in (await emails.find()).jobs] == [new.id]


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_what_is_wrong_is_refused_when_it_is_added(outbox, emails, engine):
    with engine.begin() as tx:
        for wrong in ({"attempts": 0}, {"delay": -1}, {"nonsense": 1}, {"priority": "high"}):
            with pytest.raises(OptionError):
                outbox.sync.add(tx, emails, "welcome", **wrong)
        with pytest.raises(DataError):
            outbox.sync.add(tx, emails, "welcome", {"to": object()})
    for given in (None, engine, "tx"):
        with pytest.raises(OptionError, match="an outbox takes a connection or session"):
            outbox.sync.add(given, emails, "welcome")

    assert rows(engine, outbox.tables.jobs.name) == 0


async def test_what_a_processor_declares_counts(outbox, emails, engine):
    @emails.processor(attempts=7, priority=3)
    async def welcome(to: str) -> None: ...

    with engine.begin() as tx:
        outbox.sync.add_many(tx, [welcome.new(to="ada")])
    await outbox.relay()

    [job] = (await emails.find()).jobs
    assert (job.attempts, job.priority, job.data) == (7, 3, {"to": "ada"})


async def test_jobs_keep_the_order_in_which_they_were_added(outbox, ox, emails, engine, monkeypatch, herd):
    monkeypatch.setattr(_relay, "BATCH", 7)
    ids = []
    for _ in range(5):
        with engine.begin() as tx:
            ids += [new.id for new in outbox.sync.add_many(tx, [emails.new("welcome") for _ in range(5)])]

    assert [await outbox.relay() for _ in range(5)] == [7, 7, 7, 4, 0]
    assert list(await herd.run()) == ids


async def test_jobs_of_several_queues_are_relayed_together(outbox, ox, engine):
    with engine.begin() as tx:
        outbox.sync.add_many(tx, [ox.queue("email").new("a"), ox.queue("files").new("b")])

    assert await outbox.relay() == 2
    assert {counts.queue: counts.waiting for counts in await ox.counts() if counts.waiting} == {"email": 1, "files": 1}


async def test_an_id_that_is_known_is_relayed_once(outbox, emails, engine):
    for data in (1, 2):
        with engine.begin() as tx:
            outbox.sync.add(tx, emails, "welcome", data, id="daily")

    await outbox.relay()

    assert [(job.id, job.data) for job in (await emails.find()).jobs] == [("daily", 1)]


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_blocking_code_relays_too(outbox, emails, engine):
    with engine.begin() as tx:
        new = outbox.sync.add(tx, emails, "welcome")

    assert await asyncio.to_thread(outbox.sync.relay) == 1
    assert await emails.get(new.id) is not None


async def test_a_turn_leaves_nothing_behind(outbox, ox, emails, engine):
    with engine.begin() as tx:
        outbox.sync.add(tx, emails, "welcome")
    await outbox.relay()

    assert (await ox.queue(_relay.QUEUE).counts()).total == 0
    assert await outbox.relay() == 0


class TestWithAClock:
    @pytest.fixture
    def world(self):
        return FakeWorld(seed=1)

    async def test_a_delay_counts_from_when_the_job_was_added(self, outbox, emails, engine, clock):
        with engine.begin() as tx:
            later = outbox.sync.add(tx, emails, "welcome", delay=60)
            soon = outbox.sync.add(tx, emails, "welcome", delay=5)
        before = clock.now()
        clock.advance(20)

        await outbox.relay()

        job = await emails.get(later.id)
        assert (job.state, job.due_at.timestamp()) == (JobState.DELAYED, before + 60)
        assert (await emails.get(soon.id)).state is JobState.WAITING


# --- waking ---------------------------------------------------------------------------------


async def there(emails, new):
    return await emails.get(new.id) is not None


async def test_a_commit_wakes_the_relay(ox, emails, engine, database):
    """Which else would look in an hour."""
    outbox = Outbox(ox, engine, name=database.table, poll=3600)
    await outbox.create_tables()

    async with outbox.relaying():
        for way in WAYS.values():
            tx = way(engine)
            new = outbox.sync.add(tx, emails, "welcome")
            tx.commit()
            tx.close()
            await until(lambda new=new: there(emails, new))


async def test_an_asynchronous_commit_wakes_the_relay(ox, emails, async_engine, database):
    outbox = Outbox(ox, async_engine, name=database.table, poll=3600)
    await outbox.create_tables()

    async with outbox.relaying():
        async with async_engine.begin() as tx:
            new = await outbox.add(tx, emails, "welcome")
        await until(lambda: there(emails, new))
        async with AsyncSession(async_engine) as tx:
            new = await outbox.add(tx, emails, "welcome")
            await tx.commit()
        await until(lambda: there(emails, new))


async def test_what_others_commit_is_seen_at_the_next_look(ox, emails, engine, database, outbox):
    watching = Outbox(ox, engine, name=database.table, poll=0.05)
    other = engines.engine(database.url)

    async with watching.relaying():
        with other.begin() as tx:
            new = Outbox(ox, other, name=database.table).sync.add(tx, emails, "welcome")
        await until(lambda: there(emails, new))
    other.dispose()


async def test_the_relay_is_woken_by_hand(ox, emails, engine, database):
    outbox = Outbox(ox, engine, name=database.table, poll=3600)
    await outbox.create_tables()
    other = engines.engine(database.url)

    async with outbox.relaying():
        with other.begin() as tx:
            new = outbox.sync.add(tx, emails, "welcome")
        outbox.wake()
        await until(lambda: there(emails, new))
    other.dispose()


# --- several, and trouble -----------------------------------------------------------------------


async def test_two_relays_at_once_double_nothing(ox, emails, engine, database, outbox, herd, monkeypatch):
    monkeypatch.setattr(_relay, "BATCH", 3)
    others = [Outbox(ox, engines.engine(database.url), name=database.table, poll=0.01) for _ in range(3)]
    ids = set()
    async with AsyncExitStack() as stack:
        for other in others:
            await stack.enter_async_context(other.relaying())
        for _ in range(20):
            with engine.begin() as tx:
                ids |= {new.id for new in outbox.sync.add_many(tx, [emails.new("welcome") for _ in range(4)])}
            await herd.run()

        async def all_ran():
            return len(await herd.run()) == len(ids)

        await until(all_ran)

    assert herd.ran == dict.fromkeys(ids, 1)
    assert rows(engine, outbox.tables.jobs.name) == 0
    for other in others:
        other.engine.dispose()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
async def test_an_engine_of_another_isolation_is_used_in_ours(
    ox, emails, engine, async_engine, outbox, database, level, monkeypatch
):
    other = Outbox(ox, async_engine.execution_options(isolation_level=level), name=database.table)
    add, seen = ox.add_many, []
    with engine.begin() as tx:
        outbox.sync.add(tx, emails, "welcome")

    async def beside(jobs):
        seen.append(await outbox.relay())
        return await add(jobs)

    monkeypatch.setattr(ox, "add_many", beside)

    assert await other.relay() == 1
    assert (seen, (await emails.counts()).waiting) == ([0], 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", ["sqlite"])
async def test_an_engine_that_commits_by_itself_is_refused(ox, emails, engine, outbox, database):
    other = engines.engine(database.url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.begin() as tx:
        outbox.sync.add(tx, emails, "welcome")

    with pytest.raises(OptionError, match="commits every statement by itself"):
        await Outbox(ox, other, name=database.table).relay()
    assert (await emails.counts()).total == 0
    assert await outbox.relay() == 1
    other.dispose()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_relay_leaves_the_rows_to_another_that_is_at_them(outbox, emails, engine):
    with engine.begin() as tx:
        outbox.sync.add(tx, emails, "welcome")
    await outbox.relay()
    with engine.begin() as tx:
        outbox.sync.add(tx, emails, "welcome")

    with engine.begin() as tx:
        tx.execute(sa.select(outbox.tables.relay).with_for_update())
        assert await outbox.relay() == 0
    assert await outbox.relay() == 1


async def test_a_row_that_is_damaged_holds_up_nobody(outbox, emails, engine, caplog):
    with engine.begin() as tx:
        tx.execute(sa.insert(outbox.tables.jobs), [{"job": "x", "queue": "email", "name": "y", "body": "{bad"}])
        new = outbox.sync.add(tx, emails, "welcome")

    assert [await outbox.relay() for _ in range(3)] == [1, 0, 0]

    assert await emails.get(new.id) is not None
    assert rows(engine, outbox.tables.jobs.name) == 1
    assert [record.getMessage().partition(":")[0] for record in caplog.records if record.levelname == "ERROR"] == [
        "row 1 of the outbox, job x, is damaged and stays there"
    ]


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_store_that_is_away_is_waited_for(ox, emails, engine, database, caplog):
    outbox = Outbox(ox, engine, name=database.table, poll=0.01)
    await outbox.create_tables()
    with engine.begin() as tx:
        new = outbox.sync.add(tx, emails, "welcome")
    flaky = ox.wrap_store(FlakyStore)
    flaky.down = True

    with caplog.at_level(logging.WARNING, "muskox.outbox"):
        async with outbox.relaying():

            async def said():
                return len(caplog.records) >= 2

            await until(said)
            flaky.down = False
            await until(lambda: there(emails, new))

    assert "stay in the outbox" in caplog.records[0].getMessage()


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_an_answer_that_is_lost_doubles_nothing(ox, emails, engine, outbox, herd):
    with engine.begin() as tx:
        new = outbox.sync.add(tx, emails, "welcome")
    await outbox.relay()
    with engine.begin() as tx:
        other = outbox.sync.add(tx, emails, "welcome")
    flaky = ox.wrap_store(FlakyStore)
    flaky.lose_answers = 1.0
    with pytest.raises(StoreUnavailable):
        await outbox.relay()
    flaky.lose_answers = 0.0
    await herd.run()

    assert rows(engine, outbox.tables.jobs.name) in {0, 1}
    await outbox.relay()
    await outbox.relay()

    assert await herd.run() == {new.id: 1, other.id: 1}
    assert (await ox.queue(_relay.QUEUE).counts()).total == 0


async def test_a_relay_that_is_cancelled_leaves_all_in_order(outbox, ox, emails, engine, herd, monkeypatch):
    """At each of its steps in turn: an await that it comes to is where it ends."""
    ids = []
    for step in range(1, 12):
        with engine.begin() as tx:
            ids.append(outbox.sync.add(tx, emails, "welcome").id)
        task = asyncio.create_task(outbox.relay())
        for _ in range(step * 3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await herd.run()
    async with asyncio.timeout(LIMIT):
        while rows(engine, outbox.tables.jobs.name):
            await outbox.relay()

    assert await herd.run() == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_an_outbox_in_the_file_of_the_jobs_is_refused(tmp_path, database, engine):
    async with Muskox(f"sqlite:///{tmp_path}/shop.db") as ox:
        outbox = Outbox(ox, engine)
        with pytest.raises(OptionError, match=r"the same file as the outbox, .*shop\.db; add them with within="):
            await outbox.relay()
        with pytest.raises(OptionError, match="the same file"):
            async with outbox.relaying():
                pass


# --- tables ---------------------------------------------------------------------------------


async def test_the_tables_join_the_metadata_of_the_application(ox, engine, database):
    metadata = sa.MetaData()
    Outbox(ox, engine, metadata=metadata, name=database.table)

    assert set(metadata.tables) == {database.table, f"{database.table}_relay"}
    metadata.create_all(engine)
    metadata.drop_all(engine)


async def test_making_the_tables_twice_is_making_them_once(outbox, ox, async_engine, database):
    await outbox.create_tables()
    await Outbox(ox, async_engine, name=database.table).create_tables()
    with pytest.raises(OptionError, match="has an asynchronous engine; use the async verb"):
        Outbox(ox, async_engine, name=database.table).sync.create_tables()


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        (mysql.dialect(), "`body` MEDIUMTEXT NOT NULL|body MEDIUMTEXT NOT NULL"),
        (postgresql.dialect(), "id BIGSERIAL NOT NULL"),
        (sqlite.dialect(), "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"),
    ],
    ids=["mysql", "postgresql", "sqlite"],
)
def test_the_tables_are_plain_in_every_database(dialect, said):
    tables = Tables(sa.MetaData(), "outbox")

    made = str(CreateTable(tables.jobs).compile(dialect=dialect))

    assert any(part in made for part in said.split("|")), made
    assert "VARCHAR(255)" in made


@pytest.mark.parametrize("kind", STORES[:1])
@pytest.mark.parametrize(("given", "said"), [({"engine": 5}, "engine must be"), ({"poll": 0}, "poll must be")])
async def test_an_outbox_that_cannot_be_is_refused(ox, engine, given, said):
    with pytest.raises(OptionError, match=said):
        Outbox(ox, **{"engine": engine, **given})


# --- dedup keys -----------------------------------------------------------------------------


async def test_mission_a20_what_is_relayed_has_its_dedup_key(outbox, emails, engine):
    with engine.begin() as tx:
        first = outbox.sync.add(tx, emails, "welcome", dedup="ada")
        outbox.sync.add(tx, emails, "welcome", dedup="ada")
        other = outbox.sync.add(tx, emails, "welcome", dedup=Dedup("bob", then="replace"))

    assert await outbox.relay() == 3

    assert {job.id for job in (await emails.find()).jobs} == {first.id, other.id}
    assert rows(engine, outbox.tables.jobs.name) == 0


async def test_a_job_that_may_be_refused_is_not_taken(outbox, emails, engine):
    with engine.begin() as tx, pytest.raises(OptionError, match="nobody"):
        outbox.sync.add(tx, emails, "welcome", dedup=Dedup("ada", then="reject"))
