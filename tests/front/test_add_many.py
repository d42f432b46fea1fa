"""`Muskox.add_many`: jobs of several queues in one step."""

from __future__ import annotations

import pytest

from muskox import JobState, Muskox, OptionError


async def test_jobs_of_several_queues_are_added_together(ox: Muskox) -> None:
    jobs = [ox.queue("email").new("welcome", 1), ox.queue("files").new("resize", 2, delay=60)]

    added = await ox.add_many(jobs)

    assert [(job.id, job.queue, job.data, job.state) for job in added] == [
        (jobs[0].id, "email", 1, JobState.WAITING),
        (jobs[1].id, "files", 2, JobState.DELAYED),
    ]
    assert [counts.total for counts in await ox.counts()] == [1, 1]


async def test_adding_nothing_is_nothing(ox: Muskox) -> None:
    assert await ox.add_many([]) == []


async def test_only_what_a_queue_has_made_is_taken(ox: Muskox) -> None:
    with pytest.raises(OptionError, match=r"made by a queue's new\(\), not tuple"):
        await ox.add_many([("welcome", {})])  # type: ignore[list-item]

    assert await ox.counts() == []


def test_blocking_code_adds_them_too() -> None:
    ox = Muskox("sqlite://:memory:")

    assert len(ox.sync.add_many([ox.queue("email").new("a"), ox.queue("files").new("b")])) == 2

    ox.sync.close()
