"""A worker at a steady rate takes no more descriptors and threads as time goes by, and loses nothing.

The long form, an hour at the same rate, is `python -m bench soak`; its programs and its judge do the work here.
"""

from __future__ import annotations

import asyncio
import statistics

import pytest

from bench.places import STORES, fresh
from bench.sampling import Sample
from bench.soak import growth, soaked

SECONDS = 5
RATE = 200


@pytest.mark.parametrize("store", STORES)
def test_fault_b09_at_a_steady_rate_descriptors_and_threads_stay_as_they_are(store: str) -> None:
    with fresh(store) as url:
        seen = asyncio.run(soaked(store, url, SECONDS, rate=RATE, every=0.25))

    assert seen.added > RATE
    assert (seen.lost, seen.started_too_often, seen.findings) == (0, 0, [])
    half = len(seen.samples) // 2
    for name in ("descriptors", "threads"):
        early, late = (
            statistics.median(getattr(one, name) for one in part) for part in (seen.samples[:half], seen.samples[half:])
        )
        assert late <= early + 2, f"{name}: {[getattr(one, name) for one in seen.samples]}"


def test_growth_is_what_a_line_through_the_samples_rises() -> None:
    flat = [Sample(at, 100, 5, 3, 7) for at in range(10)]
    rising = [Sample(at, 95 + at, 5, 3, 7) for at in range(11)]

    assert growth(flat, "memory") == 0
    assert growth(rising, "memory") == pytest.approx(0.1)
