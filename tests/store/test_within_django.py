"""Adding inside Django's transaction: `within=django.db.connection` in a view, `transaction.atomic()` around it."""

from __future__ import annotations

import asyncio

import django
import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from sqlalchemy.engine import make_url

from muskox import Muskox
from muskox.core.errors import OptionError
from muskox.core.job import JobState, NewJob
from tests import engines
from tests.servers import postgres
from tests.store.reading import events, figures, one

BACKENDS = {"sqlite": "sqlite3", "postgresql": "postgresql", "postgres": "postgresql"}


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture
def store(shared):
    if not shared[1].traits.within:
        pytest.skip("this store cannot add within the caller's transaction")
    return shared[1]


@pytest.fixture(autouse=True)
def users(here, store, shared):
    """Have Django use the database of the store, with a table of its own in it; gives the names in that table."""
    if not settings.configured:
        settings.configure(USE_TZ=True, LOGGING_CONFIG=None)
        django.setup()
    url = make_url(postgres.direct(shared[0]))
    given = {
        "ENGINE": f"django.db.backends.{BACKENDS[url.drivername]}", "NAME": url.database, "USER": url.username or "",
        "PASSWORD": url.password or "", "HOST": url.host or url.query.get("host", ""), "PORT": url.port or "",
        "OPTIONS": {"options": told} if (told := engines.settings(shared[0])) else {},
    }  # fmt: skip
    connections.settings = connections.configure_settings({"default": given})
    made = []
    connection_created.connect(lambda connection, **_: made.append(connection), weak=False, dispatch_uid="made")
    execute("CREATE TABLE users (name TEXT)")
    yield lambda: [name for (name,) in execute("SELECT name FROM users").fetchall()]
    connection.close()
    del connections["default"]
    connection_created.disconnect(dispatch_uid="made")
    for opened in made:  # what the test has opened is another one, since it runs in a context of its own
        if opened.connection is not None:
            opened.connection.close()


def execute(statement):
    cursor = connection.cursor()
    cursor.execute(statement)
    return cursor


def new(id="a", **fields):
    return NewJob(id, "files", "resize", **fields)


@pytest.fixture
def here(monkeypatch):
    """Let the test's own thread, in which a loop runs, speak to the database."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


async def test_rows_and_jobs_are_committed_together(store, users):
    with transaction.atomic():
        execute("INSERT INTO users VALUES ('ada')")
        [added] = store.add_within([new(data="1")], connection)
        assert await store.get("files", ["a"]) == [None]

    assert (users(), await one(store, "a")) == (["ada"], added.job)
    assert added.job.state is JobState.WAITING
    assert await store.audit() == []


async def test_rolled_back_the_job_never_existed(store, users):
    with pytest.raises(Rollback), transaction.atomic():  # noqa: PT012 - the block is what is undone
        execute("INSERT INTO users VALUES ('ada')")
        store.add_within([new()], connection)
        raise Rollback

    assert (users(), await figures(store), await events(store)) == ([], {}, [])


async def test_an_inner_block_that_is_rolled_back_takes_its_job_along(store):
    with transaction.atomic():
        store.add_within([new("outer")], connection)
        with pytest.raises(Rollback), transaction.atomic():  # noqa: PT012 - as above
            store.add_within([new("inner")], connection)
            raise Rollback
        store.add_within([new("after")], connection)

    assert [event.job_id for event in await events(store)] == ["outer", "after"]
    assert await store.audit() == []


async def test_a_connection_by_its_alias_is_taken(store):
    with transaction.atomic():
        store.add_within([new()], connections["default"])

    assert await figures(store) == {"waiting": 1}


async def test_outside_of_atomic_it_is_refused(store):
    """Django commits each statement by itself there, and a crash between two of them would leave half a job."""
    connection.ensure_connection()
    with pytest.raises(OptionError, match=r"no transaction.*atomic"):
        store.add_within([new()], connection)

    assert await figures(store) == {}


async def test_a_connection_that_is_not_open_is_refused(store):
    connection.close()
    with pytest.raises(OptionError, match=r"within= .*atomic"):
        store.add_within([new()], connection)


async def test_a_view_adds_by_the_blocking_verb(store, shared, users):
    ox = Muskox(shared[0])

    def view():
        try:
            with transaction.atomic():
                execute("INSERT INTO users VALUES ('ada')")
                return ox.queue("files").sync.add("resize", {"width": 5}, within=connection)
        finally:
            connection.close()
            ox.sync.close()

    added = await asyncio.to_thread(view)

    assert users() == ["ada"]
    assert (await one(store, added.id)).data == {"width": 5}
