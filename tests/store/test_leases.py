"""Fencing: a lease that was lost changes nothing at all, whoever holds the job now and whatever it says."""

from __future__ import annotations

import msgspec
import pytest

from muskox.core.failure import Failure, FailureKind
from muskox.core.job import JobState
from muskox.core.life import Complete, Fail, Release, Retry, Stall
from muskox.store.protocol import Note, Selection
from tests.store.reading import BROKEN, everything, one, state

STALLED = Failure(FailureKind.STALLED, message="killed by signal 9")

SETTLEMENTS = {
    "complete": lambda lease: Complete(lease, '"zombie"'),
    "complete and remove": lambda lease: Complete(lease, '"zombie"', keep=0),
    "complete and keep": lambda lease: Complete(lease, '"zombie"', keep=60),
    "complete without its result": lambda lease: Complete(lease, None, BROKEN),
    "retry": lambda lease: Retry(lease, 5, BROKEN),
    "retry at once": lambda lease: Retry(lease, 0, BROKEN),
    "fail": lambda lease: Fail(lease, BROKEN),
    "fail and remove": lambda lease: Fail(lease, BROKEN, keep=0),
    "fail as stalled": lambda lease: Fail(lease, STALLED),
    "release": Release,
    "stall": lambda lease: Stall(lease, 0, STALLED),
}


async def recovered(store, clock, add, claim):
    await add(id="a", max_stalls=9)
    [job] = await claim(lease=5)
    clock.advance(6)
    await store.recover()
    return job.lease


async def recovered_and_claimed(store, clock, add, claim):
    lease = await recovered(store, clock, add, claim)
    await claim()
    return lease


