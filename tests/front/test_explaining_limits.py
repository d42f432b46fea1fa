"""Which limit holds a job, and until when: from the facts of the store, on every store there is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from muskox import Rate, ReasonKind
from tests.front.test_explaining import claim, kinds, ox, working  # noqa: F401 - the fixture

HELD, RATE, CONCURRENCY, BEHIND = (
    ReasonKind.HELD, ReasonKind.RATE, ReasonKind.CONCURRENCY, ReasonKind.BEHIND,
)  # fmt: skip


@pytest.fixture
async def files(ox):  # noqa: F811
    await (await ox.store()).beat(working())
    return ox.queue("files")


async def reason(queue, kind, id="job"):
    return next(reason for reason in (await queue.explain(id)).reasons if reason.kind is kind)


async def test_a_full_queue_says_how_many_run_and_may(ox, files):  # noqa: F811
    await files.set_limits(concurrency=2)
    for id in ("a", "b", "job"):
        await files.add("resize", id=id)
    await claim(ox, 5)

    assert await kinds(ox) == [CONCURRENCY]
    assert str(await reason(files, CONCURRENCY)) == "2 jobs of queue files run, and 2 may at once"


async def test_a_rate_says_when_the_next_may_start(ox, files, world):  # noqa: F811
    await files.set_limits(rate=Rate(6, per=60))
    for id in ("a", "job"):
        await files.add("resize", id=id)
    await claim(ox, 5)

    found = await files.explain("job")

    assert found.kinds == [RATE]
    assert found.reasons[0].at == found.at + timedelta(seconds=10)
    assert "queue files has a rate of 6 per 60 s: the next may start at" in str(found)
    world.advance(10)
    assert await kinds(ox) == [ReasonKind.NEXT]


async def test_a_hold_says_until_when(ox, files):  # noqa: F811
    await files.add("resize", id="job", key="acme")
    await files.hold(30)
    await files.hold(60, key="acme")

    found = await files.explain("job")

    assert [(one.kind, one.at - found.at) for one in found.reasons] == [
        (HELD, timedelta(seconds=30)),
        (HELD, timedelta(seconds=60)),
    ]


async def test_a_job_behind_others_of_its_key_says_who_has_the_slots_and_how_many_are_before_it(ox, files, world):  # noqa: F811
    await files.set_limits(key_concurrency=2)
    for id in ("a", "b", "c", "job", "later"):
        await files.add("resize", id=id, key="acme")
        world.advance(0.001)
    await claim(ox, 5)

    found = await files.explain("job")

    assert found.kinds == [CONCURRENCY, BEHIND]
    assert found.reasons[0].held_by == ("a", "b")
    assert found.reasons[0].key == "acme"
    assert [reason.text for reason in found.reasons] == [
        "key acme is at 2 of 2: a, b run",
        "it stands behind others of key acme: 0 in line and 1 job blocked before it",
    ]
    assert found.reasons[1].jobs == 1


async def test_a_slot_that_is_spoken_for_by_a_job_in_line_is_told(ox, files):  # noqa: F811
    await files.set_limits(key_concurrency=1)
    for id in ("a", "job"):
        await files.add("resize", id=id, key="acme")

    found = await files.explain("job")

    assert [reason.text for reason in found.reasons] == [
        "key acme is at 0 of 1, and 1 of it stand in line before",
        "it stands behind others of key acme: 1 in line and 0 jobs blocked before it",
    ]


async def test_the_bucket_of_a_key_says_when_its_next_may_start(ox, files):  # noqa: F811
    await files.set_limits(key_rate=Rate(1, per=30))
    for id in ("a", "job"):
        await files.add("resize", id=id, key="acme")
    await claim(ox, 5)

    found = await files.explain("job")

    assert found.kinds == [RATE]
    assert found.reasons[0].at == found.at + timedelta(seconds=30)


async def test_a_job_that_no_limit_holds_says_nothing_of_limits(ox, files):  # noqa: F811
    await files.set_limits(rate=Rate(10), concurrency=5, key_concurrency=5)
    await files.add("resize", id="job", key="acme")

    assert await kinds(ox) == [ReasonKind.NEXT]
