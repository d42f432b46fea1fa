"""Tokens: they grow and never repeat, and tell an old run from a new one whatever else is alike."""

from __future__ import annotations

import pytest

from muskox.core.job import NewJob
from muskox.core.life import Complete, Fail, Release, Retry, Stall
from muskox.store.protocol import Note, Selection, Want
from tests.store.reading import BROKEN, everything, one


async def test_tokens_grow_with_every_claim_and_never_repeat(store, clock, add, claim):
    tokens = []
    for number in range(30):
        await add(id=f"{number}-a")
        await add(id=f"{number}-b", queue="email")
        tokens += [job.lease.token for job in [*await claim(5), *await claim(5, queue="email")]]
        if number % 5 == 0:
            clock.advance(31)
            await store.recover()
        if number % 7 == 0:
            clock.jump(-600)

    assert len(tokens) > 60
    assert tokens == sorted(set(tokens))


async def test_tokens_of_two_stores_never_repeat(shared, another):
    _, store = shared
    await store.add([NewJob(str(number), "files", "resize") for number in range(20)])
    tokens = []
    for number in range(20):
        [job] = await (store, another)[number % 2].claim([Want("files")], limit=1, worker="w", lease=30)
        tokens.append(job.lease.token)

    assert tokens == sorted(set(tokens))


async def test_fault_w19_a_refunded_attempt_does_not_give_the_token_back(store, clock, add, claim):
    await add(id="a", max_stalls=9)
    [a] = await claim(worker="A", lease=5)
    clock.advance(6)
    await store.recover()
    [b] = await claim(worker="B")
    await store.settle([Release(b.lease)])
    [c] = await claim(worker="C")
    assert a.attempt == b.attempt == c.attempt == 1
    before = await everything(store)

    answer = await store.settle([Complete(a.lease, '"zombie"')])

    assert answer == [a.lease]
    assert await everything(store) == before
    assert await store.settle([Complete(c.lease, '"right"')]) == []
    assert (await one(store, "a")).result == "right"


@pytest.mark.parametrize("again", ["removed and added", "retried by hand"])
async def test_fault_w20_a_new_life_under_the_same_id_has_new_tokens(store, clock, add, claim, again):
    await add(id="a")
    [old] = await claim(worker="A")
    if again == "removed and added":
        await store.remove(Selection("files", ids=("a",)))
        await add(id="a")
    else:
        await store.cancel(Selection("files", ids=("a",)))
        await store.retry(Selection("files", ids=("a",)))
    [fresh] = await claim(worker="B")
    before = await everything(store)

    assert await store.settle([Complete(old.lease, '"zombie"')]) == [old.lease]
    assert await store.annotate([Note(old.lease, progress="99")]) == [old.lease]
    assert await store.renew([old.lease], lease=60) == [old.lease]
    assert await everything(store) == before
    assert await store.settle([Complete(fresh.lease)]) == []


SETTLEMENTS = {
    "complete": lambda lease: Complete(lease, '"zombie"'),
    "complete and keep": lambda lease: Complete(lease, '"zombie"', keep=60),
    "retry": lambda lease: Retry(lease, 5, BROKEN),
    "fail": lambda lease: Fail(lease, BROKEN),
    "release": Release,
    "stall": lambda lease: Stall(lease, 0, BROKEN),
}
BOTH_AT_ONCE = [
    ("stale first", lambda stale, fresh: [stale, fresh]),
    ("fresh first", lambda stale, fresh: [fresh, stale]),
]


@pytest.fixture
async def stale_and_fresh(store, clock, add, claim):
    """Two leases of one job in the hands of one worker, of which the second counts."""
    await add(id="a", max_stalls=9)
    [stale] = await claim(lease=5)
    clock.advance(6)
    await store.recover()
    [fresh] = await claim(lease=5)
    return stale.lease, fresh.lease


@pytest.mark.parametrize("order", [order for _, order in BOTH_AT_ONCE], ids=[name for name, _ in BOTH_AT_ONCE])
@pytest.mark.parametrize("settlement", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_fault_w03_a_stale_and_a_fresh_lease_in_one_call_are_told_apart(
    store, stale_and_fresh, settlement, order
):
    stale, fresh = stale_and_fresh

    lost = await store.settle(order(settlement(stale), Complete(fresh, '"fresh"')))

    assert lost == [stale]
    assert (await one(store, "a")).result == "fresh"
    assert await store.audit() == []


@pytest.mark.parametrize("order", [order for _, order in BOTH_AT_ONCE], ids=[name for name, _ in BOTH_AT_ONCE])
async def test_fault_w03_a_stale_and_a_fresh_note_in_one_call_are_told_apart(store, stale_and_fresh, order):
    stale, fresh = stale_and_fresh

    lost = await store.annotate(
        order(Note(stale, progress="1", lines=("stale",)), Note(fresh, progress="2", lines=("fresh",)))
    )

    assert lost == [stale]
    assert (await one(store, "a")).progress == 2
    assert [line.text for line in await store.logs("files", "a")] == ["fresh"]


@pytest.mark.parametrize("order", [order for _, order in BOTH_AT_ONCE], ids=[name for name, _ in BOTH_AT_ONCE])
async def test_fault_w03_a_stale_and_a_fresh_renewal_in_one_call_are_told_apart(store, stale_and_fresh, order):
    assert await store.renew(order(*stale_and_fresh), lease=60) == [stale_and_fresh[0]]
