"""A plain script: add some jobs, run them here, print what came of them.

Run it with `python examples/script.py`; it needs nothing but Muskox.
"""

from __future__ import annotations

import asyncio
import sys

from muskox import ActiveJob, Fixed, Muskox

ox = Muskox(sys.argv[1] if len(sys.argv) > 1 else "sqlite://:memory:")
numbers = ox.queue("numbers")


@numbers.processor(attempts=3, backoff=Fixed(0.1))
async def square(job: ActiveJob, number: int) -> int:
    if number == 3 and job.attempt == 1:
        raise ConnectionError("the multiplication service is away")
    return number * number


async def main() -> None:
    async with ox, ox.worker():
        jobs = await numbers.add_many([("square", {"number": number}) for number in range(5)])
        for job in jobs:
            print(job.data["number"], "squared is", await numbers.result(job.id, timeout=30))
        [completed] = [one.states["completed"] for one in await ox.counts()]
        print(completed, "jobs are completed")


if __name__ == "__main__":
    asyncio.run(main())