async def cancelled(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    await store.cancel(Selection("files", ids=("a",)))
    return job.lease


async def cancelled_and_retried(store, clock, add, claim):
    lease = await cancelled(store, clock, add, claim)
    await store.retry(Selection("files", ids=("a",)))
    return lease


async def cancelled_retried_and_claimed(store, clock, add, claim):
    lease = await cancelled_and_retried(store, clock, add, claim)
    await claim()
    return lease


async def removed(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    await store.remove(Selection("files", ids=("a",)))
    return job.lease


async def removed_and_added_again(store, clock, add, claim):
    lease = await removed(store, clock, add, claim)
    await add(id="a")
    return lease


async def removed_added_again_and_claimed(store, clock, add, claim):
    lease = await removed_and_added_again(store, clock, add, claim)
    await claim()
    return lease


async def released_and_claimed(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    await store.settle([Release(job.lease)])
    await claim()
    return job.lease


async def retried_by_hand_and_claimed(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    await store.settle([Fail(job.lease, BROKEN)])
    await store.retry(Selection("files", ids=("a",)))
    await claim()
    return job.lease


LOST = [
    recovered, recovered_and_claimed, cancelled, cancelled_and_retried, cancelled_retried_and_claimed, removed,
    removed_and_added_again, removed_added_again_and_claimed, released_and_claimed, retried_by_hand_and_claimed,
]  # fmt: skip


@pytest.fixture(params=LOST, ids=lambda lose: lose.__name__)
async def lost(request, store, clock, add, claim):
    return await request.param(store, clock, add, claim)


@pytest.mark.parametrize("settlement", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_fault_w03_a_lost_lease_settles_nothing(store, lost, settlement):
    before = await everything(store)

    answer = await store.settle([settlement(lost)])

    assert answer == [lost]
    assert await everything(store) == before
    assert await store.audit() == []


async def test_a_lost_lease_cannot_be_renewed(store, clock, lost):
    before = await everything(store)

    assert await store.renew([lost], lease=1000) == [lost]
    assert await everything(store) == before


async def test_a_lost_lease_writes_no_note(store, lost):
    before = await everything(store)

    assert await store.annotate([Note(lost, progress="50", data='"zombie"', lines=("line",))]) == [lost]
    assert await everything(store) == before


@pytest.mark.parametrize("settlement", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_an_invented_lease_settles_nothing(store, add, claim, settlement):
    await add(id="a")
    [job] = await claim()
    before = await everything(store)
    invented = [
        msgspec.structs.replace(job.lease, token=job.lease.token + 1),
        msgspec.structs.replace(job.lease, token=job.lease.token - 1),
        msgspec.structs.replace(job.lease, token=0),
        msgspec.structs.replace(job.lease, job_id="b", row=job.lease.row + 1),
    ]

    assert await store.settle([settlement(lease) for lease in invented]) == invented
    assert await everything(store) == before


@pytest.mark.parametrize("settlement", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_another_answer_for_a_settled_run_changes_nothing(store, add, claim, settlement):
    await add(id="a")
    [job] = await claim()
    first = Fail(job.lease, BROKEN) if isinstance(settlement(job.lease), Complete) else Complete(job.lease, "1")
    await store.settle([first])
    before = await everything(store)

    assert await store.settle([settlement(job.lease)]) == [job.lease]
    assert await everything(store) == before


@pytest.mark.parametrize("settlement", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_the_same_answer_twice_changes_nothing_and_invents_nothing(store, add, claim, settlement):
    await add(id="a", max_stalls=5)
    [job] = await claim()
    await store.settle([settlement(job.lease)])
    before = await everything(store)

    await store.settle([settlement(job.lease)])

    assert await everything(store) == before
    assert await store.audit() == []


REPEATABLE = {name: make for name, make in SETTLEMENTS.items() if "remove" not in name}


@pytest.mark.parametrize("settlement", REPEATABLE.values(), ids=REPEATABLE)
async def test_an_answer_that_was_written_is_not_called_lost_when_it_is_repeated(store, add, claim, settlement):
    await add(id="a", max_stalls=5)
    [job] = await claim()

    assert await store.settle([settlement(job.lease)]) == []
    assert await store.settle([settlement(job.lease)]) == []


@pytest.mark.parametrize("settlement", SETTLEMENTS.values(), ids=SETTLEMENTS)
async def test_one_run_settled_twice_in_one_call_is_settled_once(store, add, claim, settlement):
    await add(id="a", max_stalls=5)
    await add(id="b", max_stalls=5)
    first, second = await claim(2)

    await store.settle([settlement(first.lease), settlement(first.lease), settlement(second.lease)])

    a, b = await store.get("files", ["a", "b"])
    assert (a is None) == (b is None)
    if a is not None:
        assert (a.state, a.attempt, a.stalls, a.releases) == (b.state, b.attempt, b.stalls, b.releases)
    assert await store.audit() == []


async def test_two_different_answers_in_one_call_write_one_of_them(store, add, claim):
    await add(id="a")
    [job] = await claim()

    lost = await store.settle([Fail(job.lease, BROKEN), Complete(job.lease, "1")])

    assert lost == [job.lease]
    assert await state(store, "a") in {JobState.COMPLETED, JobState.FAILED}
    assert await store.audit() == []


async def test_a_batch_answers_exactly_the_lost_ones(store, add, claim):
    for id in "abcdef":
        await add(id=id)
    leases = {job.id: job.lease for job in await claim(6)}
    await store.cancel(Selection("files", ids=("b", "e")))

    lost = await store.settle([
        Complete(leases["a"], "1"), Complete(leases["b"], "2"), Fail(leases["c"], BROKEN),
        Retry(leases["e"], 1, BROKEN), Release(leases["d"]), Complete(leases["f"], None, keep=0),
    ])  # fmt: skip

    assert sorted(lease.job_id for lease in lost) == ["b", "e"]
    assert [None if job is None else str(job.state) for job in await store.get("files", list("abcdef"))] == [
        "completed", "cancelled", "failed", "waiting", "cancelled", None,
    ]  # fmt: skip
    assert await store.audit() == []


async def test_fault_w04_a_late_answer_that_nobody_challenged_is_welcome(store, clock, add, claim):
    await add(id="a")
    [job] = await claim(lease=5)
    clock.advance(3600)

    assert await store.settle([Complete(job.lease, '"late"')]) == []
    assert (await one(store, "a")).result == "late"
    assert (await one(store, "a")).stalls == 0


async def test_fault_w04_a_late_renewal_that_nobody_challenged_is_welcome(store, clock, add, claim):
    await add(id="a")
    [job] = await claim(lease=5)
    clock.advance(60)

    assert await store.renew([job.lease], lease=30) == []
    assert await store.recover() == []
    assert await state(store, "a") is JobState.ACTIVE


async def test_a_renewed_lease_runs_from_the_moment_of_renewal(store, clock, add, claim):
    await add(id="a")
    await add(id="b")
    a, b = await claim(2, lease=10)
    clock.advance(9)
    assert await store.renew([a.lease], lease=10) == []
    clock.advance(9)

    assert [found.job.id for found in await store.recover()] == ["b"]
    assert await store.settle([Complete(a.lease), Complete(b.lease)]) == [b.lease]


async def test_a_renewal_tells_nothing_and_changes_nothing_else(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    before = await everything(store)

    await store.renew([job.lease, job.lease], lease=60)

    assert await everything(store) == before


async def test_a_renewal_answers_exactly_the_lost_ones(store, add, claim):
    for id in "abc":
        await add(id=id)
    leases = {job.id: job.lease for job in await claim(3)}
    await store.cancel(Selection("files", ids=("b",)))
    await store.settle([Complete(leases["c"])])

    lost = await store.renew(list(leases.values()), lease=30)

    assert sorted(lease.job_id for lease in lost) == ["b", "c"]


async def test_nothing_to_settle_renew_or_note_is_nothing_lost(store):
    assert [await store.settle([]), await store.renew([], lease=30), await store.annotate([])] == [[], [], []]
