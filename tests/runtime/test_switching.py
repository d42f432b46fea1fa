"""The switch interval is short while workers run, and what it was before when the last has ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from muskox import Muskox
from muskox.runtime.switching import QUICK, quick_switching


@pytest.fixture(autouse=True)
def usual() -> Iterator[float]:
    before = sys.getswitchinterval()
    yield before
    assert sys.getswitchinterval() == before


async def test_threads_change_sooner_while_a_worker_runs(ox: Muskox, usual: float) -> None:
    @ox.queue("email").processor("note")
    async def note() -> None:
        return None

    async with ox.worker():
        async with ox.worker():
            assert sys.getswitchinterval() == pytest.approx(QUICK, rel=0.05)
        assert sys.getswitchinterval() == pytest.approx(QUICK, rel=0.05)
    assert sys.getswitchinterval() == usual


def test_an_interval_that_is_shorter_already_stays(usual: float) -> None:
    sys.setswitchinterval(QUICK / 5)
    try:
        with quick_switching():
            assert sys.getswitchinterval() == pytest.approx(QUICK / 5, rel=0.2)
        assert sys.getswitchinterval() == pytest.approx(QUICK / 5, rel=0.2)
    finally:
        sys.setswitchinterval(usual)
