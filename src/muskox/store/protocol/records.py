"""What the verbs of a store take and give, beside what the core knows."""

from __future__ import annotations

import msgspec

from muskox.core.errors import WrongState
from muskox.core.figures import NameCount, QueueCounts
from muskox.core.flows import Parent
from muskox.core.job import Job, JobState, Lease
from muskox.store.protocol.limits import KeyState, QueueLimits

__all__ = [
    "Added",
    "Check",
    "Finding",
    "Found",
    "LogLine",
    "NameCount",
    "Note",
    "Packed",
    "QueueCounts",
    "Recovered",
    "Selection",
    "Standing",
    "Traits",
    "Want",
    "WorkerRecord",
]


class Traits(msgspec.Struct, frozen=True):
    """The true differences between stores, for those above who must know.

    `loop_bound`: its objects belong to the event loop in which they were opened, and work in it; those that are
    not work in threads of their own.
    `within`: it can add inside the caller's own transaction.
    """

    loop_bound: bool
    within: bool


class Added(msgspec.Struct, frozen=True, gc=False):
    """The stored job, and whether this call stored it (False: the id was known before)."""

    job: Job
    created: bool


class Want(msgspec.Struct, frozen=True):
    """A queue and the job names that can be run from it; `names` None: any name.

    `max_stalls` are the stalls that processors allow, by job name and "" for all others, where they say
    anything; a job that does not say for itself is claimed with that, so that whoever recovers it knows.
    """

    queue: str
    names: frozenset[str] | None = None
    max_stalls: dict[str, int] = {}


class Note(msgspec.Struct, frozen=True):
    """What a run tells about its job: progress and data as JSON text, lines for its log.

    `steps` are all steps that it has done so far, as one JSON object of results by name.
    """

    lease: Lease
    progress: str | None = None
    data: str | None = None
    lines: tuple[str, ...] = ()
    steps: str | None = None


class LogLine(msgspec.Struct, frozen=True):
    """One line of a job's log. `number` counts from 1 per job and skips lines beyond the cap."""

    number: int
    at_us: int
    text: str


class Packed(msgspec.Struct, frozen=True):
    """A job with what a store keeps beside it, so that another store can take it over as it is.

    `arrival_us` is since when it waits, or will: its place in the line goes by it, and its age; of an ended job it
    says nothing. `clear_us` is when it is cleared, None where the rule of its queue says so. An active job cannot be
    packed, since somebody speaks for it, nor can one that is blocked, unless it only stands behind others of its key.
    """

    job: Job
    arrival_us: int
    clear_us: int | None = None
    lines: tuple[LogLine, ...] = ()

    def __post_init__(self) -> None:
        if self.job.state is JobState.ACTIVE or (self.job.state is JobState.BLOCKED and self.job.key is None):
            raise WrongState(
                f"job {self.job.id} of queue {self.job.queue} is {self.job.state} and cannot be taken to another "
                "store; let it end first"
            )


class Selection(msgspec.Struct, frozen=True):
    """Jobs of one queue: by their ids, or all that match the states and names that are given.

    An empty `states` or `names` means any. `limit` bounds how many are taken in one step.
    """

    queue: str
    ids: tuple[str, ...] | None = None
    states: tuple[JobState, ...] = ()
    names: tuple[str, ...] = ()
    limit: int = 1000


class Found(msgspec.Struct, frozen=True):
    """A page of jobs and the cursor of the next page; None after the last."""

    jobs: list[Job]
    cursor: str | None


class Standing(msgspec.Struct, frozen=True):
    """Where a job stands, by the store's clock at that moment.

    `higher` and `earlier` are the jobs that are claimed before a waiting one: of higher priority, and of the same
    priority but before it; of a blocked one with a key, those of its key. `lease_until_us` is when the lease of an
    active one is over. `limits` is there where its queue has any, `key` where the job has one, and `holders` are then
    active jobs of that key, the first to start first. `parents` are those of a blocked job that have not ended, ten at
    most.
    """

    job: Job
    now_us: int
    paused: bool = False
    higher: int = 0
    earlier: int = 0
    lease_until_us: int | None = None
    limits: QueueLimits | None = None
    key: KeyState | None = None
    holders: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()


class Recovered(msgspec.Struct, frozen=True):
    """A job whose lease had run out, as it is now, and which worker had held it."""

    job: Job
    worker: str | None


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker as it told of itself at its last beat, `age` seconds ago.

    `id` is random at each start, so a restarted worker is another one.
    """

    id: str
    host: str
    pid: int
    wants: tuple[Want, ...]
    slots: int
    running: int = 0
    stopping: bool = False
    age: float = 0.0


class Check(msgspec.Struct, frozen=True):
    """One thing that `examine` looked at: whether it is sound, in words, and what to do where it is not."""

    sound: bool
    what: str
    remedy: str = ""


class Finding(msgspec.Struct, frozen=True):
    """One thing that `audit` found wrong, in words, and the job it is about."""

    what: str
    queue: str = ""
    job_id: str = ""
