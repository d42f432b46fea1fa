"""Moves made by hand: every verb on every state, one job or many, and what is told."""

from __future__ import annotations

import asyncio

import pytest

from muskox.core.job import JobState, NewJob
from muskox.core.life import MOVES, Complete, Fail
from muskox.store.protocol import Note, Selection, Want
from tests.store.reading import BROKEN, events, everything, figures, kinds, one, state

W, D, A = JobState.WAITING, JobState.DELAYED, JobState.ACTIVE
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED
# Nothing blocks a job yet: BLOCKED joins with the limits per key.
STATES = [W, D, A, C, F, X]


async def bring(store, claim, target, id="a", name="resize"):
    """Add a job and bring it to a state."""
    await store.add([NewJob(id, "files", name, delay=60 if target is D else 0)])
    if target in {A, C, F}:
        [job] = await claim(names=frozenset({name}))
        if target is C:
            await store.settle([Complete(job.lease, "1")])
        if target is F:
            await store.settle([Fail(job.lease, BROKEN)])
        return job.lease
    if target is X:
        await store.cancel(Selection("files", ids=(id,)))
    return None


SELECTED = Selection("files", ids=("a",))
VERBS = {
    "promote": lambda store: store.promote(SELECTED),
    "retry": lambda store: store.retry(SELECTED),
    "cancel": lambda store: store.cancel(SELECTED),
    "remove": lambda store: store.remove(SELECTED),
    "update": lambda store: store.update("files", "a", '{"new":1}'),
    "claim": lambda store: store.claim([Want("files")], limit=1, worker="w", lease=30),
    "recover": lambda store: store.recover(),
    "promote due": lambda store: store.promote(),
    "clear": lambda store: store.clear({}),
}
TARGET = {
    ("promote", D): W, ("retry", F): W, ("retry", X): W, ("claim", W): A,
    **{("cancel", source): X for source in MOVES["cancel"]},
    **{("update", source): source for source in MOVES["update"]},
    **{("remove", source): None for source in STATES},
}  # fmt: skip
TOLD = {
    "promote": "waiting", "retry": "waiting", "cancel": "cancelled", "remove": "removed", "update": "updated",
    "claim": "active",
}  # fmt: skip


@pytest.mark.parametrize("source", STATES)
@pytest.mark.parametrize("verb", VERBS)
async def test_fault_d12_every_verb_on_every_state_is_legal_or_changes_nothing(store, claim, verb, source):
    await bring(store, claim, source)
    before = await everything(store)
    told = len(await kinds(store, "a"))

    await VERBS[verb](store)

    if (verb, source) not in TARGET:
        assert await everything(store) == before
        return
    target = TARGET[verb, source]
    assert [job and job.state for job in await store.get("files", ["a"])] == [target]
    assert (await kinds(store, "a"))[told:] == [TOLD[verb]]
    assert await figures(store) == ({} if target is None else {str(target): 1})
    assert await store.audit() == []


@pytest.mark.parametrize("verb", ["promote", "retry", "cancel", "remove"])
async def test_a_verb_says_how_many_it_moved(store, claim, verb):
    for number, source in enumerate(STATES):
        await bring(store, claim, source, id=str(number), name=f"name-{number}")
    ids = (*map(str, range(len(STATES))), "nobody", "0")

    moved = await getattr(store, verb)(Selection("files", ids=ids))

    assert moved == sum((verb, source) in TARGET for source in STATES)


@pytest.mark.parametrize("verb", ["promote", "retry", "cancel", "remove"])
async def test_a_verb_on_nothing_moves_nothing(store, add, verb):
    await add(id="a", queue="email")
    before = await everything(store, "email")

    for selection in (SELECTED, Selection("files"), Selection("email", ids=()), Selection("email", names=("other",))):
        assert await getattr(store, verb)(selection) == 0
    assert await everything(store, "email") == before


async def test_mission_a15_all_failed_jobs_are_retried_at_once(store, claim):
    for number in range(5):
        await bring(store, claim, F, id=str(number))
    await bring(store, claim, X, id="cancelled")

    assert await store.retry(Selection("files", states=(F,))) == 5
    assert await figures(store) == {"waiting": 5, "cancelled": 1}


async def test_mission_a15_failed_jobs_are_retried_by_name(store, claim):
    await bring(store, claim, F, id="a", name="resize")
    await bring(store, claim, F, id="b", name="convert")

    assert await store.retry(Selection("files", names=("convert",))) == 1
    assert [await state(store, "a"), await state(store, "b")] == [F, W]


async def test_a_selection_is_bounded_by_its_limit(store, add):
    for _ in range(5):
        await add()

    assert [await store.cancel(Selection("files", limit=2)) for _ in range(4)] == [2, 2, 1, 0]


async def test_ids_states_and_names_of_a_selection_must_all_fit(store, claim):
    await bring(store, claim, W, id="a", name="resize")
    await bring(store, claim, D, id="b", name="resize")
    await bring(store, claim, W, id="c", name="convert")

    assert await store.cancel(Selection("files", ids=("a", "b", "c"), states=(W,), names=("resize",))) == 1
    assert [await state(store, id) for id in "abc"] == [X, D, W]


