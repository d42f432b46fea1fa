"""The record of changes: who did what, when, from where, and whether it worked.

Each entry goes to the log `muskox.web.audit` as one line of JSON, to a file if
one is named, and into memory for the page. Nothing here can be changed or
deleted through the dashboard.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Deed", "Trail"]

log = logging.getLogger("muskox.web.audit")

_MOST_SHOWN = 1000
_LONGEST_LINE = 4000


class Deed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change that somebody asked for. `outcome` is "done", or the code of the problem that it met."""

    at: datetime
    who: str
    role: str
    means: str
    address: str
    verb: str
    queue: str = ""
    job: str = ""
    schedule: str = ""
    detail: dict[str, Any] = {}
    outcome: str = "done"


class Trail:
    """Keeps deeds. With `file`, appends them to it and knows those of earlier runs and other processes."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._latest: deque[Deed] = deque(maxlen=_MOST_SHOWN)
        if file is not None:  # so that a wrong path is told at the start, and not at the first change
            os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))

    def write(self, deed: Deed) -> None:
        """Keep a deed. Cheap enough for the loop: one line to a file that is open for appending."""
        # In ASCII, so that nothing that somebody gave as an id moves the cursor of whoever reads it in a terminal.
        line = json.dumps(msgspec.to_builtins(deed), separators=(",", ":"))
        log.info("%s", line[:_LONGEST_LINE])
        if self.file is None:
            self._latest.append(deed)
            return
        where = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(
                where, f"{line}\n".encode()
            )  # in one piece, so that processes do not write into each other's lines
        finally:
            os.close(where)

    def latest(self, limit: int) -> list[Deed]:
        """The latest deeds, latest first."""
        found = self._latest if self.file is None else _read(self.file)
        return list(found)[-limit:][::-1]


def _read(file: Path) -> Iterable[Deed]:
    """The last thousand lines or so, whatever the size of the file; what is damaged is left out."""
    with file.open("rb") as open_file:
        open_file.seek(max(0, open_file.seek(0, os.SEEK_END) - _MOST_SHOWN * 500))
        lines = open_file.read().splitlines()[-_MOST_SHOWN:]
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Deed)
        except msgspec.DecodeError:
            continue
