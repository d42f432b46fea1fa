"""Processors for child processes, which must find them in a module."""

from __future__ import annotations

import os
import threading

from muskox import Muskox, SyncActiveJob

ox = Muskox("sqlite://:memory:")
files = ox.queue("files")


@files.processor(timeout=0.5, isolated=True)
def hang(job: SyncActiveJob) -> None:
    job.log(str(os.getpid()))
    threading.Event().wait()


@files.processor(isolated=True)
def where() -> int:
    return os.getpid()
