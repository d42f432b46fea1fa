"""Takes files in, has things made of them, and gives them out: what a program uses of this application.

A file is a row and, with all others of the same content, one blob; what is made
of it is found by content and recipe. The work is done in jobs, elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Engine

from muskox import Job, JobState, Muskox, WrongState
from muskox.apps.media import records, tables
from muskox.apps.media.errors import NoSuchFile, Reason, Refused
from muskox.apps.media.images.craft import ImageCraft
from muskox.apps.media.images.pool import Pool
from muskox.apps.media.images.processor import IMAGE_JOB, IMAGE_QUEUE, Images
from muskox.apps.media.kinds import HEAD, Kind, Sniffed, sniff
from muskox.apps.media.limits import Limits
from muskox.apps.media.names import shown_name
from muskox.apps.media.operations import Operation, default_operations, plain, read_operations
from muskox.apps.media.recipes import Manifest
from muskox.apps.media.records import FileRecord, RunRecord
from muskox.apps.media.storage import Incoming, Storage
from muskox.apps.media.sweep import Sweep
from muskox.apps.media.video.craft import VideoCraft
from muskox.apps.media.video.processor import VIDEO_JOB, VIDEO_QUEUE, Videos
from muskox.apps.media.video.tools import Tools
from muskox.apps.media.workshop import Craft, Workshop

__all__ = ["SWEEP_EACH", "Media", "Received", "RunLook"]

P = ParamSpec("P")
R = TypeVar("R")
SWEEP_EACH = 600.0
_PIECE = 256 * 1024
"""So much is gathered before it is written."""


@dataclass(slots=True)
class Received:
    """A file that has come in whole and lies in `tmp`; `Media.accept` keeps it, `drop` gives it up."""

    incoming: Incoming
    sniffed: Sniffed
    name: str

    def drop(self) -> None:
        """Give it up; does nothing once it was accepted."""
        self.incoming.drop()


@dataclass(frozen=True, slots=True)
class RunLook:
    """A run as it is now: `job` None where nothing had to be done, or where it is long over."""

    run: RunRecord
    job: Job | None
    manifest: Manifest | None

    @property
    def state(self) -> JobState:
        """The state of the job; what is there is completed, whatever became of the job."""
        if self.manifest is not None and (self.job is None or self.run.cached):
            return JobState.COMPLETED
        return JobState.WAITING if self.job is None else self.job.state


class Media:
    """One media application: a folder for the files, a database for what is known of them, and the jobs.

    Make it before the worker is started, as it declares processors. `running` goes around its use. A `pool` that is
    handed in may be used by others too, and stays open. Videos are taken where there are `tools` for them
    (`video.tools.find_tools`).
    """

    def __init__(
        self,
        ox: Muskox,
        engine: Engine,
        root: Path,
        *,
        limits: Limits | None = None,
        pool: Pool | None = None,
        tools: Tools | None = None,
    ) -> None:
        self.ox = ox
        self.engine = engine
        self.limits = limits or Limits()
        self.storage = Storage(root)
        self._own_pool = pool is None
        self._pool = pool or Pool(self.limits.children, self.limits.image)
        workshop = Workshop(ox, self.storage, self.limits)
        self._workshop = workshop
        images = ImageCraft(self._pool, self.limits.image)
        self._crafts: dict[Kind, Craft] = {Kind.IMAGE: images}
        self._places = {Kind.IMAGE: (IMAGE_QUEUE, IMAGE_JOB)}
        ox.include(Images(workshop, images))
        if tools is not None:
            videos = VideoCraft(ox.world, self.limits, tools)
            self._crafts[Kind.VIDEO] = videos
            self._places[Kind.VIDEO] = (VIDEO_QUEUE, VIDEO_JOB)
            ox.queue(VIDEO_QUEUE, concurrency=self.limits.encoders)
            ox.include(Videos(workshop, videos))
        self._sweep = Sweep(ox, engine, self.storage, self.add_job)
        ox.every(SWEEP_EACH, per_process=True)(self._sweep.run)

    # --- opening ---------------------------------------------------------------------

    def create_tables(self) -> None:
        """Make the tables and folders that are not there yet. Blocks."""
        self.storage.open()
        with self.engine.begin() as connection:
            tables.metadata.create_all(connection)

    async def sweep(self) -> None:
        """Remove what dead runs and broken uploads have left, and add jobs that a crash kept from being added."""
        await self._sweep.run()

    def close(self) -> None:
        """End the processes that decode. Blocks for a moment."""
        if self._own_pool:
            self._pool.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything but the store of the jobs, and close it afterwards."""
        try:
            await asyncio.to_thread(self.create_tables)
            yield
        finally:
            await asyncio.to_thread(self.close)

    # --- taking in -------------------------------------------------------------------

    async def receive(self, blocks: AsyncIterator[bytes], *, name: str = "", length: int | None = None) -> Received:
        """Receive a file piece by piece; its kind is known after the first 4 KiB, and its limit is kept while reading.

        Raises `Refused` (`empty`, `unsupported_type`, `too_large`), `DiskLow`, `Broken`; nothing is left then.
        """
        self.check_length(length or 0)
        await asyncio.to_thread(self.storage.check_room, length or 0, self.limits.reserve)
        incoming = await asyncio.to_thread(self.storage.receive, self.new_id())
        try:
            sniffed = await self._pour(blocks, incoming, length)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(incoming.drop))
            raise
        return self.received(incoming, sniffed, name)

    def received(self, incoming: Incoming, sniffed: Sniffed, name: str) -> Received:
        """A file that has come in, under a name that is fit to be shown."""
        return Received(incoming, sniffed, shown_name(name, f"{sniffed.kind}.{sniffed.format}"))

    def check_length(self, length: int) -> None:
        """Raise `Refused` (`too_large`) where no file may be as long as that."""
        most = max(self.limits.image.bytes, self.limits.video.bytes)
        if length > most:
            raise _too_large(most)

    async def _pour(self, blocks: AsyncIterator[bytes], incoming: Incoming, length: int | None) -> Sniffed:
        waiting, sniffed = b"", None
        async for block in blocks:
            waiting += block
            if sniffed is None:
                if len(waiting) < HEAD:
                    continue
                sniffed = self.admit(waiting, length)
            if incoming.bytes + len(waiting) > self._most(sniffed.kind):
                raise _too_large(self._most(sniffed.kind))
            if len(waiting) >= _PIECE:
                await asyncio.to_thread(incoming.write, waiting)
                waiting = b""
        sniffed = sniffed or self.admit(waiting, length)
        await asyncio.to_thread(incoming.write, waiting)
        return sniffed

    def admit(self, head: bytes, length: int | None) -> Sniffed:
        """Say what a file is that begins like that; raises `Refused` where it is not taken, or not at that length."""
        sniffed = sniff(head[:HEAD])
        if sniffed.kind not in self._crafts:
            raise Refused(Reason.UNSUPPORTED_TYPE, f"files of kind {sniffed.kind} are not taken here")
        if length is not None and length > self._most(sniffed.kind):
            raise _too_large(self._most(sniffed.kind))
        return sniffed

    def _most(self, kind: Kind) -> int:
        return self.limits.image.bytes if kind is Kind.IMAGE else self.limits.video.bytes

    async def accept(
        self, received: Received, operations: Any = None, *, priority: int | None = None, id: str | None = None
    ) -> RunLook:
        """Keep a file and have something made of it; by default, all that is made of its kind.

        `id` is the file's, unless that is a new one.
        Raises `BadOptions`, or `Refused` for what the head of the file gives away; nothing is kept then.
        """
        kind = received.sniffed.kind
        try:
            wanted = default_operations(kind) if operations is None else read_operations(kind, operations)
            facts = await self._crafts[kind].probe(received.incoming.path, received.sniffed)
            await asyncio.to_thread(received.incoming.close)
            file = await self._blocking(self._keep, received, facts, id or self.new_id())
        except BaseException:
            await asyncio.shield(asyncio.to_thread(received.drop))
            raise
        return await self._order(file, wanted, priority)

    def _keep(self, received: Received, facts: dict[str, Any], id: str) -> FileRecord:
        sniffed = received.sniffed
        # Within the transaction, so that whoever deletes the last file with these bytes comes before or after.
        with self.engine.begin() as connection:
            blob = received.incoming.close()
            file = FileRecord(
                id=id,
                sha256=blob.sha256,
                bytes=blob.bytes,
                name=received.name,
                kind=sniffed.kind,
                format=sniffed.format,
                media_type=sniffed.media_type,
                facts=facts,
                created_at=self.now(),
            )
            records.add_file(connection, file)
            self.storage.keep(received.incoming)
        return file

    # --- having things made ----------------------------------------------------------

    async def process(self, file_id: str, operations: Any, *, priority: int | None = None) -> RunLook:
        """Have something made of a file that is here; raises `NoSuchFile`, `BadOptions`."""
        file = await self.file(file_id)
        return await self._order(file, read_operations(file.kind, operations), priority)

    async def _order(self, file: FileRecord, operations: Sequence[Operation], priority: int | None) -> RunLook:
        recipe = self._workshop.recipe(self._crafts[file.kind], list(operations)).hash
        manifest = await asyncio.to_thread(self.storage.find, file.sha256, recipe)
        queue, name = self._places[file.kind]
        run = RunRecord(
            id=self.ox.world.new_id(),
            file_id=file.id,
            recipe=recipe,
            operations=plain(operations),
            queue=queue,
            name=name,
            priority=priority,
            cached=manifest is not None,
            created_at=self.now(),
        )
        await self._blocking(self._write_run, run)
        job = None if manifest is not None else await self.add_job(file, run)
        return RunLook(run, job, manifest)

    def _write_run(self, run: RunRecord) -> None:
        with self.engine.begin() as connection:
            records.add_run(connection, run)

    async def add_job(self, file: FileRecord, run: RunRecord) -> Job:
        """Add the job of a run; one that was added before is given as it is."""
        data = {"file": file.id, "source": file.sha256, "format": file.format, "operations": run.operations}
        return await self.ox.queue(run.queue).add(run.name, data, id=run.id, priority=run.priority)

    # --- looking ---------------------------------------------------------------------

    async def file(self, id: str) -> FileRecord:
        """The file of that id; raises `NoSuchFile`."""
        found = await self._reading(records.find_file, id)
        if found is None:
            raise _no_such_file()
        return found

    async def files(self, *, limit: int = 50) -> list[FileRecord]:
        """The files that came last, newest first."""
        return await self._reading(partial(records.find_files, limit=limit))

    async def runs(self, file: FileRecord) -> list[RunLook]:
        """All runs of a file, newest first."""
        return [await self._look(file, run) for run in await self._reading(records.runs_of, file.id)]

    async def run(self, id: str) -> tuple[FileRecord, RunLook]:
        """The run of that id, with its file; raises `NoSuchFile`."""
        run = await self._reading(records.find_run, id)
        if run is None:
            raise NoSuchFile(Reason.SOURCE_GONE, "there is no such job")
        file = await self.file(run.file_id)
        return file, await self._look(file, run)

    async def _look(self, file: FileRecord, run: RunRecord) -> RunLook:
        job = None if run.cached else await self.ox.queue(run.queue).get(run.id)
        over = job is None or job.state is JobState.COMPLETED
        manifest = await asyncio.to_thread(self.storage.find, file.sha256, run.recipe) if over else None
        return RunLook(run, job, manifest)

    # --- ending ----------------------------------------------------------------------

    async def cancel(self, id: str) -> None:
        """Cancel a run; raises `NoSuchFile`, and `WrongState` when it is over."""
        _, look = await self.run(id)
        if look.job is None:
            raise WrongState("there is nothing left to cancel: the result is there")
        await self.ox.queue(look.run.queue).cancel(id)

    async def delete(self, id: str) -> None:
        """Delete a file and cancel its jobs; bytes, and what was made of them, go with the last file that has them."""
        file = await self.file(id)
        for look in await self.runs(file):
            if look.job is not None and not look.job.settled:
                try:
                    await self.ox.queue(look.run.queue).cancel(look.run.id)
                except WrongState:
                    pass  # it has ended meanwhile
        await self._blocking(self._delete, file)

    def _delete(self, file: FileRecord) -> None:
        with self.engine.begin() as connection:
            records.delete_file(connection, file.id)
            if not records.count_of(connection, file.sha256):
                self.storage.remove_source(file.sha256)

    # --- small things ----------------------------------------------------------------

    def new_id(self) -> str:
        """A new id that nobody can guess: whoever knows it may read the file."""
        return self.ox.world.secret(16).hex()

    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.fromtimestamp(self.ox.world.now(), UTC)

    async def _blocking(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        # Not given up half-way when the caller is: what it writes belongs together.
        return await asyncio.shield(asyncio.to_thread(function, *args, **kwargs))

    async def _reading(self, function: Callable[..., R], *args: Any) -> R:
        def read() -> R:
            with self.engine.connect().execution_options(reading=True) as connection:
                return function(connection, *args)

        return await asyncio.to_thread(read)


def _too_large(most: int) -> Refused:
    return Refused(Reason.TOO_LARGE, f"the file is larger than the {most} bytes that are taken")


def _no_such_file() -> NoSuchFile:
    return NoSuchFile(Reason.SOURCE_GONE, "there is no such file")
