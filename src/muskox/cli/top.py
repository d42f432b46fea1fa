"""`muskox top`: queues, workers and running jobs in a terminal, drawn anew each second.

It reads figures that the store keeps up, and no job but those that run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from muskox import Job, JobState, Muskox, QueueCounts, WorkerRecord
from muskox.cli import render
from muskox.cli.family import OnStore, on_store, shown
from muskox.cli.workers import state_of

__all__ = ["top"]

_STATES = ("waiting", "active", "delayed", "blocked", "failed", "completed")
_SPAN = 10.0
"""Seconds over which rates are taken."""
_PAGE = 1000
_PAGES = 10
"""So many pages of events are read for a look; what is beyond them is estimated."""


class Snapshot(msgspec.Struct):
    """What one look saw; `rates` are events per second by kind."""

    at: datetime
    store: str
    rates: dict[str, float]
    queues: list[QueueCounts]
    workers: list[WorkerRecord]
    running: list[Job]


@click.command(cls=OnStore)
@on_store
@click.option("--every", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, metavar="SECONDS",
              help="How often to look.")  # fmt: skip
@click.option("--jobs", "most", type=click.IntRange(0, 200), default=15, show_default=True,
              help="How many running jobs to show at most.")  # fmt: skip
@click.option("--once", is_flag=True, help="Look once, print it and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each look.")
def top(ox: Muskox, *, every: float, most: int, once: bool, as_json: bool) -> None:
    """Watch queues, workers and running jobs. q or Ctrl-C ends it."""
    if not (once or as_json or sys.stdout.isatty()):
        raise click.UsageError("top draws on a terminal, and this is none; add --once or --json")
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(ox, every, most, once=once, as_json=as_json))


async def _run(ox: Muskox, every: float, most: int, *, once: bool, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    async with ox:
        looker = _Looker(ox, most)
        if once or as_json:
            while True:
                found = await looker.look()
                if as_json:
                    click.echo(render.to_json(_record(found)))
                else:
                    Console(highlight=False).print(frame(found))
                if once:
                    return
                await ox.world.sleep(every)
        with (
            _pressed() as over,
            Live(frame(await looker.look()), console=Console(highlight=False), screen=True, auto_refresh=False) as live,
        ):
            while not over.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), every)
                live.update(frame(await looker.look()), refresh=True)


@contextmanager
def _pressed() -> Iterator[asyncio.Event]:
    """An event that is set when somebody presses q, where keys can be read one by one."""
    over = asyncio.Event()
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield over
        return
    import termios
    import tty

    keys, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(keys)

    def read() -> None:
        if os.read(keys, 1) in (b"q", b"Q", b""):
            over.set()

    tty.setcbreak(keys)
    loop.add_reader(keys, read)
    try:
        yield over
    finally:
        loop.remove_reader(keys)
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


class _Looker:
    """Looks at a store again and again, and knows from the events between what became of jobs."""

    def __init__(self, ox: Muskox, most: int) -> None:
        self._ox = ox
        self._most = most
        self._after: int | None = None
        self._seen: deque[tuple[float, Counter[str]]] = deque()

    async def look(self) -> Snapshot:
        """Look once."""
        rates = await self._rates()
        counts, workers = await self._ox.counts(), await self._ox.workers()
        running: list[Job] = []
        for one in counts:
            if one.states[JobState.ACTIVE] and len(running) < self._most:
                found = await self._ox.queue(one.queue).find(JobState.ACTIVE, limit=self._most - len(running))
                running += found.jobs
        now = datetime.fromtimestamp(self._ox.world.now(), UTC)
        return Snapshot(now, shown(self._ox), rates, counts, workers, running)

    async def _rates(self) -> dict[str, float]:
        now = self._ox.world.monotonic()
        self._seen.append((now, await self._news()))
        while len(self._seen) > 1 and now - self._seen[1][0] >= _SPAN:
            self._seen.popleft()
        # What the first look saw happened before it, and counts for nothing.
        total = sum((news for _, news in list(self._seen)[1:]), Counter[str]())
        span = now - self._seen[0][0]
        return {kind: total[kind] / span if span else 0.0 for kind in ("waiting", "completed", "failed", "retrying")}

    async def _news(self) -> Counter[str]:
        """How many events of each kind there were since the last look."""
        store, news = await self._ox.store(), Counter[str]()
        [latest] = await store.events(after=-1)
        if self._after is None:
            self._after = latest.offset
            return news
        began = self._after
        for _ in range(_PAGES):
            page = await store.events(after=self._after, limit=_PAGE)
            news.update(event.kind for event in page)
            self._after = page[-1].offset if page else self._after
            if len(page) < _PAGE:
                return news
        read, left = self._after - began, max(0, latest.offset - self._after)
        self._after = max(self._after, latest.offset)
        return Counter({kind: round(number * (read + left) / read) for kind, number in news.items()})


def _record(found: Snapshot) -> dict[str, Any]:
    return {
        "at": found.at, "store": found.store, "rates": found.rates,
        "queues": [render.count_record(one) for one in found.queues],
        "workers": [render.worker_record(one) for one in found.workers],
        "running": [render.job_record(one) for one in found.running],
    }  # fmt: skip


# --- drawing ---------------------------------------------------------------------------


def frame(found: Snapshot) -> Any:
    """One look, as it is drawn."""
    from rich.console import Group
    from rich.text import Text

    slots, busy = sum(one.slots for one in found.workers), sum(one.running for one in found.workers)
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append("muskox ", "bold")
    head.append(f"{render.inert(found.store)}  {found.at:%H:%M:%S} UTC\n")
    head.append(f"{busy} of {slots} slots busy", "bold" if busy else "")
    head.append(f"   {found.rates['waiting']:.1f} arriving/s   {found.rates['completed']:.1f} completed/s   ")
    head.append(f"{found.rates['retrying']:.1f} retrying/s   ", "yellow" if found.rates["retrying"] else "")
    head.append(f"{found.rates['failed']:.1f} failed/s\n", "red" if found.rates["failed"] else "")
    parts: list[Any] = [head, _queues(found.queues)]
    if found.workers:
        parts += [Text(), _workers(found.workers)]
    if found.running:
        parts += [Text(), _running(found.running, found.at)]
    return Group(*parts)


def _table(*columns: tuple[str, str]) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="reverse", pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True, overflow="ellipsis")
    return table


def _cell(text: object, style: str = "") -> Any:
    from rich.text import Text

    return Text(render.one_line(str(text)), style)


def _queues(queues: list[QueueCounts]) -> Any:
    table = _table(("QUEUE", "left"), *((state.upper(), "right") for state in _STATES), ("HELD", "right"),
                   ("OLDEST", "right"))  # fmt: skip
    for one in queues:
        figures = [_cell(one.states[JobState(state)], _style(state, one)) for state in _STATES]
        oldest = "" if one.oldest_waiting is None else f"{one.oldest_waiting:.0f} s"
        name = f"{one.queue} (paused)" if one.paused else one.queue
        table.add_row(_cell(name, "yellow" if one.paused else ""), *figures, _cell(one.held or ""), _cell(oldest))
    return table


def _style(state: str, one: QueueCounts) -> str:
    number = one.states[JobState(state)]
    if not number:
        return "dim"
    return {"failed": "red", "active": "green"}.get(state, "")


def _workers(workers: list[WorkerRecord]) -> Any:
    table = _table(("WORKER", "left"), ("PROCESS", "right"), ("RUNNING", "right"), ("STATE", "left"), ("BEAT", "right"),
                   ("QUEUES", "left"))  # fmt: skip
    for one in sorted(workers, key=lambda one: (one.host, one.pid)):
        queues = ", ".join(sorted({want.queue for want in one.wants}))
        table.add_row(_cell(one.host), _cell(one.pid), _cell(f"{one.running}/{one.slots}"), _cell(state_of(one)),
                      _cell(f"{one.age:.0f} s"), _cell(queues))  # fmt: skip
    return table


def _running(jobs: list[Job], at: datetime) -> Any:
    table = _table(("RUNNING", "left"), ("QUEUE", "left"), ("FOR", "right"), ("ATTEMPT", "right"), ("PROGRESS", "left"),
                   ("ID", "left"))  # fmt: skip
    for one in jobs:
        since = "" if one.started_at is None else f"{max(0.0, (at - one.started_at).total_seconds()):.0f} s"
        progress = "" if one.progress is None else render.to_json(one.progress)
        table.add_row(_cell(one.name), _cell(one.queue), _cell(since), _cell(one.attempt), _cell(progress),
                      _cell(one.id))  # fmt: skip
    return table
