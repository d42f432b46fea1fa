"""Worker processes killed at random points while they work: nothing lost, nothing settled twice.

The long form, 200 kills over 100 000 jobs, is `python -m bench kill`; its programs and its judge do the work here.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from bench.kill import soak
from bench.ledger import Entry, Ledger, Mark, entries
from bench.verdict import Evidence, judge

KILLS = 10
JOBS = 3000


def test_fault_w01_workers_killed_at_random_points_lose_no_job_and_settle_none_twice():
    story = asyncio.run(soak(JOBS, KILLS, lease=1.0, patience=90))

    assert story.verdict.faults == {}
    assert story.kills == KILLS
    assert story.kills_with_work > 0
    assert story.verdict.work_done_twice <= KILLS * 80  # what one process holds: 20 slots and 60 claimed ahead


def evidence(*written, deaths, **changes):
    """One job that ended well, and what else was written about it."""
    known = {
        "states": {0: "completed"},
        "attempts": {0: 1},
        "stalls": {0: 0},
        "told": {"completed": Counter([0]), "failed": Counter(), "cancelled": Counter()},
    }
    return Evidence(
        jobs=1, allowed_attempts=1, allowed_stalls=1, entries=written, deaths=deaths, trimmed=0, findings=[],
        **(known | changes),
    )  # fmt: skip


def run(process, at, fence, *, ends=True):
    begun = Entry(at, fence, 0, 1, process, Mark.BEGUN)
    return [begun, Entry(at + 1, fence, 0, 1, process, Mark.ENDED)] if ends else [begun]


@pytest.mark.parametrize(
    ("written", "deaths", "faults"),
    [
        (run(0, 10, 1), {}, {}),
        (run(0, 10, 1, ends=False) + run(1, 30, 2), {0: 20}, {}),
        (run(0, 10, 1, ends=False), {0: 20}, {"lost": 1}),
        (run(0, 10, 1) + run(1, 30, 2), {}, {"run_again_without_a_kill": 1}),
        (run(0, 10, 1) + run(1, 30, 1), {0: 20}, {"fence_not_growing": 1}),
        (run(0, 10, 1) + run(1, 30, 2) + run(2, 50, 3), {0: 20, 1: 40}, {"started_too_often": 1}),
    ],
)
def test_the_judge_sees_what_must_not_be(written, deaths, faults):
    assert judge(evidence(*written, deaths=deaths)).faults == faults


def test_the_judge_sees_a_job_that_was_settled_twice():
    told = {"completed": Counter([0, 0]), "failed": Counter(), "cancelled": Counter()}

    assert judge(evidence(*run(0, 10, 1), deaths={}, told=told)).faults == {"settled_twice": 1}


def test_entries_of_the_ledger_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "ledger"

    ledger = Ledger(str(path), 7)
    ledger.write(Mark.ENDED, 1, 2, 3)
    ledger.close()

    [entry] = entries(path)
    assert (entry.process, entry.mark, entry.job, entry.attempt, entry.fence) == (7, Mark.ENDED, 1, 2, 3)