async def test_a_job_promoted_by_hand_arrives_now(store, clock, add, claim):
    await add(id="a", delay=3600)
    clock.advance(1)
    await add(id="b")
    clock.advance(1)

    assert await store.promote(SELECTED) == 1
    assert (await one(store, "a")).due_us is None
    assert [job.id for job in await claim(2)] == ["b", "a"]


async def test_a_retried_job_arrives_now(store, clock, add, claim):
    await bring(store, claim, F)
    clock.advance(1)
    await add(id="b")
    clock.advance(1)

    await store.retry(SELECTED)

    job = await one(store, "a")
    assert (job.ended_us, job.due_us) == (None, None)
    assert [job.id for job in await claim(2)] == ["b", "a"]


async def test_a_cancelled_run_learns_it_at_its_next_beat(store, claim):
    lease = await bring(store, claim, A)

    await store.cancel(SELECTED)

    assert await store.renew([lease], lease=30) == [lease]
    assert await store.annotate([Note(lease, progress="50")]) == [lease]
    assert await store.settle([Complete(lease)]) == [lease]
    assert (await one(store, "a")).ended_us is not None


async def test_removing_by_state_or_name_leaves_active_jobs_alone(store, claim):
    await bring(store, claim, A, id="a")
    await bring(store, claim, W, id="b")

    assert await store.remove(Selection("files", names=("resize",))) == 1
    assert await store.remove(Selection("files")) == 0
    assert await store.remove(Selection("files", states=(W, C))) == 0
    assert await state(store, "a") is A
    assert await store.remove(Selection("files", states=(A,))) == 1
    assert await figures(store) == {}


async def test_a_removed_job_takes_its_log_along(store, claim):
    lease = await bring(store, claim, A)
    await store.annotate([Note(lease, lines=("line",))])

    await store.remove(SELECTED)

    assert await store.logs("files", "a") == []
    assert await store.audit() == []


async def test_mission_a15_data_is_replaced_from_outside(store, add):
    await add(id="a", data="1")

    job = await store.update("files", "a", '{"n":2}')

    assert job == await one(store, "a")
    assert job.data == {"n": 2}


async def test_updating_what_is_not_there_is_none(store, add):
    await add(id="a", queue="email")

    assert await store.update("files", "a", "1") is None
    assert await store.update("email", "b", "1") is None


async def test_updating_an_active_job_keeps_its_lease(store, claim):
    lease = await bring(store, claim, A)

    await store.update("files", "a", "5")

    assert await store.settle([Complete(lease)]) == []


async def test_mission_a14_pausing_and_resuming_are_told_once(store, add):
    await add()

    assert [await store.pause("files", paused) for paused in (True, True, False, False)] == [True, False, True, False]
    assert await kinds(store) == ["waiting", "paused", "resumed"]


async def test_a_queue_can_be_paused_before_its_first_job(store, add, claim):
    assert await store.pause("files", True)

    await add()

    assert await claim() == []
    assert (await store.counts(["files"]))[0].paused


async def test_a_paused_queue_goes_on_with_all_else(store, clock, add, claim):
    await add(id="a")
    [job] = await claim()
    await store.pause("files", True)

    await add(id="b", delay=1)
    clock.advance(2)
    assert await store.promote() == 1
    assert await store.settle([Complete(job.lease)]) == []
    assert await claim() == []


async def test_pausing_one_queue_leaves_the_others(store):
    await store.pause("files", True)

    assert [counts.paused for counts in await store.counts(["files", "email"])] == [True, False]


@pytest.mark.parametrize("verb", ["cancel", "remove", "update", "promote", "retry"])
async def test_fault_d12_a_verb_beside_claims_and_answers_leaves_a_legal_state(store, add, claim, verb):
    """Twenty jobs are claimed and completed while the verb is used on each: all end in one lawful way."""
    for number in range(20):
        await add(id=str(number))

    async def work():
        for _ in range(20):
            for job in await claim():
                await store.settle([Complete(job.lease, "1")])

    async def manage():
        for number in range(20):
            if verb == "update":
                await store.update("files", str(number), "2")
            else:
                await getattr(store, verb)(Selection("files", ids=(str(number),)))

    await asyncio.gather(work(), work(), manage(), manage())

    assert await store.audit() == []
    ends = {event.job_id: 0 for event in await events(store) if event.kind == "waiting"}
    for event in await events(store):
        if event.kind in {"completed", "cancelled"}:
            ends[event.job_id] += 1
    assert max(ends.values()) == 1


async def test_a_double_click_retries_once(store, claim):
    await bring(store, claim, F)

    moved = await asyncio.gather(*(store.retry(SELECTED) for _ in range(10)))

    assert sum(moved) == 1
    assert (await one(store, "a")).attempts == 2
