"""`muskox worker`: run the jobs of a program, in this process or in several.

What a worker does and how it stops is in the runtime; here its options are
checked before anything is started.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from muskox import Muskox, OptionError
from muskox.cli.family import load
from muskox.cli.logs import FORMATS, LEVELS, set_up_logging

__all__ = ["check", "worker"]


@click.command()
@click.argument("program", envvar="MUSKOX_PROGRAM")
@click.option("--queue", "-q", "queues", metavar="NAME", multiple=True,
              help="Take jobs from this queue only; may be repeated.  [all that have a processor]")  # fmt: skip
@click.option("--concurrency", "-c", type=click.IntRange(1, 100_000), default=10, show_default=True,
              help="How many jobs run at once, in each process.")  # fmt: skip
@click.option("--processes", "-p", type=click.IntRange(1, 1024), default=1, show_default=True,
              help="How many worker processes to keep alive.")  # fmt: skip
@click.option("--reload", is_flag=True, help="Start anew when a Python file below the current folder changes.")
@click.option("--shutdown-timeout", type=float, default=25.0, show_default=True, metavar="SECONDS",
              help="How long a gentle stop waits for running jobs.")  # fmt: skip
@click.option("--lease", type=float, default=30.0, show_default=True, metavar="SECONDS",
              help="How long a job is safe from other workers without a sign of life.")  # fmt: skip
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True,
              help="Log to stderr from this level on.")  # fmt: skip
@click.option("--log-format", type=click.Choice(FORMATS), default="text", show_default=True,
              help="Log lines for people, or a line of JSON for each record.")  # fmt: skip
def worker(
    program: str,
    *,
    queues: tuple[str, ...],
    processes: int,
    reload: bool,
    log_level: str,
    log_format: str,
    **settings: Any,
) -> None:
    """Run the jobs of PROGRAM until it is stopped.

    PROGRAM is module:object, such as jobs:ox. SIGTERM and Ctrl-C stop it.

    The first signal lets running jobs end, the second gives them back at once, the third ends the process.

    Exit codes: 0 after a stop that was asked for; 1 when a worker failed; 2 when the command is wrong; 128 + its
    number after the third signal.
    """
    ox = load(program)
    set_up_logging(log_level, log_format)
    alone = processes == 1 and not reload
    check(ox, program, queues, settings, opening=not alone)
    if alone:
        ox.run_worker(queues or None, **settings)
        return
    command = [
        sys.executable, "-m", "muskox", "worker", program, *(f"--queue={name}" for name in queues),
        *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items()), f"--log-level={log_level}",
        f"--log-format={log_format}",
    ]  # fmt: skip
    sys.exit(ox.run_processes([command] * processes, reload=[Path.cwd()] if reload else ()))


def check(ox: Muskox, program: str, queues: Sequence[str], settings: dict[str, Any], *, opening: bool) -> None:
    """Raise `OptionError` unless such a worker can be made; in a loop, since some stores are bound to one.

    With `opening` also what the store raises, so that no supervisor starts workers that can never work.
    """
    asyncio.run(_check(ox, program, queues, settings, opening=opening))


async def _check(ox: Muskox, program: str, queues: Sequence[str], settings: dict[str, Any], *, opening: bool) -> None:
    try:
        known = ox.wanted()
    except OptionError:
        raise OptionError(
            f"{program!r} declares no processor, so there is nothing to run; "
            'decorate a function with @ox.queue("…").processor("…")'
        ) from None
    for name in queues:
        if name not in known:
            raise OptionError(
                f"{program!r} has no processor for queue {name!r}; its queues are {', '.join(sorted(known))}"
            )
    try:
        ox.worker(queues or None, **settings)
        if opening:
            await ox.store()
    finally:
        await ox.close()
