"""Adding inside the caller's own transaction: the job exists exactly when the caller's rows do."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy
from sqlalchemy.orm import sessionmaker

from muskox.core.dedup import Dedup
from muskox.core.errors import Duplicate, OptionError
from muskox.core.flows import NewFlow
from muskox.core.job import JobState, NewJob, Options
from muskox.core.life import Complete
from muskox.core.limits import Limits
from muskox.store.protocol import Want
from tests import engines
from tests.store.flowing import node, record, run_all
from tests.store.reading import events, everything, figures, kinds, one, state

LIMIT = 10


class Rollback(Exception):
    """Raised by a test to undo a transaction."""


@pytest.fixture(autouse=True)
def only_where_it_can_be(request):
    if "shared" in request.fixturenames and not request.getfixturevalue("shared")[1].traits.within:
        pytest.skip("this store cannot add within the caller's transaction")


@pytest.fixture
def store(shared):
    return shared[1]


@pytest.fixture
def engine(shared):
    made = engines.engine(shared[0])
    with made.begin() as tx:
        tx.execute(sqlalchemy.text("CREATE TABLE users (name TEXT)"))
    yield made
    made.dispose()


def insert(tx):
    tx.execute(sqlalchemy.text("INSERT INTO users VALUES ('ada')"))


def users(engine):
    with engine.connect() as tx:
        return tx.execute(sqlalchemy.text("SELECT count(*) FROM users")).scalar()


def new(id="a", **fields):
    return NewJob(id, "files", "resize", **fields)


@pytest.fixture(params=["connection", "session"])
def transaction(request, engine):
    """Opens a transaction in which users and jobs are written; committed at its end, rolled back by an exception."""
    if request.param == "connection":
        return engine.begin
    return sessionmaker(engine).begin


async def test_mission_c01_rows_and_jobs_are_committed_together(store, engine, transaction):
    with transaction() as tx:
        insert(tx)
        [added] = store.add_within([new(data="1")], tx)
        assert (added.created, added.job.state) == (True, JobState.WAITING)

    assert (users(engine), await figures(store)) == (1, {"waiting": 1})
    assert await one(store, "a") == added.job
    assert await kinds(store) == ["waiting"]
    assert await store.audit() == []


async def test_fault_p09_rolled_back_the_job_never_existed(store, engine, transaction):
    before = await everything(store)

    with pytest.raises(Rollback), transaction() as tx:  # noqa: PT012 - the block is what is undone
        insert(tx)
        store.add_within([new(), new("b", delay=60)], tx)
        raise Rollback

    assert (users(engine), await everything(store)) == (0, before)
    assert await store.claim([Want("files")], limit=5, worker="w", lease=30) == []
    assert await store.audit() == []


async def test_fault_p09_a_savepoint_that_is_rolled_back_takes_its_job_along(store, transaction):
    with transaction() as tx:
        store.add_within([new("outer")], tx)
        with pytest.raises(Rollback), tx.begin_nested():  # noqa: PT012 - as above
            store.add_within([new("inner")], tx)
            raise Rollback
        store.add_within([new("after")], tx)

    assert await store.get("files", ["inner"]) == [None]
    assert await figures(store) == {"waiting": 2}
    assert [event.job_id for event in await events(store)] == ["outer", "after"]
    assert [event.offset for event in await events(store)] == [1, 2]
    assert await store.audit() == []


async def test_a_job_is_not_seen_before_the_commit(store, transaction):
    with transaction() as tx:
        store.add_within([new()], tx)
        assert await store.get("files", ["a"]) == [None]
        assert await store.events(after=0) == []

    assert await state(store, "a") is JobState.WAITING


async def test_a_known_id_is_answered_with_what_is_there(store, transaction):
    await store.add([new(data="1")])

    with transaction() as tx:
        [again] = store.add_within([new(data="2")], tx)

    assert (again.created, again.job.data_text) == (False, "1")
    assert await figures(store) == {"waiting": 1}


async def test_mission_a14_a_commit_wakes_those_who_wait(store, transaction):
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        group.create_task(store.wait(["files"], seconds=3600))
        reading = group.create_task(store.events(after=0, seconds=3600))
        await asyncio.sleep(0)
        with transaction() as tx:
            store.add_within([new()], tx)

    assert [event.job_id for event in reading.result()] == ["a"]


async def test_what_was_added_within_runs_like_any_other(store, transaction):
    with transaction() as tx:
        store.add_within([new()], tx)

    [job] = await store.claim([Want("files")], limit=5, worker="w", lease=30)
    assert await store.settle([Complete(job.lease, "1")]) == []
    assert await store.audit() == []


async def test_many_jobs_are_added_within(store, transaction):
    with transaction() as tx:
        added = store.add_within([new(str(number), delay=number % 2) for number in range(500)], tx)

    assert [answer.job.id for answer in added] == [str(number) for number in range(500)]
    assert await figures(store) == {"waiting": 250, "delayed": 250}
    assert await store.audit() == []


class Odd:
    """Something that is no connection."""


@pytest.mark.parametrize(
    "given", [None, "sqlite:///x.db", 5, Odd(), object], ids=["none", "text", "number", "odd", "class"]
)
async def test_what_is_no_connection_is_refused(store, given):
    with pytest.raises(OptionError, match="within= takes a"):
        store.add_within([new()], given)


async def test_an_engine_is_refused_since_it_has_no_transaction(store, engine):
    with pytest.raises(OptionError, match="within= takes a"):
        store.add_within([new()], engine)


async def test_a_closed_connection_of_sqlalchemy_is_refused(store, engine):
    tx = engine.connect()
    tx.close()

    with pytest.raises(OptionError, match="closed"):
        store.add_within([new()], tx)


async def test_a_transaction_that_begins_with_the_job_is_the_callers_to_commit(store, engine):
    """SQLAlchemy begins it with the first statement that it hears of, and commits nothing where it heard of none."""
    with engine.connect() as tx:
        store.add_within([new("rolled-back")], tx)
        tx.rollback()
        store.add_within([new("committed")], tx)
        tx.commit()
        store.add_within([new("left")], tx)

    assert [job and job.id for job in await store.get("files", ["rolled-back", "committed", "left"])] == [
        None, "committed", None,
    ]  # fmt: skip
    assert await store.audit() == []


def keyed(id, **rule):
    return new(id, options=Options(dedup=Dedup("k", **rule)))


async def test_a_dedup_key_that_was_rolled_back_never_was(store, transaction):
    with pytest.raises(Rollback), transaction() as tx:  # noqa: PT012 - the block is what is undone
        store.add_within([keyed("a")], tx)
        raise Rollback

    with transaction() as tx:
        [first] = store.add_within([keyed("b")], tx)
        [second, other] = store.add_within([keyed("c"), new("d")], tx)
    [third] = await store.add([keyed("e")])

    assert (first.job.id, first.created) == ("b", True)
    assert (second.job.id, second.created, other.created) == ("b", False, True)
    assert (third.job.id, third.created) == ("b", False)
    assert await store.audit() == []


async def test_a_refusal_within_leaves_the_transaction_as_it_was(store, engine, transaction):
    await store.add([keyed("a")])

    with transaction() as tx:
        insert(tx)
        with pytest.raises(Duplicate):
            store.add_within([new("x"), keyed("b", then="reject")], tx)
        store.add_within([new("y")], tx)

    assert users(engine) == 1
    assert await store.get("files", ["b", "x"]) == [None, None]
    assert await figures(store) == {"waiting": 2}
    assert await store.audit() == []


async def test_what_is_remembered_is_added_within_the_transaction_that_ends_the_job(store, transaction):
    await store.add([keyed("a")])
    [job] = await store.claim([Want("files")], limit=1, worker="w", lease=30)
    await store.add([keyed("b", then="keep-last")])

    with pytest.raises(Rollback), transaction() as tx:  # noqa: PT012 - as above
        store.settle_within([Complete(job.lease)], tx)
        raise Rollback
    assert await figures(store) == {"active": 1}
    with transaction() as tx:
        store.settle_within([Complete(job.lease)], tx)

    assert await figures(store) == {"completed": 1, "waiting": 1}
    assert await store.audit() == []


# --- flows -------------------------------------------------------------------------------


async def test_a_flow_is_committed_with_the_callers_rows(store, engine, transaction):
    with transaction() as tx:
        insert(tx)
        added = store.grow_within(NewFlow("flow"), [node("a"), node("b", ["a"])], tx)
        assert [answer.job.state for answer in added] == [JobState.WAITING, JobState.BLOCKED]

    assert (users(engine), await figures(store)) == (1, {"waiting": 1, "blocked": 1})
    assert (await record(store)).total == 2
    assert await store.audit() == []
    assert await run_all(store) == ["a", "b"]


async def test_rolled_back_the_flow_never_existed(store, engine, transaction):
    before = await everything(store)

    with pytest.raises(Rollback), transaction() as tx:  # noqa: PT012 - the block is what is undone
        insert(tx)
        store.grow_within(NewFlow("flow"), [node("a"), node("b", ["a"])], tx)
        raise Rollback

    assert (users(engine), await everything(store)) == (0, before)
    assert (await store.flows()).flows == []
    assert await store.audit() == []


async def test_a_flow_that_is_refused_leaves_the_transaction_as_it_was(store, engine, transaction):
    with transaction() as tx:
        insert(tx)
        with pytest.raises(OptionError, match="which is not in"):
            store.grow_within(NewFlow("flow"), [node("a"), node("b", ["nobody"])], tx)

    assert users(engine) == 1
    assert (await store.flows()).flows == []
    assert await store.get("files", ["a"]) == [None]
    assert await store.audit() == []


async def test_children_of_a_job_that_is_completed_in_a_transaction_wait_when_it_is_committed(store, engine):
    await store.grow(NewFlow("flow"), [node("a"), node("b", ["a"])])
    [run] = await store.claim([Want("files")], limit=1, worker="w", lease=3600)

    with pytest.raises(Rollback), engine.begin() as tx:  # noqa: PT012 - the block is what is undone
        assert store.settle_within([Complete(run.lease, "5")], tx) == []
        raise Rollback
    assert await state(store, "b") is JobState.BLOCKED
    with engine.begin() as tx:
        assert store.settle_within([Complete(run.lease, "5")], tx) == []

    assert await state(store, "b") is JobState.WAITING
    assert [parent.result for parent in await store.parents("files", "b")] == [5]
    assert await store.audit() == []


# --- keys ----------------------------------------------------------------------------------


async def test_jobs_with_a_key_take_their_place_with_the_transaction_or_never_had_one(store, transaction):
    await store.limit("files", Limits(key_concurrency=1))
    with pytest.raises(Rollback), transaction() as tx:  # noqa: PT012 - as above
        store.add_within([new("a", key="acme")], tx)
        raise Rollback
    assert await store.keys("files") == []

    with transaction() as tx:
        added = store.add_within([new("b", key="acme"), new("c", key="acme"), new("d")], tx)

    assert [answer.job.state for answer in added] == [JobState.WAITING, JobState.BLOCKED, JobState.WAITING]
    [key] = await store.keys("files")
    assert (key.waiting, key.blocked, key.active) == (1, 1, 0)
    assert await store.audit() == []


async def test_a_completion_within_a_transaction_gives_the_slot_of_its_key_back_with_it(store, transaction):
    await store.limit("files", Limits(key_concurrency=1))
    await store.add([new("a", key="acme"), new("b", key="acme")])
    [job] = await store.claim([Want("files")], limit=5, worker="w", lease=3600)

    with pytest.raises(Rollback), transaction() as tx:  # noqa: PT012 - as above
        store.settle_within([Complete(job.lease)], tx)
        raise Rollback
    assert await figures(store) == {"active": 1, "blocked": 1}
    with transaction() as tx:
        assert store.settle_within([Complete(job.lease)], tx) == []

    assert await figures(store) == {"completed": 1, "waiting": 1}
    assert await store.audit() == []
