"""What runs tell of their jobs: progress, data, and lines of a log that is bounded."""

from __future__ import annotations

import pytest

from muskox.core.events import Progress, Updated
from muskox.core.life import Retry
from muskox.store.protocol import LogLine, Note
from tests.store.reading import BROKEN, events, kinds, one


@pytest.fixture
async def lease(add, claim):
    await add(id="a")
    [job] = await claim()
    return job.lease


async def lines(store, **options):
    return [(line.number, line.text) for line in await store.logs("files", "a", **options)]


@pytest.mark.parametrize(
    ("text", "value"), [("50", 50), ("99.5", 99.5), ('{"page":3,"of":[1,null]}', {"page": 3, "of": [1, None]})]
)
async def test_mission_a13_progress_is_seen_from_outside(store, lease, text, value):
    assert await store.annotate([Note(lease, progress=text)]) == []

    assert (await one(store, "a")).progress == value
    [event] = [event for event in await events(store) if isinstance(event, Progress)]
    assert (event.job_id, event.name, event.attempt, event.value) == ("a", "resize", 1, value)


async def test_the_latest_progress_counts(store, lease):
    await store.annotate([Note(lease, progress="1"), Note(lease, progress="2")])
    await store.annotate([Note(lease, progress="3")])

    assert (await one(store, "a")).progress == 3
    assert [event.value for event in await events(store) if isinstance(event, Progress)] == [1, 2, 3]


async def test_mission_a15_data_is_changed_from_inside(store, lease):
    await store.annotate([Note(lease, data='{"step":2}')])

    assert (await one(store, "a")).data == {"step": 2}
    assert [event.job_id for event in await events(store) if isinstance(event, Updated)] == ["a"]


async def test_lines_are_numbered_and_carry_their_moment(store, clock, lease):
    await store.annotate([Note(lease, lines=("first", "second"))])
    clock.advance(2)
    await store.annotate([Note(lease, lines=("third",))])

    now = int(clock.now() * 1e6)
    assert await store.logs("files", "a") == [
        LogLine(1, now - 2_000_000, "first"), LogLine(2, now - 2_000_000, "second"), LogLine(3, now, "third"),
    ]  # fmt: skip


async def test_lines_alone_tell_no_event_and_leave_progress_and_data(store, lease):
    await store.annotate([Note(lease, progress="5", data="6")])
    before = await kinds(store)

    await store.annotate([Note(lease, lines=("line",))])

    assert await kinds(store) == before
    job = await one(store, "a")
    assert (job.progress, job.data) == (5, 6)


async def test_logs_are_read_on_from_a_number(store, lease):
    await store.annotate([Note(lease, lines=tuple("abcde"))])

    assert await lines(store, after=2, limit=2) == [(3, "c"), (4, "d")]
    assert await lines(store, after=5) == []


async def test_fault_i16_a_log_keeps_its_first_thousand_lines_and_says_so(store, lease):
    await store.annotate([Note(lease, lines=tuple(str(number) for number in range(1, 601)))])
    await store.annotate([Note(lease, lines=tuple(str(number) for number in range(601, 1201)))])
    await store.annotate([Note(lease, lines=("one more",))])

    kept = await lines(store, limit=5000)
    assert kept[:1000] == [(number, str(number)) for number in range(1, 1001)]
    assert len(kept) == 1001
    assert "dropped" in kept[1000][1]


@pytest.mark.parametrize("line", ["", "\x1b[31mred", "<script>", "a\nb", "e\u0301 😀", "\u202e"])
async def test_fault_d14_lines_are_kept_as_they_are(store, lease, line):
    await store.annotate([Note(lease, lines=(line,))])

    assert await lines(store) == [(1, line)]


async def test_a_line_without_end_is_cut(store, lease):
    await store.annotate([Note(lease, lines=("x" * 1_000_000,))])

    [(_, kept)] = await lines(store)
    assert kept.startswith("x" * 1000)
    assert len(kept) < 20_000


async def test_the_log_goes_on_over_attempts(store, claim, lease):
    await store.annotate([Note(lease, lines=("first attempt",))])
    await store.settle([Retry(lease, 0, BROKEN)])
    [again] = await claim()
    await store.annotate([Note(again.lease, lines=("second attempt",))])

    assert await lines(store) == [(1, "first attempt"), (2, "second attempt")]


async def test_there_are_no_lines_of_what_is_not_there(store, lease):
    assert await store.logs("files", "nobody") == []
    assert await store.logs("nowhere", "a") == []
