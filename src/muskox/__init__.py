"""Muskox: background jobs for Python that start with nothing and lose nothing."""

from __future__ import annotations

from muskox.app import Muskox
from muskox.batch import Batch
from muskox.core import events
from muskox.core.backoff import Exponential, Fixed, Steps
from muskox.core.cron import Cron
from muskox.core.dedup import Dedup
from muskox.core.errors import (
    DataError,
    DeclarationError,
    Duplicate,
    FinalError,
    FlowClosed,
    FlowNotFound,
    JobCancelled,
    JobFailed,
    JobNotFound,
    LeaseLost,
    MuskoxError,
    NameTaken,
    OptionError,
    QueueFull,
    RateLimited,
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
from muskox.core.flows import FlowKind, FlowRecord, FlowState, OnFailure, Parent, Parents
from muskox.core.history import Cell, Durations, History
from muskox.core.job import Job, JobState, NewJob, Options, Retention
from muskox.core.kept import Entry
from muskox.core.limits import UNLIMITED, KeyLimits, Limits, Rate
from muskox.core.schedule import Every, Once, Overlap, Owner, Schedule, Told
from muskox.core.seam import World
from muskox.core.tracing import Ending, RunEnd, Tracing
from muskox.explaining import Explanation, Reason, ReasonKind
from muskox.flows import After, Flow, Flows, InFlow, chain, group
from muskox.moving import Moved
from muskox.processors import AppQueue, BoundProcessor, Processor, on, process, process_others
from muskox.queue import Queue
from muskox.runtime.active import ActiveJob, SyncActiveJob
from muskox.schedules import Scheduled, Schedules
from muskox.secrecy import SECRET, Secret
from muskox.store.protocol import Check, Found, FoundFlows, KeyState, LogLine, QueueCounts, QueueLimits, WorkerRecord
from muskox.timed import cron, every, once

__all__ = [
    "SECRET",
    "UNLIMITED",
    "ActiveJob",
    "After",
    "AppQueue",
    "Batch",
    "BoundProcessor",
    "Cell",
    "Check",
    "Cron",
    "DataError",
    "DeclarationError",
    "Dedup",
    "Duplicate",
    "Durations",
    "Ending",
    "Entry",
    "Event",
    "Every",
    "Explanation",
    "Exponential",
    "Failure",
    "FailureKind",
    "FinalError",
    "Fixed",
    "Flow",
    "FlowClosed",
    "FlowKind",
    "FlowNotFound",
    "FlowRecord",
    "FlowState",
    "Flows",
    "Found",
    "FoundFlows",
    "History",
    "InFlow",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobNotFound",
    "JobState",
    "KeyLimits",
    "KeyState",
    "LeaseLost",
    "Limits",
    "LogLine",
    "Moved",
    "Muskox",
    "MuskoxError",
    "NameTaken",
    "NewJob",
    "OnFailure",
    "Once",
    "OptionError",
    "Options",
    "Overlap",
    "Owner",
    "Parent",
    "Parents",
    "Processor",
    "Queue",
    "QueueCounts",
    "QueueFull",
    "QueueLimits",
    "Rate",
    "RateLimited",
    "Reason",
    "ReasonKind",
    "ResultTimeout",
    "ResultUnavailable",
    "Retention",
    "RunEnd",
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
    "Tracing",
    "WorkerRecord",
    "World",
    "WrongState",
    "chain",
    "cron",
    "events",
    "every",
    "group",
    "on",
    "once",
    "process",
    "process_others",
]
