"""A worker that plans and spreads campaigns, and is killed as it writes to a table for the nth time.

`python -m tests.apps.mail.planner FOLDER CHUNK TABLE N`
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from muskox.apps.mail.spreading import QUEUE, Campaigns
from tests.apps.conftest import post


def die_at(engine: Engine, table: str, n: int) -> None:
    """Be killed within the transaction that writes to the table for the nth time."""
    writes = 0

    @event.listens_for(engine, "after_cursor_execute")
    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal writes
        writes += statement.startswith(f"INSERT INTO {table} ")
        if writes == n:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(folder: str, chunk: str, table: str, n: str) -> None:
    async with post(Path(folder), worker=False) as here:
        Campaigns(here.mail, chunk=int(chunk))
        die_at(here.engine, table, int(n))
        async with here.ox.worker(queues=[QUEUE], concurrency=2, lease=1):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
