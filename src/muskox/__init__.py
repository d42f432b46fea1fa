"""Muskox: background jobs for Python that start with nothing and lose nothing."""

from __future__ import annotations

from muskox.app import Muskox
from muskox.core import events
from muskox.core.backoff import Exponential, Fixed, Steps
from muskox.core.cron import Cron
from muskox.core.errors import (
    DataError,
    DeclarationError,
    FinalError,
    JobCancelled,
    JobFailed,
    JobNotFound,
    LeaseLost,
    MuskoxError,
    NameTaken,
    OptionError,
    ResultTimeout,
    ResultUnavailable,
    ScheduleNotFound,
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
from muskox.core.kept import Entry
from muskox.core.schedule import Every, Once, Overlap, Owner, Schedule, Told
from muskox.core.seam import World
from muskox.explaining import Explanation, Reason, ReasonKind
from muskox.moving import Moved
from muskox.processors import AppQueue, BoundProcessor, Processor, on, process, process_others
from muskox.queue import Queue
from muskox.runtime.active import ActiveJob, SyncActiveJob
from muskox.schedules import Scheduled, Schedules
from muskox.secrecy import SECRET, Secret
from muskox.store.protocol import Found, LogLine, QueueCounts, WorkerRecord
from muskox.timed import cron, every, once

__all__ = [
    "SECRET",
    "ActiveJob",
    "AppQueue",
    "BoundProcessor",
    "Cron",
    "DataError",
    "DeclarationError",
    "Entry",
    "Event",
    "Every",
    "Explanation",
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
    "NameTaken",
    "NewJob",
    "Once",
    "OptionError",
    "Options",
    "Overlap",
    "Owner",
    "Processor",
    "Queue",
    "QueueCounts",
    "Reason",
    "ReasonKind",
    "ResultTimeout",
    "ResultUnavailable",
    "Retention",
    "Schedule",
    "ScheduleNotFound",
    "Scheduled",
    "Schedules",
    "Secret",
    "Steps",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreUnavailable",
    "StoreUnsupported",
    "SyncActiveJob",
    "Told",
    "WorkerRecord",
    "World",
    "WrongState",
    "cron",
    "events",
    "every",
    "on",
    "once",
    "process",
    "process_others",
]
