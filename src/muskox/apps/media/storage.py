"""Keeps files in one folder: originals by their content, results by source and recipe, and parts in `tmp`.

    blobs/sha256/<2>/<2>/<hash>               originals, never changed
    derived/<2>/<source>/<recipe>/            results and manifest.json
    tmp/<job>.<fence>/                        what is being made (`desk.py`)
    tmp/upload.<id>                           what is being received

Whatever stands in `blobs` or `derived` is whole: it came there by a rename, after
its bytes were on the disk. All of it blocks; nothing here knows of jobs or HTTP.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import msgspec

from muskox.apps.media.errors import Broken, DiskLow, NoSuchFile, Reason
from muskox.apps.media.paths import DIRECTORY, PRIVATE, beneath, check_name, descend, sync_directory
from muskox.apps.media.recipes import Made, Manifest

__all__ = ["BLOCK", "MANIFEST", "Blob", "Incoming", "Storage", "hash_of", "trouble"]

BLOCK = 1024 * 1024
MANIFEST = "manifest.json"
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """An original that is kept."""

    sha256: str
    bytes: int


class Incoming:
    """A file that is being received; used up by `Storage.keep` or `drop`."""

    def __init__(self, path: Path, blob: Blob | None = None) -> None:
        """Begin a file at `path`; with `blob`, which says what it is, all of it is there and on the disk already."""
        self.path = path
        self.bytes = 0 if blob is None else blob.bytes
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._blob = blob
        if blob is None:
            at = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE)
            self._file = os.fdopen(at, "wb", buffering=0)

    def write(self, block: bytes) -> None:
        """Write a piece and count it into size and hash."""
        assert self._file is not None
        with trouble():
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]
        self._hash.update(block)
        self.bytes += len(block)

    def close(self) -> Blob:
        """Bring the bytes to the disk and say what they are."""
        if self._file is not None:
            with trouble():
                os.fsync(self._file.fileno())
                self._file.close()
            self._file = None
        return self._blob or Blob(self._hash.hexdigest(), self.bytes)

    def drop(self) -> None:
        """Give it up; does nothing when it is gone."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.path.unlink(missing_ok=True)


