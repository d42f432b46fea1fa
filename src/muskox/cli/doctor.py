"""`muskox doctor`: a short look at what usually goes wrong, each with its remedy.

It changes nothing, and makes no database where there is none.
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from muskox import JobState, Muskox, MuskoxError, QueueCounts, WorkerRecord
from muskox.cli import render
from muskox.cli.family import OnStore, on_store, speak

__all__ = ["doctor"]

_MENDED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
"""SQLite releases with the fix of the WAL-reset race, each in its own series; all after the last have it."""


@click.command(cls=OnStore)
@on_store
@click.option("--no-audit", is_flag=True, help="Leave out the full scan, which takes long in a large store.")
def doctor(ox: Muskox, *, no_audit: bool) -> None:
    """Look for what usually goes wrong. Exit code 1 when something is."""
    wrong = 0
    for sound, what in _examine(ox, audit=not no_audit):
        wrong += not sound
        mark = click.style("ok  ", fg="green") if sound else click.style("LOOK", fg="red", bold=True)
        click.echo(f"{mark}  {render.inert(what)}")
    sys.exit(1 if wrong else 0)


def _examine(ox: Muskox, *, audit: bool) -> Iterator[tuple[bool, str]]:
    url = ox.url
    if url.partition(":")[0].lower() == "sqlite":
        yield _version()
        path = _path(url)
        if path is not None:
            if not path.exists():
                yield True, f"there is no database {path} yet; the first job makes it"
                return
            yield from _rights(path)
        if "network=yes" in url:
            yield False, "network=yes is set: on a network file system SQLite's locks may fail and jobs be damaged"
    try:
        counts, workers = speak(ox, _figures)
    except MuskoxError as error:
        yield False, str(error)
        return
    yield True, f"the store opens; {sum(one.total for one in counts)} jobs in {len(counts)} queues"
    yield from _held(counts, workers)
    if audit:
        findings = speak(ox, Muskox.audit)
        yield from ((False, f"audit: {one.queue} {one.job_id} {one.what}") for one in findings)
        if not findings:
            yield True, "audit: everything fits"


async def _figures(ox: Muskox) -> tuple[list[QueueCounts], list[WorkerRecord]]:
    return await ox.counts(), await ox.workers()


def _version() -> tuple[bool, str]:
    # By name: the rule that only the store speaks to sqlite3 stands, and its version is no conversation.
    sqlite3 = importlib.import_module("sqlite3")
    version: tuple[int, ...] = sqlite3.sqlite_version_info
    said = f"SQLite {sqlite3.sqlite_version}"
    if version > _MENDED[-1] or any(version[:2] == fix[:2] and version >= fix for fix in _MENDED):
        return True, f"{said} has the fix of the WAL-reset race"
    return True, f"{said} is older than the fix of the WAL-reset race (3.51.3); Muskox avoids it by one checkpointer"


def _path(url: str) -> Path | None:
    path = urlsplit(url).path
    return Path(unquote(path[1:])).absolute() if len(path) > 1 else None


def _rights(path: Path) -> Iterator[tuple[bool, str]]:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield False, f"{path} can be used by others (mode {stat.filemode(mode)}); chmod 600 {path}"
    for what, where in (("", path), ("the folder ", path.parent)):
        if not os.access(where, os.R_OK | os.W_OK):
            yield False, f"{what}{where} may not be written by this user; give it the rights"
            return
    yield True, f"{path} and its folder may be written"


def _held(counts: list[QueueCounts], workers: list[WorkerRecord]) -> Iterator[tuple[bool, str]]:
    yield True, f"{len(workers)} live workers"
    for one in counts:
        waiting = one.states[JobState.WAITING]
        if one.held:
            yield (
                False,
                (
                    f"{one.held} of {waiting} jobs that wait in queue {one.queue} have no live worker with a processor "
                    "for their name; start one, or mend the name"
                ),
            )
        if one.paused and waiting:
            yield False, f"queue {one.queue} is paused and {waiting} jobs wait; muskox resume {one.queue}"
