"""Muskox: background jobs for Python that start with nothing and lose nothing."""

from __future__ import annotations

from muskox.app import Muskox
from muskox.core import events
from muskox.core.backoff import Exponential, Fixed, Steps
from muskox.core.errors import (
    DataError,
    DeclarationError,
    FinalError,
    JobCancelled,
    JobFailed,
    JobNotFound,
    LeaseLost,
    MuskoxError,
    OptionError,
    ResultTimeout,
    ResultUnavailable,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsupported,
    WrongState,
)
from muskox.core.events import Event, JobEvent
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import Job, JobState, NewJob, Options, Retention
from muskox.core.seam import World
from muskox.moving import Moved
from muskox.processors import AppQueue, BoundProcessor, Processor, on, process, process_others
from muskox.queue import Queue
from muskox.runtime.active import ActiveJob, SyncActiveJob
from muskox.store.protocol import Found, LogLine, QueueCounts, WorkerRecord

__all__ = [
    "ActiveJob",
    "AppQueue",
    "BoundProcessor",
    "DataError",
    "DeclarationError",
    "Event",
    "Exponential",
    "Failure",
    "FailureKind",
    "FinalError",
    "Fixed",
    "Found",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobNotFound",
    "JobState",
    "LeaseLost",
    "LogLine",
    "Moved",
    "Muskox",
    "MuskoxError",
    "NewJob",
    "OptionError",
    "Options",
    "Processor",
    "Queue",
    "QueueCounts",
    "ResultTimeout",
    "ResultUnavailable",
    "Retention",
    "Steps",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreUnavailable",
    "StoreUnsupported",
    "SyncActiveJob",
    "WorkerRecord",
    "World",
    "WrongState",
    "events",
    "on",
    "process",
    "process_others",
]
