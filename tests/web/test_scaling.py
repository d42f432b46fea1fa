"""How many workers are recommended: by Little's law, with headroom, and enough to end a backlog in time."""

from __future__ import annotations

from typing import Any

import pytest

from muskox import Cell
from muskox.core.history import Sample, Sums
from muskox.web.scaling import advise
from tests.web.conftest import Dashboard

USUAL: dict[str, Any] = {
    "window": 600.0, "slots": 10, "utilisation": 0.8, "within": 300.0, "least": 0, "most": 100,
}  # fmt: skip


def did(added: int, completed: int = 0, *, seconds: float = 1.0, **more: int) -> Cell:
    runs = completed + sum(more.values())
    sums = {"added": added, "completed": completed, "r160": runs, "run_us": int(runs * seconds * 1e6), **more}
    return Cell("email", "", 0, 60, {name: number for name, number in sums.items() if number})


@pytest.mark.parametrize(
    ("cells", "backlog", "workers", "busy"),
    [
        ([], 0, 0, 0.0),  # nothing to do
        ([did(24_000, 24_000)], 0, 5, 40.0),  # 40 a second of one second each: 40 slots, 50 with headroom
        ([did(12_000, 12_000), did(12_000, 12_000)], 0, 5, 40.0),
        ([did(24_000, 12_000, retried=12_000)], 0, 10, 80.0),  # each is tried twice
        ([did(24_000, 24_000)], 2400, 6, 40.0),  # and 8 more slots for 300 seconds
        ([did(24_000, 24_000, seconds=0.01)], 0, 1, 0.4),
        ([did(60)], 60, 1, 0.0),  # nothing is known yet of how long it takes
        ([did(2_400_000, 2_400_000)], 0, 100, 4000.0),  # no more than may be
    ],
)
def test_workers_are_recommended_by_littles_law(cells: list[Cell], backlog: int, workers: int, busy: float):
    told = advise("email", cells, backlog, **USUAL)

    assert (told.workers, told.busy) == (workers, busy)


async def test_the_advice_comes_from_the_figures_of_the_store(board: Dashboard):
    store = await board.ox.store()
    await store.record(
        [Sums("email", "", {"completed": 600, "r160": 600, "run_us": 600_000_000_000})],
        [Sample("email", 0, 0, 0, 0, 600)],
    )
    await board.ox.queue("email").add("welcome", {})

    told = (await board.http.get("/autoscale?queue=email&slots=5&least=2&most=7")).json()
    other = (await board.http.get("/autoscale?queue=files")).json()

    assert told["seconds"] == 1000.0
    assert told["backlog"] == 1
    assert 540 <= told["window"] <= 600
    assert told["arrivals"] == pytest.approx(600 / told["window"], abs=0.001)
    assert told["workers"] == 7
    assert other["workers"] == 0
