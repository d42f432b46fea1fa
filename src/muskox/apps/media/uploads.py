"""Takes files that come in several pieces, and goes on where a broken line or a dead server left off.

A whole upload becomes a file with the same id, by the way that any other file
takes. That is done again after a crash, until it is written down as done; the
id sees to it that there is one file in the end. HTTP is in `web/resuming.py`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, ParamSpec, TypeVar

from muskox.apps.media.errors import BadOptions, MediaError, NoSuchFile, Reason, Refused, UploadRefused
from muskox.apps.media.kinds import HEAD, sniff
from muskox.apps.media.media import SWEEP_EACH, Media
from muskox.apps.media.operations import default_operations, plain, read_operations
from muskox.apps.media.shelf import Hold, Shelf, Upload
from muskox.apps.media.storage import Blob, Incoming

__all__ = ["ALGORITHMS", "Checksum", "Uploads"]

P = ParamSpec("P")
R = TypeVar("R")
ALGORITHMS = ("sha256", "sha1")
PIECE = 256 * 1024
"""So much is gathered before it is written."""
COUNTED = 8 * 1024 * 1024
"""So much is written before it is brought to the disk and counts: what a killed server lets a sender send again."""
_MOST_OPERATIONS = 16_384
log = logging.getLogger("muskox.media")


class Checksum:
    """What a sender says that the bytes of a piece come to; raises `BadOptions` for what nobody can check."""

    def __init__(self, text: str) -> None:
        algorithm, _, value = text.strip().partition(" ")
        if algorithm not in ALGORITHMS:
            raise BadOptions(f"a checksum is one of {', '.join(ALGORITHMS)}", "/Upload-Checksum")
        # SHA-1 is part of the protocol, and stands here against broken lines and not against attackers.
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        try:
            self._expected = base64.b64decode(value.strip(), validate=True)
        except binascii.Error:
            raise BadOptions("a checksum is its algorithm, a space, and base64", "/Upload-Checksum") from None

    def add(self, block: bytes) -> None:
        """Count more bytes in."""
        self._hash.update(block)

    @property
    def fits(self) -> bool:
        """The bytes are those that were sent."""
        return hmac.compare_digest(self._hash.digest(), self._expected)


class Uploads:
    """The uploads of one media application; made before the worker is started, which tidies them too."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._limits = media.limits
        self._storage = media.storage
        self._shelf = Shelf(media.storage.root / "uploads")
        media.ox.every(SWEEP_EACH, per_process=True)(self.sweep)

    async def create(self, length: int, *, metadata: str = "", name: str = "", operations: str | None = None) -> Upload:
        """Begin an upload of so many bytes; `operations` is JSON, as for any other file.

        Raises `Refused` (`empty`, `too_large`), `BadOptions`, `DiskLow`, `UploadRefused` (`too_many_uploads`).
        """
        if length == 0:
            sniff(b"")  # says what an empty file is told
        self._media.check_length(length)
        _read(operations)
        upload = Upload(
            id=self._media.new_id(),
            length=length,
            expires_at=self._expiry(),
            metadata=metadata,
            name=name,
            operations=operations,
        )
        now = self._media.ox.world.now()
        awaited = await self._blocking(self._shelf.put, upload, most=self._limits.uploads, now=now)
        try:
            # All that is promised must fit, and not only what has come so far.
            await asyncio.to_thread(self._storage.check_room, length + awaited, self._limits.reserve)
        except BaseException:
            await self._blocking(self._shelf.remove, upload.id)
            raise
        return upload

    async def look(self, id: str) -> Upload:
        """An upload as it is: what is counted is on the disk. One that is whole is made a file, if it is none yet.

        Raises `NoSuchFile`, and `UploadRefused` (`expired`).
        """
        upload = await self._find(id)
        if upload.complete and not upload.finished:
            return await self.append(id, upload.offset, _nothing())
        return upload

    async def append(
        self,
        id: str,
        offset: int,
        blocks: AsyncIterator[bytes],
        *,
        length: int | None = None,
        checksum: Checksum | None = None,
    ) -> Upload:
        """Add a piece of `length` bytes, if that is known; when it was the last, keep the file and add its job.

        A piece that breaks off counts as far as it came, unless it has a checksum: then all of it counts or nothing.
        Raises `UploadRefused` (`wrong_offset`, `locked`, `expired`, `checksum_mismatch`), `NoSuchFile`, and `Refused`
        for a file that is not taken, which ends the upload.
        """
        upload = await self._find(id)
        if not upload.finished:
            hold = await asyncio.to_thread(self._shelf.take, id)
            try:
                self._check_place(hold.upload, offset, length)
                await self._fill(hold, blocks, checksum)
                return hold.upload
            finally:
                await self._blocking(hold.close)
        self._check_place(upload, offset, length)
        return upload

    def _check_place(self, upload: Upload, offset: int, length: int | None) -> None:
        if offset != upload.offset:
            raise UploadRefused(Reason.WRONG_OFFSET, f"the next byte is number {upload.offset}, not {offset}")
        if offset + (length or 0) > upload.length:
            raise _too_much(upload)

    async def drop(self, id: str) -> None:
        """End an upload and forget it; a file that has come of it stays. Raises as `look` does."""
        upload = await self._find(id)
        if upload.finished:
            await self._blocking(self._shelf.remove, id)
            return
        hold = await asyncio.to_thread(self._shelf.take, id)
        try:
            await self._blocking(hold.remove)
        finally:
            await self._blocking(hold.close)

    async def sweep(self) -> None:
        """Forget what nobody went on with, and make files of what was whole when a server died."""
        now = self._media.ox.world.now()
        for upload in await asyncio.to_thread(self._shelf.all):
            try:
                if now > upload.expires_at + self._limits.upload_age:
                    await self._blocking(self._shelf.remove, upload.id)
                elif upload.finished:
                    pass
                elif now > upload.expires_at:
                    await self._blocking(self._empty, upload.id)
                elif upload.complete:
                    await self.look(upload.id)
            except MediaError as error:
                log.info("upload %s was left as it is: %s", upload.id, error.reason)
        await asyncio.to_thread(self._remove_strays, now)

    def _empty(self, id: str) -> None:
        """Give up the bytes of an upload; the words stay for a while, so that a late sender hears why."""
        try:
            hold = self._shelf.take(id)
        except NoSuchFile:
            return  # they are gone already
        try:
            log.info("upload %s has expired", id)
            hold.empty()
        finally:
            hold.close()

    def _remove_strays(self, now: float) -> None:
        for path in self._shelf.strays():
            try:
                if now - path.lstat().st_mtime > self._limits.upload_age:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                pass

    # --- a piece -----------------------------------------------------------------------

    async def _fill(self, hold: Hold, blocks: AsyncIterator[bytes], checksum: Checksum | None) -> None:
        try:
            await asyncio.to_thread(hold.begin)
            await self._pour(hold, blocks, checksum)
            if hold.upload.complete:
                await self._finish(hold)
        except Refused:
            await self._blocking(hold.remove)
            raise

    async def _pour(self, hold: Hold, blocks: AsyncIterator[bytes], checksum: Checksum | None) -> None:
        waiting, come, room = b"", 0, hold.upload.length - hold.upload.offset
        try:
            async for block in blocks:
                come += len(block)
                if come > room:
                    raise _too_much(hold.upload)
                if checksum is not None:
                    checksum.add(block)
                waiting += block
                if len(waiting) >= PIECE:
                    waiting, full = b"", waiting
                    await self._blocking(hold.append, full)
                if checksum is None and self._is_due(hold, len(waiting)):
                    waiting, full = b"", waiting
                    await self._blocking(hold.append, full)
                    await self._count(hold)
        except Exception:
            # The line broke: what has come is good, where nobody asks for the whole piece.
            if checksum is None and come <= room:
                await self._blocking(hold.append, waiting)
                await self._count(hold)
            raise
        await self._blocking(hold.append, waiting)
        if checksum is not None and not checksum.fits:
            raise UploadRefused(Reason.CHECKSUM_MISMATCH, "the piece is not what its checksum says; send it again")
        await self._count(hold)

    def _is_due(self, hold: Hold, waiting: int) -> bool:
        fresh = hold.fresh + waiting
        return fresh >= COUNTED or (not hold.upload.admitted and hold.upload.offset + fresh >= HEAD)

    async def _count(self, hold: Hold) -> None:
        if hold.fresh:
            await self._blocking(hold.count, expires_at=self._expiry())
        upload = hold.upload
        if not upload.admitted and (upload.complete or upload.offset >= HEAD):
            sniffed = self._media.admit(await asyncio.to_thread(hold.head, HEAD), upload.length)
            if upload.operations is not None:
                read_operations(sniffed.kind, _read(upload.operations))
            await self._blocking(hold.admit)

    # --- the end -----------------------------------------------------------------------

    async def _finish(self, hold: Hold) -> None:
        upload = hold.upload
        try:
            file = await self._media.file(upload.id)
        except NoSuchFile:
            await self._accept(hold)
        else:
            # A server died when the file was kept: all that may be missing is that something is made of it.
            if not await self._media.runs(file):
                wanted, usual = _read(upload.operations), plain(default_operations(file.kind))
                await self._media.process(file.id, usual if wanted is None else wanted)
        await self._blocking(hold.finish)

    async def _accept(self, hold: Hold) -> None:
        upload = hold.upload
        path = self._storage.tmp / f"upload.{upload.id}"
        sha256 = await self._blocking(hold.copy_to, path)
        sniffed = self._media.admit(await asyncio.to_thread(hold.head, HEAD), upload.length)
        incoming = Incoming(path, Blob(sha256, upload.length))
        received = self._media.received(incoming, sniffed, upload.name)
        await self._media.accept(received, _read(upload.operations), id=upload.id)

    # --- small things ------------------------------------------------------------------

    async def _find(self, id: str) -> Upload:
        upload = await asyncio.to_thread(self._shelf.find, id)
        if self._media.ox.world.now() > upload.expires_at:
            raise UploadRefused(Reason.EXPIRED, "nothing was added to the upload for too long; begin again")
        return upload

    def _expiry(self) -> float:
        return self._media.ox.world.now() + self._limits.upload_age

    async def _blocking(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.shield(asyncio.to_thread(function, *args, **kwargs))


def _read(operations: str | None) -> Any:
    if operations is None or not operations.strip():
        return None
    try:
        if len(operations) <= _MOST_OPERATIONS:
            return json.loads(operations)
    except (ValueError, RecursionError):
        pass
    raise BadOptions("operations is no JSON, or too long", "/operations")


def _too_much(upload: Upload) -> UploadRefused:
    return UploadRefused(Reason.TOO_LARGE, f"more bytes come than the {upload.length} that were announced")


async def _nothing() -> AsyncIterator[bytes]:
    for block in list[bytes]():
        yield block
