"""`muskox outbox`: relay the jobs of an outbox to the store, in a process of its own.

What the relay does is in `muskox.contrib.outbox`, which is not imported here: the program brings it along.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any

import click

from muskox.cli.family import look_up

__all__ = ["outbox"]


@click.command()
@click.argument("outbox")
def outbox(outbox: str) -> None:
    """Relay the jobs of OUTBOX to the store until it is stopped.

    OUTBOX is module:object, such as jobs:outbox. Several may run at once; one relays at a time. SIGTERM and Ctrl-C
    stop it.
    """
    _, found = look_up(outbox)
    if not callable(getattr(found, "relaying", None)):
        raise click.UsageError(
            f"{outbox!r} is no outbox but {type(found).__qualname__}; give the name of a muskox.contrib.outbox.Outbox"
        )
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    logging.getLogger("muskox").setLevel("INFO")
    asyncio.run(_relay(found))


async def _relay(outbox: Any) -> None:
    relaying = asyncio.current_task()
    assert relaying is not None, "it is run as a task"
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relaying.cancel)
    async with outbox.ox:
        click.echo("relaying", err=True)
        try:
            await outbox.relay_forever()
        except asyncio.CancelledError:
            click.echo("stopped", err=True)
