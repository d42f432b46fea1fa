"""Two worker processes share what is there: each has its part, and nothing is done twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.together import share
from muskox.runtime.world import RealWorld
from tests.end_to_end.conftest import MAIN

JOBS = 2000


@pytest.fixture(params=MAIN)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    async with MAIN[request.param](tmp_path, RealWorld()) as (url, _):
        yield url


async def test_fault_b02_two_worker_processes_have_each_its_share_of_the_work(url: str) -> None:
    shares = await share(url, JOBS, 2, concurrency=5, pause=0.002)

    assert sum(shares.runs.values()) == JOBS
    assert shares.twice == 0
    assert min(shares.runs.values()) > JOBS // 10
    assert shares.findings == []
