"""Jobs added within the caller's own transaction, by every way to add."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.orm import Session, sessionmaker

from muskox import JobState, Muskox, OptionError
from muskox.testing import run_jobs


class Undo(Exception):
    """Raised by a test to roll back."""


@pytest.fixture
async def ox(url: str):
    async with Muskox(url) as app:
        await app.migrate()
        yield app
        assert await app.audit() == []


@pytest.fixture
def emails(ox: Muskox):
    return ox.queue("email")


@pytest.fixture
def welcome(emails):
    @emails.processor()
    async def welcome(email: str) -> str:
        return email

    return welcome


@pytest.fixture(params=["sqlite3", "connection", "session"])
def begin(request, url: str):
    """Opens a transaction, committed at the end of the block and rolled back by an exception."""
    if request.param == "sqlite3":
        connection = sqlite3.connect(Path(url.removeprefix("sqlite:///")))
        yield lambda: connection
        connection.close()
        return
    engine = sqlalchemy.create_engine(url)
    yield engine.begin if request.param == "connection" else sessionmaker(engine).begin
    engine.dispose()


WAYS = {
    "add": lambda emails, welcome, tx: emails.add("welcome", {"email": "a"}, within=tx),
    "add_many": lambda emails, welcome, tx: emails.add_many([("welcome", {"email": "a"})], within=tx),
    "processor": lambda emails, welcome, tx: welcome.options(within=tx).add("a"),
    "sync.add": lambda emails, welcome, tx: emails.sync.add("welcome", {"email": "a"}, within=tx),
    "sync.add_many": lambda emails, welcome, tx: emails.sync.add_many([welcome.new(email="a")], within=tx),
    "add_sync": lambda emails, welcome, tx: welcome.options(within=tx).add_sync("a"),
}


async def give(way: str, emails, welcome, tx) -> object:
    given = WAYS[way](emails, welcome, tx)
    return await given if hasattr(given, "__await__") else given


@pytest.mark.parametrize("way", WAYS)
async def test_a_job_added_within_a_transaction_is_there_when_that_is_committed(ox, emails, welcome, begin, way):
    with begin() as tx:
        await give(way, emails, welcome, tx)
        assert (await emails.counts()).total == 0

    assert (await emails.counts()).total == 1
    assert [job.result for job in await run_jobs(ox)] == ["a"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_job_added_within_a_transaction_was_never_there_when_that_is_rolled_back(emails, welcome, begin, way):
    with pytest.raises(Undo), begin() as tx:  # noqa: PT012 - the error is what ends the block
        await give(way, emails, welcome, tx)
        raise Undo

    assert (await emails.counts()).total == 0


def test_a_session_of_sqlalchemy_as_flask_uses_it(url):
    ox = Muskox(url)
    engine = sqlalchemy.create_engine(url)
    with Session(engine) as session:
        job = ox.queue("email").sync.add("welcome", within=session)
        session.commit()
    with Session(engine) as session:
        ox.queue("email").sync.add("welcome", within=session)
        session.rollback()

    assert [found.id for found in ox.queue("email").sync.find().jobs] == [job.id]
    engine.dispose()
    ox.sync.close()


@pytest.mark.parametrize("within", [5, "jobs.db", object()])
async def test_what_is_no_connection_is_refused(emails, within):
    with pytest.raises(OptionError, match="within= takes a connection or session on SQLite, of sqlite3"):
        await emails.add("welcome", within=within)


async def test_a_connection_to_another_database_is_refused(emails, tmp_path):
    with (
        closing(sqlite3.connect(tmp_path / "other.db")) as other,
        pytest.raises(OptionError, match=r"other\.db, but the jobs are kept in .*jobs\.db; a transaction covers one"),
    ):
        await emails.add("welcome", within=other)


async def test_jobs_in_memory_cannot_be_added_within_anything():
    async with Muskox("sqlite://:memory:") as ox:
        with (
            closing(sqlite3.connect(":memory:")) as other,
            pytest.raises(OptionError, match="cannot add inside a transaction of yours; leave within= out, or use"),
        ):
            await ox.queue("email").add("welcome", within=other)


@pytest.mark.parametrize("known", [False, True], ids=["new file", "file with jobs"])
def test_the_first_verb_of_a_program_may_be_within_a_transaction_that_holds_the_lock(tmp_path, known):
    url = f"sqlite:///{tmp_path}/shop.db"
    if known:
        before = Muskox(url)
        before.sync.migrate()
        before.sync.close()
    app = Muskox(url)

    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE users (name TEXT)")
        connection.execute("INSERT INTO users VALUES ('ada')")
        added = app.queue("email").sync.add("welcome", id="a", within=connection)

    assert added.state is JobState.WAITING
    assert app.queue("email").sync.get("a") == added
    assert app.sync.audit() == []
    app.sync.close()


def test_rolled_back_as_the_first_verb_the_job_and_the_tables_never_existed(tmp_path):
    app = Muskox(f"sqlite:///{tmp_path}/shop.db")

    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        app.queue("email").sync.add("welcome", id="a", within=connection)
        connection.rollback()
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    assert tables == (0,)
    assert app.queue("email").sync.get("a") is None
    app.sync.close()