class Storage:
    """The folder `root`, on one file system."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._root = str(self.root)

    def open(self) -> None:
        """Make the folders that are not there."""
        self.root.mkdir(parents=True, exist_ok=True, mode=DIRECTORY)
        for name in ("blobs", "derived", "tmp", "uploads"):
            (self.root / name).mkdir(exist_ok=True, mode=DIRECTORY)

    @property
    def tmp(self) -> Path:
        """Where partial files are, and nowhere else."""
        return self.root / "tmp"

    def check_room(self, size: int, reserve: int) -> None:
        """Raise `DiskLow` unless twice `size` fits on the disk and `reserve` stays free."""
        free = shutil.disk_usage(self.root).free
        if free < 2 * size + reserve:
            raise DiskLow(Reason.DISK_LOW, "the disk is too full to take this file; try again later")

    # --- originals -----------------------------------------------------------------

    def receive(self, id: str) -> Incoming:
        """Begin to receive a file; `id` is unique."""
        with trouble():
            return Incoming(self.tmp / check_name(f"upload.{id}"))

    def keep(self, incoming: Incoming) -> Blob:
        """Keep what was received; the same content is kept once."""
        blob = incoming.close()
        with trouble(), descend(self._root, *_blob_folder(blob.sha256), make=True) as folder:
            # A rename replaces, and what it replaces has the same content; readers that have it open go on reading.
            os.rename(incoming.path, blob.sha256, dst_dir_fd=folder)
            sync_directory(folder)
        return blob

    def blob_path(self, sha256: str) -> Path:
        """Where an original lies, for a child process or an encoder to read; raises `NoSuchFile`."""
        os.close(self.open_blob(sha256))
        return self.root.joinpath(*_blob_folder(sha256), sha256)

    def open_blob(self, sha256: str) -> int:
        """Open an original and give the descriptor; raises `NoSuchFile`."""
        return beneath(self._root, *_blob_folder(sha256), sha256)

    def remove_source(self, sha256: str) -> None:
        """Remove an original and all that was made of it; nothing happens where it is not there."""
        with _if_there(), descend(self._root, *_blob_folder(sha256)) as folder:
            os.unlink(sha256, dir_fd=folder)
        shutil.rmtree(self.root.joinpath(*_source_folder(sha256)), ignore_errors=True)

    # --- results -------------------------------------------------------------------

    def find(self, source: str, recipe: str, *, rehash: bool = False) -> Manifest | None:
        """The manifest of what was made, if all of it is there; with `rehash`, if each byte is.

        A damaged result is removed, so that it is made anew.
        """
        try:
            manifest = self._manifest(source, recipe)
            if all(self._is_sound(source, recipe, made, rehash=rehash) for made in manifest.outputs):
                return manifest
        except (NoSuchFile, msgspec.DecodeError):
            pass
        # Else it would stand in the way of the next one.
        shutil.rmtree(self.result_path(source, recipe), ignore_errors=True)
        return None

    def result_path(self, source: str, recipe: str) -> Path:
        """Where the results of a recipe lie, or would lie."""
        return self.root.joinpath(*_source_folder(source), _checked(recipe))

    def open_output(self, source: str, recipe: str, name: str) -> int:
        """Open a result for reading and give the descriptor; raises `NoSuchFile`."""
        return beneath(self._root, *_source_folder(source), _checked(recipe), name)

    def publish(self, folder: Path, manifest: Manifest) -> Manifest:
        """Let a folder with whole files in it be the result, all or nothing; gives the manifest that stands.

        Where somebody was faster, theirs stands and the folder is removed.
        """
        source, recipe = manifest.source, manifest.recipe.hash
        with trouble():
            _write_synced(folder / MANIFEST, msgspec.json.encode(manifest))
            with descend(str(folder)) as made:
                sync_directory(made)
            with descend(self._root, *_source_folder(source), make=True) as parent:
                try:
                    os.rename(folder, recipe, dst_dir_fd=parent)
                except OSError as error:
                    if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                        raise
                    shutil.rmtree(folder, ignore_errors=True)
                    return self.find(source, recipe) or manifest
                sync_directory(parent)
        return manifest

    def _manifest(self, source: str, recipe: str) -> Manifest:
        with os.fdopen(self.open_output(source, recipe, MANIFEST), "rb") as file:
            return msgspec.json.decode(file.read(), type=Manifest)

    def _is_sound(self, source: str, recipe: str, made: Made, *, rehash: bool) -> bool:
        with os.fdopen(self.open_output(source, recipe, made.name), "rb") as file:
            if os.fstat(file.fileno()).st_size != made.bytes:
                return False
            return not rehash or hash_of(file) == made.sha256


def hash_of(file: BufferedReader) -> str:
    """The SHA-256 of what is left to read."""
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def trouble() -> Iterator[None]:
    """Tell trouble of the disk as `Broken`."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        text = error.strerror or type(error).__name__
        raise Broken(Reason.DISK_FULL if full else Reason.IO_ERROR, text) from error


@contextmanager
def _if_there() -> Iterator[None]:
    try:
        yield
    except (NoSuchFile, FileNotFoundError):
        pass


def _write_synced(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, PRIVATE), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _checked(sha256: str) -> str:
    if not _HASH.fullmatch(sha256):
        raise NoSuchFile(Reason.SOURCE_GONE, "there is no such file")
    return sha256


def _blob_folder(sha256: str) -> tuple[str, str, str, str]:
    _checked(sha256)
    return "blobs", "sha256", sha256[:2], sha256[2:4]


def _source_folder(sha256: str) -> tuple[str, str, str]:
    _checked(sha256)
    return "derived", sha256[:2], sha256
