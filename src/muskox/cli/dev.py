"""`muskox dev`: a worker and the dashboard beside it, both started anew when the code changes.

For a desk, not for a server: there each is a service of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from muskox.cli.family import load
from muskox.cli.logs import set_up_logging
from muskox.cli.worker import check

__all__ = ["dev"]


@click.command()
@click.argument("program", envvar="MUSKOX_PROGRAM")
@click.option("--port", "-p", default=8321, show_default=True, type=click.IntRange(1, 65_535),
              help="Where the dashboard listens, on this machine only.")  # fmt: skip
@click.option("--queue", "-q", "queues", metavar="NAME", multiple=True,
              help="Take jobs from this queue only; may be repeated.  [all that have a processor]")  # fmt: skip
@click.option("--concurrency", "-c", type=click.IntRange(1, 100_000), default=10, show_default=True,
              help="How many jobs run at once.")  # fmt: skip
@click.option("--watch", "paths", metavar="PATH", type=click.Path(exists=True, path_type=Path), multiple=True,
              help="Start anew when Python files below it change; may be repeated.  [the current folder]")  # fmt: skip
def dev(program: str, *, port: int, queues: tuple[str, ...], concurrency: int, paths: tuple[Path, ...]) -> None:
    """Run a worker and the dashboard for PROGRAM, both started anew when its code changes. Ctrl-C stops them.

    PROGRAM is module:object, such as jobs:ox. Needs muskox[web,watch].
    """
    ox = load(program)
    set_up_logging("info")
    settings: dict[str, Any] = {"concurrency": concurrency}
    # What is wrong from the start is told here, once, and not by a process that is started again and again.
    check(ox, program, queues, settings, opening=True)
    _need("muskox.web", "web")
    us = [sys.executable, "-m", "muskox"]
    worker = [*us, "worker", program, *(f"--queue={name}" for name in queues), f"--concurrency={concurrency}"]
    dashboard = [*us, "dashboard", program, f"--port={port}"]
    sys.exit(ox.run_processes([worker, dashboard], reload=paths or [Path.cwd()]))


def _need(module: str, extra: str) -> None:
    try:
        __import__(module)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"this needs {error.name}: pip install 'muskox[{extra}]'") from None
