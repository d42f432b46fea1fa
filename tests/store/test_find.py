"""Pages of jobs: every job once, in the promised order, also while others move."""

from __future__ import annotations

import pytest

from muskox.core.errors import OptionError
from muskox.core.job import JobState, NewJob
from muskox.core.life import Complete, Fail
from muskox.store.protocol import Selection
from tests.store.reading import BROKEN

W, D, A = JobState.WAITING, JobState.DELAYED, JobState.ACTIVE
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED


async def pages(store, selection):
    """The ids of all pages, page by page."""
    found = await store.find(selection)
    sizes = [[job.id for job in found.jobs]]
    while found.cursor is not None:
        found = await store.find(selection, after=found.cursor)
        sizes.append([job.id for job in found.jobs])
    return sizes


async def ids(store, selection):
    return [id for page in await pages(store, selection) for id in page]


@pytest.fixture
async def herd(store, clock, add, claim):
    """Jobs in every state, two names, each at a moment of its own: ids tell state and number."""
    for state, count in (("f", 3), ("c", 4), ("a", 3), ("x", 2)):
        for number in range(count):
            clock.advance(1)
            await add(("resize", "convert")[number % 2], id=f"{state}{number}")
    for _ in range(3):
        [job] = await claim()
        clock.advance(1)
        await store.settle([Fail(job.lease, BROKEN)])
    for _ in range(4):
        [job] = await claim()
        clock.advance(1)
        await store.settle([Complete(job.lease)])
    for _ in range(3):
        clock.advance(1)
        await claim(lease=10_000)
    for number in range(2):
        clock.advance(1)
        await store.cancel(Selection("files", ids=(f"x{number}",)))
    for number in range(3):
        await add(("resize", "convert")[number % 2], id=f"d{number}", delay=100 - number)
    for number in range(5):
        await add(("resize", "convert")[number % 2], id=f"w{number}", priority=number // 2)
        clock.advance(0.5)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (D, ["d2", "d1", "d0"]),
        (A, ["a0", "a1", "a2"]),
        (C, ["c3", "c2", "c1", "c0"]),
        (F, ["f2", "f1", "f0"]),
        (X, ["x1", "x0"]),
        (JobState.BLOCKED, []),
    ],
)
async def test_each_state_has_its_order(store, herd, state, expected):
    assert await ids(store, Selection("files", states=(state,))) == expected


async def test_waiting_jobs_of_a_name_come_in_the_order_of_claiming(store, herd):
    assert await ids(store, Selection("files", states=(W,), names=("resize",))) == ["w4", "w2", "w0"]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_give_every_job_once(store, herd, limit):
    found = await pages(store, Selection("files", limit=limit))

    assert all(len(page) <= limit for page in found)
    everyone = [id for page in found for id in page]
    assert sorted(everyone) == sorted(set(everyone))
    assert len(everyone) == 3 + 4 + 3 + 2 + 3 + 5


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_states_come_in_the_order_asked_for(store, herd, limit):
    found = await ids(store, Selection("files", states=(X, W, C), limit=limit))

    assert [id[0] for id in found] == ["x"] * 2 + ["w"] * 5 + ["c"] * 4


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_names_filter_every_state(store, herd, limit):
    found = await ids(store, Selection("files", names=("convert",), limit=limit))

    assert sorted(found) == ["a1", "c1", "c3", "d1", "f1", "w1", "w3", "x1"]


async def test_a_page_has_whole_jobs(store, herd):
    [job] = (await store.find(Selection("files", states=(F,), limit=1))).jobs

    assert [job] == await store.get("files", ["f2"])


async def test_jobs_are_found_by_their_ids(store, herd):
    found = await store.find(Selection("files", ids=("c1", "nobody", "w0"), states=(W, C)))

    assert sorted(job.id for job in found.jobs) == ["c1", "w0"]
    assert found.cursor is None


async def test_a_full_last_page_is_followed_by_nothing(store, herd):
    assert [id for page in (await pages(store, Selection("files", states=(X,), limit=2))) for id in page] == [
        "x1",
        "x0",
    ]


async def test_nothing_found_is_an_empty_page(store, herd):
    for selection in (Selection("nowhere"), Selection("files", names=("other",)), Selection("files", ids=())):
        found = await store.find(selection)
        assert (found.jobs, found.cursor) == ([], None)


async def test_get_answers_in_the_order_of_the_ids(store, herd):
    found = await store.get("files", ["w0", "nobody", "c1", "w0"])

    assert [job and job.id for job in found] == ["w0", None, "c1", "w0"]
    assert await store.get("nowhere", ["w0"]) == [None]
    assert await store.get("files", []) == []


@pytest.mark.parametrize(
    "cursor", ["", "x", "1.2", "a.b.c.d.e", "1.2.3.x", "9" * 30 + ".1.1.1.1", "1.1.1.1.-" + "9" * 30, "1." * 40]
)
async def test_a_cursor_that_is_none_is_refused(store, herd, cursor):
    with pytest.raises(OptionError, match="is not a cursor"):
        await store.find(Selection("files"), after=cursor)


async def walk(store, selection, between):
    """All ids, with something happening between the pages."""
    found = await store.find(selection)
    seen = [job.id for job in found.jobs]
    while found.cursor is not None:
        await between()
        found = await store.find(selection, after=found.cursor)
        seen += [job.id for job in found.jobs]
    return seen


@pytest.mark.parametrize("states", [(), (C, F), (D, W), (W,)])
async def test_new_names_between_two_pages_double_and_hide_nothing(store, add, herd, states):
    selection = Selection("files", states=states, limit=2)
    steady = await ids(store, selection)
    numbers = iter(range(100))

    seen = await walk(store, selection, lambda: add(f"name-{next(numbers)}", id=f"new-{next(numbers)}", priority=-9))

    assert [id for id in seen if not id.startswith("new")] == steady
    assert len(seen) == len(set(seen))


async def test_jobs_that_leave_a_state_between_two_pages_hide_none_of_the_others(store, herd):
    gone = iter(["c3", "f2", "f1", "w0"])

    async def remove_one():
        id = next(gone, None)
        if id:
            await store.remove(Selection("files", ids=(id,)))

    seen = await walk(store, Selection("files", states=(C, F, W), limit=1), remove_one)

    assert {"c2", "c1", "c0", "f0", "w1", "w2", "w3", "w4"} <= set(seen)
    assert len(seen) == len(set(seen))


async def test_jobs_of_one_moment_are_paged_without_a_gap(store, claim):
    await store.add([NewJob(f"{number:03}", "files", "resize") for number in range(101)])
    for job in await claim(50):
        await store.settle([Complete(job.lease)])

    for state, expected in ((W, 51), (C, 50)):
        found = await ids(store, Selection("files", states=(state,), limit=7))
        assert len(found) == len(set(found)) == expected
