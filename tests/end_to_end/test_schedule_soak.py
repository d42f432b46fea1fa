"""Schedules while worker processes are killed: each moment adds one job, and none is missed.

The long form is `python -m bench schedules --minutes 3`; its programs do the work here.
"""

from __future__ import annotations

import asyncio

import pytest

from bench.schedules import soak_schedules


@pytest.mark.parametrize("store", ["sqlite", "redis", "postgres"])
def test_fault_c01_schedulers_that_are_killed_neither_double_nor_miss_a_moment(store):
    beats = asyncio.run(soak_schedules(store, seconds=8, processes=3, pause=1.0, interval=0.25, schedules=5))

    assert beats.moments >= 5 * 20
    assert (beats.missed, beats.jobs, beats.unended) == (0, beats.moments, 0)
    assert beats.findings == []
    assert beats.kills >= 3
