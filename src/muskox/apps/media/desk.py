"""The place where one run makes its files: `tmp/<job>.<fence>`, and what earlier runs left of use.

A file is made under its own name, and counts once it is `kept`: whole, on the
disk, hashed, with a note beside it. The next run takes over what was kept, so
that nothing is made twice; the rest goes. The fence and not the attempt is in
the name, since a run whose worker died has the same attempt as the next one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from muskox.apps.media.errors import Broken, Reason
from muskox.apps.media.kinds import HEAD
from muskox.apps.media.paths import DIRECTORY, PRIVATE, check_name
from muskox.apps.media.recipes import Made, Manifest, Recipe
from muskox.apps.media.storage import Storage, hash_of, trouble

__all__ = ["Desk", "job_of"]

_NOTE = ".kept.json"
_FOLDER = re.compile(r"(?P<job>[A-Za-z0-9][A-Za-z0-9_-]{0,100})\.(?P<fence>[0-9]{1,24})")


class Desk:
    """The folder of one run. Blocks."""

    def __init__(self, storage: Storage, job_id: str, fence: int, recipe: Recipe) -> None:
        self._storage = storage
        self._job_id = job_id
        self._fence = fence
        self.recipe = recipe
        self.folder = storage.tmp / check_name(f"{job_id}.{fence}")
        self.made: dict[str, Made] = {}

    def open(self) -> None:
        """Make the folder, and take over what earlier runs of the job have kept."""
        with trouble():
            self.folder.mkdir(exist_ok=True, mode=DIRECTORY)
            for earlier in self._earlier():
                self._take_over(earlier)
                shutil.rmtree(earlier, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Where a file of that name is to be made."""
        return self.folder / check_name(name)

    def keep(self, name: str, media_type: str, **facts: Any) -> Made:
        """Count a file that was made: brings it to the disk and notes what it is.

        `width`, `height`, `duration` and `facts` (a mapping) are told with it. Raises `Broken` where it is
        missing, no plain file, or empty.
        """
        with trouble():
            fd = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                os.fchmod(fd, PRIVATE)
                os.fsync(fd)
                size, sha256 = os.fstat(fd).st_size, hash_of(file)
        if not size:
            raise Broken(Reason.VERIFY_FAILED, f"{name} was made without a byte in it")
        made = Made(name, media_type, size, sha256, **facts)
        self._note(made)
        self.made[name] = made
        return made

    def head(self, name: str) -> bytes:
        """The first bytes of a file that was made, to be sniffed."""
        with trouble():
            fd = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                return file.read(HEAD)

    def publish(self, source: str, *, engines: Mapping[str, str], seconds: float, facts: Mapping[str, Any]) -> Manifest:
        """Publish what was kept, and nothing else that lies here; gives the manifest that stands."""
        with trouble():
            for entry in list(self.folder.iterdir()):
                if entry.name not in self.made:
                    _remove(entry)
        outputs = list(self.made.values())
        return self._storage.publish(
            self.folder, Manifest(source, self.recipe, outputs, dict(engines), round(seconds, 3), dict(facts))
        )

    def clear(self) -> None:
        """Remove the folder and all in it, kept or not."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear_unkept(self) -> None:
        """Remove what is half made; what was kept stays for the next run, and nothing where nothing was."""
        if not self.made:
            self.clear()
            return
        kept = {*self.made, *(name + _NOTE for name in self.made), _NOTE}
        for entry in list(self.folder.iterdir()) if self.folder.is_dir() else ():
            if entry.name not in kept:
                _remove(entry)

    def _earlier(self) -> list[Path]:
        found = [(entry, _FOLDER.fullmatch(entry.name)) for entry in self._storage.tmp.iterdir()]
        return [
            entry
            for entry, parts in found
            if parts and parts["job"] == self._job_id and int(parts["fence"]) < self._fence
        ]

    def _take_over(self, earlier: Path) -> None:
        for note in earlier.glob(f"*{_NOTE}"):
            try:
                recipe, made = msgspec.json.decode(note.read_bytes(), type=tuple[str, Made])
                file = earlier / check_name(made.name)
                if recipe == self.recipe.hash and file.stat().st_size == made.bytes:
                    file.rename(self.folder / made.name)
                    self._note(made)
                    self.made[made.name] = made
            except (OSError, msgspec.DecodeError):
                continue  # it is made anew

    def _note(self, made: Made) -> None:
        # Written whole and then named: a note that is there is true.
        with trouble():
            draft = self.folder / f".{made.name}{_NOTE}"
            draft.write_bytes(msgspec.json.encode((self.recipe.hash, made)))
            draft.rename(self.folder / f"{made.name}{_NOTE}")


def job_of(folder_name: str) -> str | None:
    """The job to which a folder in `tmp` belongs."""
    parts = _FOLDER.fullmatch(folder_name)
    return parts["job"] if parts else None


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
