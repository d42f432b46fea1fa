"""A file to which many processes append what they did, and from which one reads it when they are dead.

An entry is written by one `write` to a file opened for appending, so a process
that is killed leaves whole entries or none. What they prove is not known here.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

__all__ = ["Entry", "Ledger", "Mark", "entries", "length"]

_ENTRY = struct.Struct("<QQIIII")


class Mark(IntEnum):
    """Which end of a run an entry tells of."""

    BEGUN = 1
    ENDED = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One end of one run. `process` numbers the worker processes as they were started; `at` is in nanoseconds."""

    at: int
    fence: int
    job: int
    attempt: int
    process: int
    mark: Mark


class Ledger:
    """The file as a process writes it."""

    def __init__(self, path: str, process: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._process = process

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def write(self, mark: Mark, job: int, attempt: int, fence: int) -> None:
        """Append one entry."""
        os.write(self._file, _ENTRY.pack(time.monotonic_ns(), fence, job, attempt, self._process, mark))


def length(path: Path) -> int:
    """How many entries there are."""
    return path.stat().st_size // _ENTRY.size if path.exists() else 0


def entries(path: Path) -> list[Entry]:
    """All entries in the order in which they were written."""
    found = _ENTRY.iter_unpack(path.read_bytes())
    return [Entry(at, fence, job, attempt, process, Mark(mark)) for at, fence, job, attempt, process, mark in found]
