"""The command line `muskox`: the public verbs, spoken in a terminal.

Here the commands are put together; each group of them has a file of its own.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import click

from muskox.cli.completion import completion
from muskox.cli.dashboard import access, dashboard
from muskox.cli.dev import dev
from muskox.cli.doctor import doctor
from muskox.cli.events import events
from muskox.cli.family import Family
from muskox.cli.flows import flows
from muskox.cli.jobs import explain, jobs
from muskox.cli.limits import hold, limits
from muskox.cli.manage import add
from muskox.cli.move import move
from muskox.cli.outbox import outbox
from muskox.cli.queues import queues
from muskox.cli.schedules import schedules
from muskox.cli.store import audit, migrate
from muskox.cli.top import top
from muskox.cli.worker import worker
from muskox.cli.workers import workers

__all__ = ["main"]


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        try:
            click.echo(f"muskox {version('muskox')}")
        except PackageNotFoundError:
            click.echo("muskox, from its source; no version is installed")
        ctx.exit()


@click.group(cls=Family, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              help="Show the version and exit.")  # fmt: skip
def main() -> None:
    """Background jobs for Python: run workers, look at jobs, manage them.

    PROGRAM is where your Muskox is, as module:object, such as jobs:ox. Commands that only need the store take
    --url instead, or neither: then MUSKOX_PROGRAM names the program, or MUSKOX_URL says where the store is, and else it
    is sqlite:///muskox.db.

    Exit codes: 0 done; 1 the job or the store does not allow it, something was found wrong, or Ctrl-C broke it off;
    2 the command is wrong, and will be wrong again; 3 the store gives no answer, so try again later.
    """


for _command in (
    dev, worker, dashboard, access, add, explain, jobs, queues, workers, top, limits, hold, flows, schedules, events,
    doctor, audit, migrate, move, outbox, completion,
):  # fmt: skip
    main.add_command(_command)
