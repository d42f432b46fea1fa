"""`muskox events`: what happened lately, and what happens from now on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

import click

from muskox import Event, Muskox
from muskox.cli import render
from muskox.cli.family import OnStore, on_store

__all__ = ["events"]


def _kinds(cls: type[Event]) -> list[str]:
    """The kinds of event there are."""
    return sorted(([cls.kind] if cls.kind else []) + [kind for sub in cls.__subclasses__() for kind in _kinds(sub)])


@click.command(cls=OnStore)
@on_store
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--last", type=click.IntRange(0, 1000), help="Begin with the latest so many.  [20; with --follow 0]")
@click.option("--queue", help="Only events of this queue.")
@click.option("--kind", "kinds", metavar="KIND", type=click.Choice(_kinds(Event)), multiple=True,
              help="Only events of this kind, such as failed; may be given several times.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event per line.")
def events(
    ox: Muskox, *, follow: bool, last: int | None, queue: str | None, kinds: tuple[str, ...], as_json: bool
) -> None:
    """Print the facts that the store keeps about jobs and queues."""
    if queue is not None:
        ox.queue(queue)  # raises for what is no name of a queue
    back = last if last is not None else 0 if follow else 20
    with suppress(KeyboardInterrupt):
        asyncio.run(_print(ox, queue, kinds, back=back, follow=follow, as_json=as_json))


async def _print(
    ox: Muskox, queue: str | None, kinds: Collection[str], *, back: int, follow: bool, as_json: bool
) -> None:
    async with ox:
        store = await ox.store()
        [latest] = await store.events(after=-1)
        after = latest.offset
        if back:
            for event in await store.events(after=max(0, after - back), queue=queue):
                after = event.offset
                if not kinds or event.kind in kinds:
                    _tell(event, as_json=as_json)
        if follow:
            async for event in ox.events(queue=queue, after=after, kinds=kinds or None):
                _tell(event, as_json=as_json)


def _tell(event: Event, *, as_json: bool) -> None:
    click.echo(render.to_json(render.event_record(event)) if as_json else render.event_line(event))
