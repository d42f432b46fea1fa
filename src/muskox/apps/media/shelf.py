"""Keeps uploads that come in several pieces: `uploads/<id>` and, beside it, what is known of it in `<id>.info`.

What counts is the offset that is written down, and it is written down after the
bytes before it have reached the disk. What lies behind it in the file came last
before a crash, or did not match its checksum, and is cut off before more is
written. Nothing here knows of HTTP or of what a file is; all of it blocks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from muskox.apps.media.errors import NoSuchFile, Reason, UploadRefused
from muskox.apps.media.paths import PRIVATE, descend, sync_directory
from muskox.apps.media.storage import trouble

__all__ = ["Hold", "Shelf", "Upload"]

_ID = re.compile(r"[0-9a-f]{32}")
_INFO = ".info"


class Upload(msgspec.Struct, frozen=True):
    """An upload as it is written down. `expires_at` is in seconds since 1970; `finished`: its file is kept."""

    id: str
    length: int
    expires_at: float
    metadata: str = ""
    name: str = ""
    operations: str | None = None
    offset: int = 0
    admitted: bool = False
    finished: bool = False

    @property
    def complete(self) -> bool:
        """Every byte is here."""
        return self.offset == self.length


class Shelf:
    """The folder of the uploads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, upload: Upload, *, most: int, now: float) -> int:
        """Begin an upload, and give how many bytes the others are still to bring.

        Raises `UploadRefused` where there are `most` of them that are not finished.
        """
        with trouble(), self._alone():
            open_ones = [other for other in self.all() if not other.finished and now <= other.expires_at]
            if len(open_ones) >= most:
                raise UploadRefused(Reason.TOO_MANY_UPLOADS, f"{most} uploads are under way; try again later")
            os.close(os.open(self._path(upload.id), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE))
            self.write(upload)
        return sum(other.length - other.offset for other in open_ones)

    def find(self, id: str) -> Upload:
        """The upload of that id, as it was written down last; raises `NoSuchFile`."""
        path = self._path(id).with_suffix(_INFO)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Upload)
        except (FileNotFoundError, msgspec.DecodeError):
            raise _gone() from None

    def all(self) -> list[Upload]:
        """All that is written down, in no order."""
        found = []
        for entry in self._folder.glob(f"*{_INFO}"):
            try:
                found.append(self.find(entry.stem))
            except NoSuchFile:
                pass  # it went meanwhile
        return found

    def take(self, id: str) -> Hold:
        """Hold an upload that is not finished, so that no other process or request can; close what this gives.

        Raises `UploadRefused` (`locked`) and `NoSuchFile`. The system lets go of it when the process dies.
        """
        try:
            at = os.open(self._path(id), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _gone() from None
        try:
            fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only now is it certain that nobody else writes it, and only now seen if somebody has removed it.
            upload = self.find(id)
            if os.fstat(at).st_size < upload.offset:
                raise _gone()
            return Hold(self, at, self._path(id), upload)
        except BlockingIOError:
            os.close(at)
            raise UploadRefused(Reason.LOCKED, "somebody else sends to this upload just now") from None
        except BaseException:
            os.close(at)
            raise

    def write(self, upload: Upload) -> None:
        """Write down what an upload is; it is that after a power cut too."""
        path = self._path(upload.id)
        fresh = path.with_suffix(".new")
        with trouble():
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, PRIVATE), "wb") as file:
                file.write(msgspec.json.encode(upload))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path.with_suffix(_INFO))
            with descend(str(self._folder)) as at:
                sync_directory(at)

    def remove(self, id: str) -> None:
        """Forget an upload and its bytes; what is not there need not be removed."""
        path = self._path(id)
        with trouble():
            # The words first: bytes that nobody knows of are found by the sweep.
            for each in (path.with_suffix(_INFO), path.with_suffix(".new"), path):
                each.unlink(missing_ok=True)

    def strays(self) -> list[Path]:
        """What lies here and belongs to no upload: a crash came in between."""
        return [path for path in self._folder.iterdir() if not path.with_suffix(_INFO).exists()]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        at = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(at, fcntl.LOCK_EX)
            yield
        finally:
            os.close(at)

    def _path(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise _gone()
        return self._folder / id


class Hold:
    """An upload that is held, and written to. `fresh` bytes were written and do not count yet."""

    def __init__(self, shelf: Shelf, at: int, path: Path, upload: Upload) -> None:
        self._shelf = shelf
        self._at = at
        self._path = path
        # A request that is given up leaves its thread behind, which must not write where a closed file was.
        self._guard = threading.Lock()
        self._open = True
        self.upload = upload
        self.fresh = 0

    def begin(self) -> None:
        """Cut off what does not count."""
        with self._guard, trouble():
            if self._open and not self.upload.complete:
                os.ftruncate(self._at, self.upload.offset)
                os.lseek(self._at, 0, os.SEEK_END)
        self.fresh = 0

    def append(self, block: bytes) -> None:
        """Write bytes behind those that are there."""
        with self._guard, trouble():
            if not self._open:
                return
            view = memoryview(block)
            while view:
                view = view[os.write(self._at, view) :]
            self.fresh += len(block)

    def count(self, *, expires_at: float) -> None:
        """Let what was written count, once it is on the disk."""
        with self._guard, trouble():
            if not self._open:
                return
            os.fsync(self._at)
            offset = self.upload.offset + self.fresh
            self._note(msgspec.structs.replace(self.upload, offset=offset, expires_at=expires_at))
            self.fresh = 0

    def admit(self) -> None:
        """Write down that its kind is one that is taken."""
        with self._guard:
            self._note(msgspec.structs.replace(self.upload, admitted=True))

    def head(self, size: int) -> bytes:
        """The first bytes."""
        with self._guard, trouble():
            return os.pread(self._at, size, 0) if self._open else b""

    def copy_to(self, path: Path) -> str:
        """Let the bytes lie at `path` too, and give their SHA-256."""
        path.unlink(missing_ok=True)
        with trouble():
            try:
                os.link(self._path, path)
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}:
                    raise
                shutil.copyfile(self._path, path)
            # The sweep judges by its age, and it may have lain here for long.
            os.utime(path)
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

    def finish(self) -> None:
        """Write down that its file is kept, and give up the bytes here; what is known stays until it expires."""
        with self._guard, trouble():
            self._note(msgspec.structs.replace(self.upload, finished=True))
            self._path.unlink(missing_ok=True)

    def empty(self) -> None:
        """Give up the bytes, and keep what is known."""
        with self._guard, trouble():
            self._path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget it."""
        with self._guard:
            self._shelf.remove(self.upload.id)

    def close(self) -> None:
        """Let others hold it."""
        with self._guard:
            if self._open:
                self._open = False
                os.close(self._at)

    def _note(self, upload: Upload) -> None:
        self._shelf.write(upload)
        self.upload = upload


def _gone() -> NoSuchFile:
    return NoSuchFile(Reason.SOURCE_GONE, "there is no such upload")
