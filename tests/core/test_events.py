"""Facts packed into records and unfolded again, from any offset in their middle."""

from __future__ import annotations

import pytest

from muskox.core.errors import OptionError
from muskox.core.events import (
    KINDS,
    Active,
    Event,
    Failed,
    Held,
    JobEvent,
    Paused,
    Progress,
    QueueError,
    Record,
    Retrying,
    Stalled,
    check_kind,
    pack,
    unfold,
)
from muskox.core.failure import Failure, FailureKind

FAILURE = Failure(FailureKind.ERROR, "ValueError", "no", final=True)

FACTS = [
    Active("files", 11, 5, "a", "resize", 1),
    Progress("files", 11, 5, "a", "resize", 1, {"page": 3}),
    Retrying("files", 11, 5, "a", "resize", 1, FAILURE, 2.5),
    Retrying("files", 11, 5, "a", "resize", 1, None, 0.0),
    Failed("files", 11, 5, "a", "resize", 3, FAILURE),
    Failed("files", 11, 5, "a", "resize", 3, None),
    Stalled("files", 11, 5, "a", "resize", 0, 2),
    Paused("files", 11, 5),
    Held("files", 11, 5, "resize", 7),
    QueueError("files", 11, 5, "a listener raised"),
]


def fields(event):
    return [getattr(event, name) for name in event.__struct_fields__[3:]]


@pytest.mark.parametrize("event", FACTS, ids=lambda event: event.kind)
def test_a_fact_survives_being_stored(event):
    record = Record(event.offset, 1, event.queue, event.kind, event.at_us, pack([fields(event)]))

    assert list(unfold(record)) == [event]


def claimed(after):
    body = pack([(id, "resize", 1) for id in "abc"])
    return [(e.offset, e.job_id) for e in unfold(Record(8, 3, "files", "active", 5, body), after=after)]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, [(8, "a"), (9, "b"), (10, "c")]),
        (7, [(8, "a"), (9, "b"), (10, "c")]),
        (8, [(9, "b"), (10, "c")]),
        (10, []),
        (99, []),
    ],
)
def test_a_reader_may_stop_and_go_on_inside_a_record(after, expected):
    assert claimed(after) == expected


def test_every_event_has_its_own_kind_and_a_docstring():
    classes = [cls for cls in (*Event.__subclasses__(), *JobEvent.__subclasses__()) if cls is not JobEvent]

    assert {cls.kind: cls for cls in classes} == KINDS
    assert all(cls.__doc__ for cls in classes)


def test_mission_a14_every_event_of_the_mission_exists():
    named = {
        "waiting", "delayed", "active", "progress", "completed", "retrying", "failed", "stalled", "error", "paused",
        "resumed", "drained", "removed",
    }  # fmt: skip

    assert named <= set(KINDS)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match=r"there is no event 'done'; use one of active, blocked, .*waiting"):
        check_kind("done")
