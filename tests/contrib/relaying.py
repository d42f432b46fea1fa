"""What the processes of `test_outbox_kills.py` run: `python -m tests.contrib.relaying DATABASE TABLE STORE POINT`.

The process kills itself with -9 when a turn of the relay comes to the point; without a point it relays until it is
killed by others, and tells of each turn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import sqlalchemy

from muskox import Muskox
from muskox.contrib import _relay
from muskox.contrib.outbox import Outbox

POINTS = ("before the add", "after the add", "before the commit", "after the commit", "after all")


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def prepare(outbox: Outbox, point: str) -> None:
    """Have the relay die at a point."""
    sides = _relay._Blocking
    match point:
        case "before the add":
            sides.add = die
        case "after the add":
            sides.add = _then_die(sides.add)
        case "before the commit":
            sqlalchemy.event.listen(outbox.engine, "after_execute", lambda c, clause, *_: clause.is_delete and die())
        case "after the commit":
            sides.remove = die
        case "after all":
            sides.remove = _then_die(sides.remove)


def _then_die(work: Any) -> Any:
    async def call(*args: Any) -> None:
        await work(*args)
        die()

    return call


async def main(engine_url: str, table: str, store_url: str, point: str) -> None:
    _relay.BATCH = 4
    outbox = Outbox(Muskox(store_url), sqlalchemy.create_engine(engine_url), name=table)
    prepare(outbox, point)
    async with outbox.ox:
        print("ready", flush=True)  # noqa: T201 - its output is what it is for
        while True:
            moved = await outbox.relay()
            print("turn", moved, flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
