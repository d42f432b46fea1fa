"""Random programs on a store and on the model beside it: every answer, figure, fact and audit must agree.

Stale leases are kept for ever and replayed at random. More examples than CI's:
`pytest tests/store/test_model.py --hypothesis-profile=deep`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from muskox.core.dedup import Dedup
from muskox.core.errors import Duplicate, QueueFull
from muskox.core.events import Drained, JobEvent
from muskox.core.failure import Failure, FailureKind
from muskox.core.job import Job, JobState, Lease, NewJob, Options, Retention
from muskox.core.kept import Kept
from muskox.core.life import Complete, Fail, Release, Retry, Stall
from muskox.core.limits import Limits
from muskox.core.schedule import Overlap
from muskox.store import open_store
from muskox.store.protocol import Change, Note, Selection, Want
from muskox.testing import FakeWorld
from tests.store import schedules as ticking
from tests.store.model import A, Model, said
from tests.store.reading import events
from tests.stores import REPEATED, SHARED, STORES, SetUp

BROKEN = Failure(FailureKind.ERROR, "ValueError", "no")
GONE = Failure(FailureKind.STALLED, message="killed")
QUEUES = ("files", "email")
TICKS = ("tick", "tock")
IDS = tuple("abcdefxyz")

queues = st.sampled_from(QUEUES)
ids = st.sampled_from(IDS)
delays = st.sampled_from([0.0, 2.5])
keeps = st.sampled_from([None, 0, 30])
names = st.sampled_from([None, frozenset({"resize"}), frozenset({"convert", "other"})])
new_jobs = st.builds(
    NewJob,
    id=st.sampled_from("abcdef"),
    queue=queues,
    name=st.sampled_from(["resize", "convert"]),
    data=st.sampled_from(["1", '{"a":2}']),
    priority=st.integers(-1, 2),
    delay=delays,
    options=st.builds(Options, attempts=st.sampled_from([None, 2]), max_stalls=st.sampled_from([None, 0, 3])),
)
# All of one priority, so that what leaves and comes in one step does not decide who is next.
jobs_with_keys = st.builds(msgspec.structs.replace, new_jobs, key=st.sampled_from("kl"), priority=st.just(0))
jobs_once = st.builds(msgspec.structs.replace, new_jobs | jobs_with_keys, id=st.sampled_from("xyz"))
rules = st.builds(
    lambda how, then: Dedup("once", then=then, **how),
    st.sampled_from([{}, {"until": "started"}, {"window": 4.0}]),
    st.sampled_from(["existing", "reject"]),
)
settlements = st.one_of(
    st.builds(lambda keep: lambda lease: Complete(lease, '"done"', None, keep), keeps),
    st.builds(lambda keep: lambda lease: Fail(lease, BROKEN, keep), keeps),
    st.just(lambda lease: Fail(lease, GONE)),
    st.builds(lambda delay: lambda lease: Retry(lease, delay, BROKEN), delays),
    st.builds(lambda delay: lambda lease: Stall(lease, delay, GONE), delays),
    st.builds(lambda delay: lambda lease: Release(lease, delay), delays),
)


class Driven(RuleBasedStateMachine):
    """A store and its model, side by side."""

    set_up: SetUp
    can_be_reopened: bool

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.open = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeWorld(seed=1)
        self.model = Model()
        self.leases: list[Lease] = []
        self.kept: list[Kept] = []
        """Schedules as they ever were."""
        self.seen = 0
        self.with_keys = set()

    def wait(self, work):
        return self.runner.run(work)

    @initialize()
    def begin(self):
        REPEATED.add(self.clock)
        entered = type(self).set_up(Path(self.folder.name), self.clock)
        self.url, self.store = self.wait(self.open.enter_async_context(entered))
        for queue in QUEUES:
            self.model.concurrency[queue] = 1
            self.limit(queue)

    def teardown(self):
        self.wait(self.open.aclose())
        self.runner.close()
        self.folder.cleanup()

    def limit(self, queue: str) -> None:
        limits = Limits(key_concurrency=self.model.concurrency[queue], max_waiting=self.model.most_waiting.get(queue))
        self.wait(self.store.limit(queue, limits))

    def tick(self) -> None:
        """Let a moment pass, so that no two steps happen at the same one."""
        self.clock.advance(0.001)
        self.model.now = int(self.clock.now() * 1_000_000)

    def lease(self, data) -> Lease:
        """Any lease that was ever given, mostly a late one."""
        late = self.leases[-4:]
        return data.draw(st.sampled_from(late) | st.sampled_from(self.leases))

    @rule(queue=queues, more=st.sampled_from([2, None]))
    def let_more_of_a_key_run(self, queue, more):
        if self.model.concurrency[queue] == 1 or more is None:
            self.tick()
            self.model.concurrency[queue] = more
            self.limit(queue)
            self.wait(self.store.promote())
            self.model.promote_due()
            self.model.raise_limit(queue, more)

    @rule(jobs=st.lists(new_jobs | jobs_with_keys, min_size=1, max_size=4))
    def add(self, jobs):
        self.tick()
        if self.model.is_full(jobs):
            with pytest.raises(QueueFull):
                self.wait(self.store.add(jobs))
            return
        added = self.wait(self.store.add(jobs))
        assert [answer.job.id for answer in added] == [job.id for job in jobs]
        assert [answer.created for answer in added] == self.model.add(jobs)

    @rule(queue=queues, most=st.sampled_from([1, 4, None]))
    def bound(self, queue, most):
        self.model.most_waiting[queue] = most
        self.limit(queue)

    @rule(job=jobs_once, rule=rules)
    def add_once(self, job, rule):
        self.tick()
        job = msgspec.structs.replace(job, options=msgspec.structs.replace(job.options, dedup=rule))
        is_known = (job.queue, job.id) in self.model.jobs
        holder = None if is_known else self.model.holder(job)
        if holder is not None and rule.then == "reject":
            with pytest.raises(Duplicate) as refused:
                self.wait(self.store.add([job]))
            assert (refused.value.queue, refused.value.key, refused.value.job_id) == (job.queue, rule.key, holder)
        elif holder is None and self.model.is_full([job]):
            with pytest.raises(QueueFull):
                self.wait(self.store.add([job]))
        else:
            [answer] = self.wait(self.store.add([job]))
            assert answer.job.id == (holder or job.id)
            assert answer.created == (holder is None and self.model.add_once(job, rule))

    @rule(queue=queues, names=names, limit=st.integers(0, 3), lease=st.sampled_from([5.0, 30.0]))
    def claim(self, queue, names, limit, lease):
        self.tick()
        answer = self.wait(self.store.claim([Want(queue, names)], limit=limit, worker="w", lease=lease))
        self.model.claimed(queue, names, limit, answer, lease)
        self.leases += [job.lease for job in answer]

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), kinds=st.lists(settlements, min_size=1, max_size=3))
    def settle(self, data, kinds):
        self.tick()
        asked, used = [], set()
        for kind in kinds:
            lease = self.lease(data)
            # Two answers for one run in one call: either may be written, which a model cannot foresee.
            if lease.token not in used:
                used.add(lease.token)
                asked.append(kind(lease))
        lost = self.wait(self.store.settle(asked))
        for one in asked:
            written = self.model.settle(one)
            if written is not None:
                assert (one.lease in lost) == (not written)
        assert set(lost) <= {one.lease for one in asked}

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), seconds=st.sampled_from([5.0, 60.0]))
    def renew(self, data, seconds):
        self.tick()
        asked = list(dict.fromkeys(self.lease(data) for _ in range(3)))
        lost = self.wait(self.store.renew(asked, lease=seconds))
        assert set(lost) == {lease for lease in asked if not self.model.renew(lease, seconds)}

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), progress=st.sampled_from(["1", "[2]"]))
    def annotate(self, data, progress):
        self.tick()
        lease = self.lease(data)
        lost = self.wait(self.store.annotate([Note(lease, progress=progress, lines=("line",))]))
        assert lost == ([] if self.model.note(lease, progress) else [lease])

    @rule(seconds=st.sampled_from([0.0, 6.0, 61.0]))
    def recover(self, seconds):
        self.clock.advance(seconds)
        self.tick()
        if self.model.is_crowded(key for key, job in self.model.jobs.items() if job.state is A):
            return
        found = self.wait(self.store.recover())
        assert {(one.job.queue, one.job.id) for one in found} == self.model.recover()

    @rule(seconds=st.sampled_from([0.0, 3.0, 61.0]))
    def promote_due(self, seconds):
        self.clock.advance(seconds)
        self.tick()
        assert self.wait(self.store.promote()) == self.model.promote_due()

    @rule(verb=st.sampled_from(["promote", "retry", "cancel", "remove"]), queue=queues, ids=st.sets(ids, min_size=1))
    def manage(self, verb, queue, ids):
        self.tick()
        moved = self.wait(getattr(self.store, verb)(Selection(queue, ids=tuple(sorted(ids)))))
        assert moved == self.model.move(verb, [(queue, id) for id in sorted(ids)])

    @rule(queue=queues, state=st.sampled_from([JobState.FAILED, JobState.WAITING, JobState.DELAYED]))
    def cancel_or_retry_all(self, queue, state):
        self.tick()
        verb = "retry" if state is JobState.FAILED else "cancel"
        keys = [key for key, job in self.model.jobs.items() if key[0] == queue and job.state is state]
        if self.model.is_crowded(keys):
            return
        moved = self.wait(getattr(self.store, verb)(Selection(queue, states=(state,))))
        assert moved == self.model.move(verb, keys)

    @rule(queue=queues, id=ids, data=st.sampled_from(["7", "[8]"]))
    def update(self, queue, id, data):
        self.tick()
        job = self.wait(self.store.update(queue, id, data))
        self.model.update((queue, id), data)
        assert (job is not None) == ((queue, id) in self.model.jobs)

    @rule(queue=queues, paused=st.booleans())
    def pause(self, queue, paused):
        self.tick()
        assert self.wait(self.store.pause(queue, paused)) == self.model.pause(queue, paused)

    @rule(age=st.sampled_from([0.5, 20.0, 10_000.0]), seconds=st.sampled_from([0.0, 31.0]))
    def clear(self, age, seconds):
        self.clock.advance(seconds)
        self.tick()
        rule = Retention(completed_for=age, failed_for=age * 2)
        assert self.wait(self.store.clear(dict.fromkeys(QUEUES, rule))) == self.model.clear(rule)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 40.0]))
    def let_time_pass(self, seconds):
        self.clock.advance(seconds)

    @precondition(lambda self: self.can_be_reopened)
    @rule()
    def close_and_open_again(self):
        self.wait(self.open.aclose())
        self.store = open_store(self.url, self.clock)
        self.wait(self.store.open())
        self.open.push_async_callback(self.store.close)

    @rule(name=st.sampled_from(TICKS), overlap=st.sampled_from(Overlap), paused=st.booleans(), old=st.data())
    def put_schedule(self, name, overlap, paused, old):
        self.tick()
        version = old.draw(st.sampled_from([0, *(kept.version for kept in self.kept[-4:])]))
        kept = old.draw(st.sampled_from([None, ticking.kept(name, overlap=overlap, paused=paused)]))
        made = self.wait(self.store.put_schedules([Change(name, version, kept)]))
        assert made == [self.model.put(name, version, kept)]
        self.follow_schedules()

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), moments=st.integers(1, 3), delay=delays)
    def fire(self, data, moments, delay):
        self.tick()
        kept = data.draw(st.sampled_from(self.kept[-2:]) | st.sampled_from(self.kept))
        used = [kept.next_us + number for number in range(moments)]
        firing = ticking.firing(kept, *used, delay=delay)
        fired = self.model.fire(firing)
        assert self.wait(self.store.fire([firing])) == [None if fired is None else fired[0]]
        if fired is not None:
            there = self.model.schedules[firing.name]
            there.now = msgspec.structs.replace(
                there.now, next_us=firing.next_us, last_us=firing.last_us, last_job=fired[1]
            )
            ledger = self.wait(self.store.ledger(firing.name))
            assert [(entry.moment_us, entry.told, entry.job_id) for entry in ledger] == there.ledger[:-101:-1]
        self.follow_schedules()

    def follow_schedules(self):
        """Compare schedules with those of the model, and learn their versions, which must grow when they change."""
        found = {one.schedule.name: one for one in self.wait(self.store.schedules()).kept}
        assert found.keys() == self.model.schedules.keys()
        for name, one in found.items():
            there = self.model.schedules[name]
            assert said(one) == said(there.now)
            if one.version != there.now.version:
                assert one.version > max((kept.version for kept in self.kept), default=0)
                self.kept.append(one)
            there.now = one

    @invariant()
    def every_job_is_as_in_the_model(self):
        for queue in QUEUES:
            for id, job in zip(IDS, self.wait(self.store.get(queue, IDS)), strict=True):
                kept = self.model.jobs.get((queue, id))
                assert (job is None) == (kept is None), (queue, id)
                if job is not None and kept is not None:
                    assert seen(job) == expected(kept)

    @invariant()
    def every_figure_is_as_in_the_model(self):
        for counts in self.wait(self.store.counts(QUEUES)):
            states = Counter(job.state for (queue, _), job in self.model.jobs.items() if queue == counts.queue)
            assert {state: number for state, number in counts.states.items() if number} == states
            assert counts.paused == (counts.queue in self.model.paused)

    @invariant()
    def every_move_is_told_once(self):
        told = self.wait(events(self.store, after=self.seen))
        assert [event.offset for event in told] == list(range(self.seen + 1, self.seen + 1 + len(told)))
        self.seen += len(told)
        facts = [
            (event.queue, event.job_id if isinstance(event, JobEvent) else "", event.kind)
            for event in told
            if not isinstance(event, Drained)
        ]
        assert sorted(self.but_turns(facts)) == sorted(self.but_turns(self.model.told))
        self.model.told.clear()
        for (queue, id), last in {fact[:2]: fact[2] for fact in facts if fact[2] in ("waiting", "blocked")}.items():
            job = self.model.jobs.get((queue, id))
            assert job is None or job.state not in (JobState.WAITING, JobState.BLOCKED) or job.state == last

    def but_turns(self, facts):
        """A job with a key may be told of as blocked before it waits, or not, where both happen in one step."""
        with_keys = {key for key, job in self.model.jobs.items() if job.new.key is not None} | self.with_keys
        self.with_keys = with_keys
        return [fact for fact in facts if fact[2] not in ("waiting", "blocked") or fact[:2] not in with_keys]

    @invariant()
    def the_audit_finds_nothing(self):
        assert self.wait(self.store.audit()) == []


def seen(job: Job) -> dict[str, object]:
    return {
        "state": job.state, "name": job.name, "priority": job.priority, "data": job.data_text, "attempt": job.attempt,
        "attempts": job.attempts, "stalls": job.stalls, "releases": job.releases, "added": job.added_us,
        "due": job.due_us, "ended": job.ended_us, "progress": job.progress_text,
        "token": job.lease and job.lease.token,
    }  # fmt: skip


def expected(kept) -> dict[str, object]:
    return {
        "state": kept.state, "name": kept.new.name, "priority": kept.new.priority, "data": kept.data,
        "attempt": kept.attempt, "attempts": kept.attempts, "stalls": kept.stalls, "releases": kept.releases,
        "added": kept.added, "due": kept.due, "ended": kept.ended, "progress": kept.progress,
        "token": kept.token if kept.state is A else None,
    }  # fmt: skip


# The limit is there to end what hangs: on a busy machine a store that is a server takes two minutes.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", STORES)
def test_a_store_does_what_its_model_does(name):
    class OnThisStore(Driven):
        set_up = staticmethod(STORES[name])
        can_be_reopened = name in SHARED

    case = OnThisStore.TestCase
    # Each step looks at everything there is, so fewer examples than of a plain property; fewest where that is slow.
    most = settings.default.max_examples
    examples = most * 6 // 10 if "sqlite" in name else most // 5 if "redis" in name else most // 12
    case.settings = settings(stateful_step_count=40, max_examples=examples)
    case("runTest").runTest()
