"""The contract between Muskox and its databases: verbs, each with its promise.

All verbs are plural, each is one atomic step, and each may be repeated with the
same ids and tokens to the same effect. Time is the store's own: callers give
durations, the store makes moments. The conformance suite in `tests/store/` is
the other half of this file; a store is whatever passes it.

Verbs raise only `StoreError` and its kin for trouble with the database. An
expected absence is an answer: None, an empty list, a lease in `lost`.
"""

from __future__ import annotations

from muskox.store.protocol.flows import FlowVerbs, FoundFlows
from muskox.store.protocol.history import HistoryVerbs
from muskox.store.protocol.limits import KeyState, LimitVerbs, QueueLimits
from muskox.store.protocol.records import (
    Added,
    Check,
    Finding,
    Found,
    LogLine,
    NameCount,
    Note,
    Packed,
    QueueCounts,
    Recovered,
    Selection,
    Standing,
    Traits,
    Want,
    WorkerRecord,
)
from muskox.store.protocol.schedules import (
    MOST_ENTRIES,
    SCHEDULES,
    WHY_SKIPPED,
    Change,
    Firing,
    Looked,
    ScheduleVerbs,
)
from muskox.store.protocol.verbs import Store

__all__ = [
    "MOST_ENTRIES",
    "SCHEDULES",
    "WHY_SKIPPED",
    "Added",
    "Change",
    "Check",
    "Finding",
    "Firing",
    "FlowVerbs",
    "Found",
    "FoundFlows",
    "HistoryVerbs",
    "KeyState",
    "LimitVerbs",
    "LogLine",
    "Looked",
    "NameCount",
    "Note",
    "Packed",
    "QueueCounts",
    "QueueLimits",
    "Recovered",
    "ScheduleVerbs",
    "Selection",
    "Standing",
    "Store",
    "Traits",
    "Want",
    "WorkerRecord",
]
