"""What a processor declares holds for jobs of programs that do not know the processor."""

from __future__ import annotations

import asyncio

from muskox import JobState, Muskox
from tests import processes
from tests.end_to_end.dying import DEATHS


async def test_a_job_from_another_program_may_stall_as_often_as_its_processor_says(tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    async with Muskox(url) as ox, asyncio.timeout(60):
        job = await ox.queue("files").add("resize")
        worker = None
        try:
            while not job.settled:
                if worker is None or worker.returncode is not None:
                    worker = await processes.forked("tests.end_to_end.dying", url)
                await asyncio.sleep(0.02)
                job = await ox.queue("files").get(job.id)
        finally:
            if worker is not None and worker.returncode is None:
                worker.kill()
                await worker.wait()

    assert (job.state, job.stalls) == (JobState.COMPLETED, DEATHS)
