"""A claim that had no answer may be said again: the same ticket moves nothing and gives what it gave."""

from __future__ import annotations

from muskox.core.job import JobState
from muskox.core.life import Complete
from muskox.store.protocol import Selection, Want
from tests.store.reading import ageless, events, state

FILES = [Want("files")]


async def take(store, ticket, *, limit=2, worker="worker-a"):
    return await store.claim(FILES, limit=limit, worker=worker, lease=30, ticket=ticket)


async def test_a_ticket_said_again_gives_the_same_jobs_and_moves_nothing(store, add):
    for id in "abc":
        await add(id=id)

    first = await take(store, "1")
    told = await events(store)
    again = await take(store, "1")

    assert [job.id for job in first] == ["a", "b"]
    assert ageless(*again) == ageless(*first)
    assert await events(store) == told
    assert await state(store, "c") is JobState.WAITING


async def test_a_ticket_said_again_leaves_out_what_has_been_settled_or_lost(store, add):
    for id in "abcd":
        await add(id=id)
    first = await take(store, "1", limit=4)
    await store.settle([Complete(first[0].lease)])
    await store.cancel(Selection("files", ids=("c",)))

    assert [job.id for job in await take(store, "1", limit=4)] == ["b", "d"]


async def test_tickets_belong_to_their_worker(store, add):
    await add(id="a")
    await add(id="b")

    [mine] = await take(store, "1", limit=1)
    [theirs] = await take(store, "1", limit=1, worker="worker-b")

    assert (mine.id, theirs.id) == ("a", "b")
    assert ageless(*await take(store, "1", limit=1)) == ageless(mine)


async def test_a_claim_without_a_ticket_is_a_new_one_each_time(store, add):
    await add(id="a")
    await add(id="b")

    assert [job.id for job in await take(store, "", limit=1)] == ["a"]
    assert [job.id for job in await take(store, "", limit=1)] == ["b"]
