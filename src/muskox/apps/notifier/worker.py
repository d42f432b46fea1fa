"""`python -m muskox.apps.notifier.worker`: a worker of the notifier and nothing else.

For more hands beside the service, or instead of its own (`WORKER=0`). It needs
the same settings, and stops like every worker of Muskox.
"""

from __future__ import annotations

import asyncio
import logging

import click

from muskox import MuskoxError
from muskox.apps.notifier.services import Services, build_services
from muskox.apps.notifier.settings import read_environment, read_settings

__all__ = ["main"]


@click.command(help="Run a worker for the notifier's jobs until SIGTERM or Ctrl-C.")
def main() -> None:
    """Work until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    environment = read_environment()
    try:
        # A guess would put links into mails that lead nowhere, so without PUBLIC_URL the service's default is meant.
        services = build_services(read_settings(environment, address="http://127.0.0.1:8000"))
        asyncio.run(_prepare(services))
    except MuskoxError as error:
        raise click.ClickException(str(error)) from None
    settings = services.settings
    services.ox.run_worker(concurrency=settings.concurrency, lease=settings.lease)
    services.engine.dispose()


async def _prepare(services: Services) -> None:
    """Make the tables, and end what nobody would pick up any more."""
    async with services.ox:
        await asyncio.to_thread(services.create_tables)
        await services.abandoned.reconcile()


if __name__ == "__main__":
    main()
