"""A store made of plain dicts: what each verb means, without a database, for `test_model.py`.

One caller, no concurrency, no speed. Where the protocol leaves a choice (which
of several queues is next, which old job goes first) it only says what is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from muskox.core.dedup import Dedup
from muskox.core.failure import FailureKind
from muskox.core.job import DEFAULT_MAX_STALLS, Job, JobState, Lease, NewJob, Retention
from muskox.core.kept import Kept as KeptSchedule
from muskox.core.life import MOVES, Complete, Fail, Release, Retry, Settlement, Stall, stall_delay
from muskox.core.schedule import Overlap, Told
from muskox.store.protocol import Firing

W, D, B, A = JobState.WAITING, JobState.DELAYED, JobState.BLOCKED, JobState.ACTIVE
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED
AGED = 10_000_000
STOPPING = {Overlap.ALLOW: (), Overlap.QUEUE: (W, D), Overlap.SKIP: (W, D, A)}

Key = tuple[str, str]
Fact = tuple[str, str, str]
"""queue, job id, kind of event"""


@dataclass
class Kept:
    """One job."""

    new: NewJob
    number: int
    added: int
    state: JobState
    arrival: int
    due: int | None
    data: str
    attempts: int | None
    attempt: int = 0
    stalls: int = 0
    releases: int = 0
    token: int | None = None
    until: int = 0
    ended: int | None = None
    clear_at: int | None = None
    result: str | None = None
    progress: str | None = None
    begun: bool = False

    @property
    def place(self) -> tuple[int, int, int]:
        return -self.new.priority, self.arrival, self.number


@dataclass
class KeptModel:
    """One schedule: as it is there, and what its ledger says, oldest first."""

    now: KeptSchedule
    ledger: list[tuple[int, Told, str | None]] = field(default_factory=list)


@dataclass
class Model:
    """The reference; `now` is set by whoever drives it, `told` collects what must be told."""

    now: int = 0
    jobs: dict[Key, Kept] = field(default_factory=dict)
    schedules: dict[str, KeptModel] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    told: list[Fact] = field(default_factory=list)
    number: int = 0
    highest: int = 0
    settled: set[int] = field(default_factory=set)
    """Tokens under which a settlement was written."""
    concurrency: dict[str, int | None] = field(default_factory=dict)
    """By queue, how many jobs of each key of it may run at once."""

    most_waiting: dict[str, int | None] = field(default_factory=dict)
    """By queue, how many jobs may wait in it."""
    holders: dict[Key, tuple[str, Dedup, int]] = field(default_factory=dict)
    """By queue and dedup key, which job had it last, by which rule, and when its window is over."""

    def tell(self, key: Key, *kinds: str) -> None:
        self.told += [(key[0], key[1], kind) for kind in kinds]

    # --- the life of jobs --------------------------------------------------------

    def add(self, jobs: Iterable[NewJob]) -> list[bool]:
        return [self._add(new) for new in jobs]

    def _add(self, new: NewJob) -> bool:
        key = new.queue, new.id
        if key in self.jobs:
            return False
        self.number += 1
        arrival = self.now + int(new.delay * 1_000_000)
        due = arrival if new.delay else None
        self.jobs[key] = Kept(
            new, self.number, self.now, D if new.delay else W, arrival, due, new.data, new.options.attempts
        )
        if new.delay:
            self.tell(key, "delayed")
        else:
            self._arrive(key)
        return True

    # --- bounds and dedup keys -------------------------------------------------------

    def is_full(self, jobs: Iterable[NewJob]) -> bool:
        """Whether these do not fit into what may wait."""
        known, coming = set(self.jobs), Counter[str]()
        for job in jobs:
            coming[job.queue] += (job.queue, job.id) not in known and not job.delay
            known.add((job.queue, job.id))
        waiting = Counter(queue for (queue, _), job in self.jobs.items() if job.state in (W, B))
        return any(waiting[queue] + coming[queue] > (self.most_waiting.get(queue) or 99) for queue in +coming)

    def holder(self, new: NewJob) -> str | None:
        """The job that has the dedup key of a new one."""
        assert new.options.dedup is not None
        id, rule, over = self.holders.get((new.queue, new.options.dedup.key), (None, None, 0))
        if id is None or rule is None:
            return None
        job = self.jobs.get((new.queue, id))
        if rule.window is None:
            counts = job is not None and job.ended is None and (rule.until == "ended" or not job.begun)
        else:
            counts = self.now < over
        return id if counts else None

    def add_once(self, new: NewJob, rule: Dedup) -> bool:
        """Add a job whose dedup key is free, or whose id is known."""
        if is_new := self._add(new):
            self.holders[new.queue, rule.key] = new.id, rule, self.now + (rule.window_us or 0)
        return is_new

    def _end_window(self, key: Key, job: Kept) -> None:
        """A job is taken away by hand, and with it the window of its key."""
        rule = job.new.options.dedup
        held = rule and self.holders.get((key[0], rule.key))
        if rule and held and held[0] == key[1] and held[1].window is not None:
            del self.holders[key[0], rule.key]

    # --- keys ----------------------------------------------------------------------

    def raise_limit(self, queue: str, concurrency: int | None) -> None:
        """Let more of each key of a queue run at once."""
        self.concurrency[queue] = concurrency
        for key in {job.new.key for (where, _), job in self.jobs.items() if where == queue}:
            self._open(queue, key)

    def is_crowded(self, keys: Iterable[Key]) -> bool:
        """Whether there are several jobs of one key among these: which of them comes first is then not said."""
        of = [(job.new.queue, job.new.key) for key in keys if (job := self.jobs.get(key)) and job.new.key]
        return len(of) > len(set(of))

    def _arrive(self, key: Key) -> None:
        """Let a job wait, or stand behind others of its key."""
        job = self.jobs[key]
        job.state = W
        if job.new.key is not None and self._room(key[0], job.new.key, besides=job) <= 0:
            job.state = B
        self.tell(key, str(job.state))

    def _room(self, queue: str, key: str | None, *, besides: Kept | None = None) -> int:
        most = self.concurrency.get(queue)
        its = [job for job in self.jobs.values() if (job.new.queue, job.new.key) == (queue, key) and job is not besides]
        return 99 if most is None else most - sum(job.state in (W, A) for job in its)

    def _open(self, queue: str, key: str | None) -> None:
        """Let others of a key follow as far as there is room."""
        while key is not None and self._room(queue, key) > 0:
            blocked = [job for job in self.jobs.values() if (job.new.queue, job.new.key, job.state) == (queue, key, B)]
            if not blocked:
                return
            first = min(blocked, key=lambda job: job.place)
            first.state, first.arrival = W, self.now
            self.tell((queue, first.new.id), "waiting")

    def claimable(self, queue: str, names: frozenset[str] | None) -> list[Kept]:
        """In the order of claiming."""
        if queue in self.paused:
            return []
        return sorted(
            (
                job
                for (where, _), job in self.jobs.items()
                if where == queue and job.state is W and (names is None or job.new.name in names)
            ),
            key=lambda job: job.place,
        )

    def claimed(self, queue: str, names: frozenset[str] | None, limit: int, answer: list[Job], lease: float) -> None:
        """Check that the answer is allowed, and follow it."""
        could = self.claimable(queue, names)
        first = could[:limit]
        got = [self.jobs[job.queue, job.id] for job in answer]
        assert len(got) == len({id(job) for job in got}) == len(first)
        assert all(job in could for job in got)
        aged = [job for job in got if job not in first]
        assert len(aged) <= (limit + 19) // 20
        assert all(job.arrival <= self.now - AGED for job in aged)
        in_turn = [job for job in got if job not in aged and job in first]
        oldest = min((job.arrival for job in could), default=0)
        if not aged and not any(job.arrival == oldest and job.arrival <= self.now - AGED for job in got):
            assert in_turn == first
        for job, kept in zip(answer, got, strict=True):
            assert job.lease is not None
            assert job.lease.token > self.highest
            self.highest = job.lease.token
            kept.state, kept.token, kept.until = A, job.lease.token, self.now + int(lease * 1_000_000)
            kept.attempt, kept.begun = kept.attempt + 1, True
            self.tell((job.queue, job.id), "active")

    def holds(self, lease: Lease) -> bool:
        job = self.jobs.get((lease.queue, lease.job_id))
        return job is not None and job.state is A and job.token == lease.token

    def settle(self, one: Settlement) -> bool | None:
        """Whether it was written; None when the same lease was settled before, and either answer will do."""
        if not self.holds(one.lease):
            return None if one.lease.token in self.settled else False
        key = one.lease.queue, one.lease.job_id
        job = self.jobs[key]
        self.settled.add(one.lease.token)
        match one:
            case Complete(_, result, _, keep):
                job.result = result
                self._end(key, C, keep, "completed")
            case Fail(_, failure, keep):
                if failure.kind is FailureKind.STALLED:
                    job.attempt, job.stalls = job.attempt - 1, job.stalls + 1
                self._end(key, F, keep, "failed")
            case Retry(_, delay):
                self.tell(key, "retrying")
                self._back(key, delay, quietly=True)
            case Stall(_, delay):
                job.attempt, job.stalls = job.attempt - 1, job.stalls + 1
                self.tell(key, "stalled")
                self._back(key, delay, quietly=True)
            case Release(_, delay):
                job.attempt, job.releases = job.attempt - 1, job.releases + 1
                self.tell(key, "released")
                self._back(key, delay, quietly=True)
        return True

    def _end(self, key: Key, state: JobState, keep: float | None, kind: str) -> None:
        job = self.jobs[key]
        job.state, job.ended = state, self.now
        job.clear_at = None if keep is None else self.now + int(keep * 1_000_000)
        self.tell(key, kind)
        if keep == 0:
            del self.jobs[key]
        self._open(key[0], job.new.key)

    def _back(self, key: Key, delay: float, *, quietly: bool = False) -> None:
        """Let a job wait again; `quietly`: a delay is not told, since another fact has told it."""
        job = self.jobs[key]
        job.state = D
        job.arrival = self.now + int(delay * 1_000_000)
        job.due = job.arrival if delay else None
        self._open(key[0], job.new.key)
        if not delay:
            self._arrive(key)
        elif not quietly:
            self.tell(key, "delayed")

    def renew(self, lease: Lease, seconds: float) -> bool:
        if self.holds(lease):
            self.jobs[lease.queue, lease.job_id].until = self.now + int(seconds * 1_000_000)
            return True
        return False

    def note(self, lease: Lease, progress: str) -> bool:
        if self.holds(lease):
            self.jobs[lease.queue, lease.job_id].progress = progress
            self.tell((lease.queue, lease.job_id), "progress")
            return True
        return False

    def recover(self) -> set[Key]:
        found = {key for key, job in self.jobs.items() if job.state is A and job.until < self.now}
        for key in found:
            job = self.jobs[key]
            job.attempt, job.stalls = job.attempt - 1, job.stalls + 1
            most = job.new.options.max_stalls
            self.tell(key, "stalled")
            if job.stalls > (DEFAULT_MAX_STALLS if most is None else most):
                job.state, job.ended, job.clear_at = F, self.now, None
                self.tell(key, "failed")
                self._open(key[0], job.new.key)
            else:
                self._back(key, stall_delay(job.stalls))
        return found

    def promote_due(self) -> int:
        found = [(key, job) for key, job in self.jobs.items() if job.state is D and (job.due or 0) <= self.now]
        for key, job in sorted(found, key=lambda pair: (pair[1].due, pair[1].number)):
            job.arrival, job.due = job.due or 0, None
            self._arrive(key)
        return len(found)

    def clear(self, rule: Retention) -> int:
        age = {C: rule.completed_for, F: rule.failed_for, X: rule.failed_for}
        old = [
            key
            for key, job in self.jobs.items()
            if job.ended is not None
            and (
                job.clear_at <= self.now
                if job.clear_at is not None
                else job.ended < self.now - int(age[job.state] * 1_000_000)
            )
        ]
        for key in old:
            del self.jobs[key]
        return len(old)

    # --- by hand -----------------------------------------------------------------

    def move(self, verb: str, keys: Iterable[Key]) -> int:
        """promote, retry, cancel or remove; returns how many it moved."""
        found = [key for key in keys if key in self.jobs and (verb == "remove" or self.jobs[key].state in MOVES[verb])]
        for key in found:
            getattr(self, f"_{verb}")(key, self.jobs[key])
        return len(found)

    def _promote(self, key: Key, job: Kept) -> None:
        self._back(key, 0.0)

    def _retry(self, key: Key, job: Kept) -> None:
        if job.attempt >= (job.attempts or 1):
            job.attempts = job.attempt + 1
        job.stalls, job.ended, job.clear_at = 0, None, None
        self._back(key, 0.0)

    def _cancel(self, key: Key, job: Kept) -> None:
        job.state, job.ended, job.due, job.clear_at = X, self.now, None, None
        self._end_window(key, job)
        self.tell(key, "cancelled")
        self._open(key[0], job.new.key)

    def _remove(self, key: Key, job: Kept) -> None:
        del self.jobs[key]
        self._end_window(key, job)
        self.tell(key, "removed")
        self._open(key[0], job.new.key)

    def update(self, key: Key, data: str) -> None:
        if key in self.jobs and self.jobs[key].state in MOVES["update"]:
            self.jobs[key].data = data
            self.tell(key, "updated")

    def pause(self, queue: str, paused: bool) -> bool:
        changed = (queue in self.paused) != paused
        if changed:
            (self.paused.add if paused else self.paused.discard)(queue)
            self.tell((queue, ""), "paused" if paused else "resumed")
        return changed

    # --- schedules ---------------------------------------------------------------

    def put(self, name: str, version: int, kept: KeptSchedule | None) -> bool:
        """Whether a change is made; versions are the store's, and read from it afterwards."""
        there = self.schedules.get(name)
        if (there.now.version if there else 0) != version:
            return (kept is None) if there is None else kept is not None and said(there.now) == said(kept)
        if kept is None:
            self.schedules.pop(name, None)
        elif there is None:
            self.schedules[name] = KeptModel(kept)
        else:
            there.now = kept
        return True

    def fire(self, firing: Firing) -> tuple[int, str | None] | None:
        """How many jobs are added, and which is the last; None when the version is another."""
        there = self.schedules.get(firing.name)
        if there is None or there.now.version != firing.version:
            return None
        stopping, last, added = STOPPING[there.now.schedule.overlap], there.now.last_job, 0
        for job, entry in zip(firing.jobs, firing.entries, strict=True):
            key, before = (job.queue, job.id), self.jobs.get((job.queue, last or ""))
            if key not in self.jobs and before is not None and before.state in stopping:
                there.ledger.append((entry.moment_us, Told.SKIPPED, None))
                continue
            added += self._add(job)
            last = job.id
            there.ledger.append((entry.moment_us, entry.told, job.id))
        return added, last


def said(kept: KeptSchedule) -> tuple[object, ...]:
    """What a change says of a schedule; all else is the store's."""
    return kept.schedule, kept.generation, kept.paused, kept.next_us, kept.last_us, kept.last_job
