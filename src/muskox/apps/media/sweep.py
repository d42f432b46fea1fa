"""Tidies the folder: what runs and uploads left that are dead, and results and originals that nobody has.

It also adds the jobs that a crash between row and job has kept from being
added. It removes nothing that somebody may still be working on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine

from muskox import Job, Muskox
from muskox.apps.media import records
from muskox.apps.media.desk import job_of
from muskox.apps.media.records import FileRecord, RunRecord
from muskox.apps.media.storage import Storage

__all__ = ["Sweep"]

UPLOAD_AGE = 3600.0
"""Nobody is sending a file any more that has not grown for so many seconds."""
ORPHAN_AGE = 3600.0
LOOK_BACK = timedelta(hours=1)
T = TypeVar("T")
log = logging.getLogger("muskox.media")


class Sweep:
    """Tidies one folder. `add_job` adds the job of a run."""

    def __init__(
        self, ox: Muskox, engine: Engine, storage: Storage, add_job: Callable[[FileRecord, RunRecord], Awaitable[Job]]
    ) -> None:
        self._ox = ox
        self._engine = engine
        self._storage = storage
        self._add_job = add_job

    async def run(self) -> None:
        """Tidy once."""
        await self._tmp()
        await asyncio.to_thread(self._orphans)
        await self._missing_jobs()

    async def _tmp(self) -> None:
        for entry in await asyncio.to_thread(lambda: list(self._storage.tmp.iterdir())):
            if await self._is_dead(entry):
                log.info("removing %s, which nobody works on any more", entry.name)
                await asyncio.to_thread(_remove, entry)

    async def _is_dead(self, entry: Path) -> bool:
        id = job_of(entry.name)
        if entry.name.startswith("upload.") or id is None:
            return await asyncio.to_thread(self._is_older, entry, UPLOAD_AGE)
        run = await asyncio.to_thread(self._read, partial(records.find_run, id=id))
        job = None if run is None else await self._ox.queue(run.queue).get(id)
        return job is None or job.settled

    def _orphans(self) -> None:
        """Remove bytes whose file is gone: a crash came between the two, or a run ended after the deletion."""
        root = self._storage.root
        for entry in [*_depth(root / "blobs" / "sha256", 3), *_depth(root / "derived", 2)]:
            if not self._is_older(entry, ORPHAN_AGE):
                continue
            with self._engine.begin() as connection:
                if not records.count_of(connection, entry.name):
                    log.info("removing %s, whose file is gone", entry.name)
                    self._storage.remove_source(entry.name)

    async def _missing_jobs(self) -> None:
        since = datetime.fromtimestamp(self._ox.world.now(), UTC) - LOOK_BACK
        for run in await asyncio.to_thread(self._read, partial(records.runs_since, moment=since)):
            file = await asyncio.to_thread(self._read, partial(records.find_file, id=run.file_id))
            if file is None:
                continue
            gone = await self._ox.queue(run.queue).get(run.id) is None
            if gone and await asyncio.to_thread(self._storage.find, file.sha256, run.recipe) is None:
                log.warning("job %s was never added; it is added now", run.id)
                await self._add_job(file, run)

    def _read(self, function: Callable[[Connection], T]) -> T:
        with self._engine.connect().execution_options(reading=True) as connection:
            return function(connection)

    def _is_older(self, entry: Path, seconds: float) -> bool:
        try:
            return self._ox.world.now() - entry.lstat().st_mtime > seconds
        except FileNotFoundError:
            return False


def _depth(folder: Path, levels: int) -> Iterator[Path]:
    """What lies so many levels below a folder."""
    try:
        entries = [Path(entry) for entry in os.scandir(folder)]
    except FileNotFoundError:
        return
    for entry in entries:
        if levels == 1:
            yield entry
        elif entry.is_dir() and not entry.is_symlink():
            yield from _depth(entry, levels - 1)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
