"""What a processor declares holds for jobs of programs that do not know the processor."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from muskox import JobState, Muskox
from tests.end_to_end.dying import DEATHS

ROOT = Path(__file__).parent.parent.parent


async def test_a_job_from_another_program_may_stall_as_often_as_its_processor_says(tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    command = [sys.executable, "-m", "tests.end_to_end.dying", url]
    async with Muskox(url) as ox, asyncio.timeout(60):
        job = await ox.queue("files").add("resize")
        worker = None
        try:
            while not job.settled:
                if worker is None or worker.returncode is not None:
                    worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
                await asyncio.sleep(0.02)
                job = await ox.queue("files").get(job.id)
        finally:
            if worker is not None and worker.returncode is None:
                worker.kill()
                await worker.wait()

    assert (job.state, job.stalls) == (JobState.COMPLETED, DEATHS)
