"""Random flows with random failures, kills and moves by hand end as a small model says, on every store.

More examples than CI's: `pytest tests/store/test_flows_model.py --hypothesis-profile=deep`.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from muskox.core.flows import FlowJob, NewFlow, OnFailure, Wait
from muskox.core.job import Lease, NewJob, Options
from muskox.core.life import Complete, Fail, Release, Retry
from muskox.store.protocol import Selection, Want
from muskox.testing import FakeWorld
from tests.store.flow_model import UNENDED, A, C, F, FlowModel, W, X
from tests.store.reading import BROKEN
from tests.stores import REPEATED, STORES, SetUp

QUEUES = ("files", "email")
FOLLOW = ("completed", "settled")


@st.composite
def flows(draw: st.DrawFn) -> list[FlowJob]:
    """Up to fifty jobs, each with up to four parents among those before it."""
    jobs: list[FlowJob] = []
    for number in range(draw(st.integers(1, 50) | st.integers(1, 8))):
        chosen = draw(st.lists(st.sampled_from(jobs), max_size=4, unique_by=id)) if jobs else []
        waits = tuple(
            Wait(one.job.queue, one.job.id, one.job.id, draw(st.sampled_from([*OnFailure, OnFailure.FAIL])))
            for one in chosen
        )
        job = NewJob(
            f"job-{number}",
            draw(st.sampled_from(QUEUES)),
            "work",
            options=Options(max_stalls=draw(st.sampled_from([0, 1]))),
            key=draw(st.sampled_from([None, None, "key"])),
        )
        jobs.append(FlowJob(job, waits))
    return jobs


class Driven(RuleBasedStateMachine):
    """A store and the model, side by side."""

    set_up: SetUp

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.open = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = FakeWorld(seed=1)
        self.model = FlowModel()
        self.leases: dict[tuple[str, str], Lease] = {}
        self.old: list[Lease] = []
        self.branches = 0

    def wait(self, work):
        return self.runner.run(work)

    @initialize(jobs=flows())
    def begin(self, jobs):
        REPEATED.add(self.clock)
        _, self.store = self.wait(self.open.enter_async_context(type(self).set_up(Path(self.folder.name), self.clock)))
        completed, settled = (NewJob(id, "ends", "tell") for id in FOLLOW)
        self.wait(self.store.grow(NewFlow("flow", completed=completed, settled=settled), jobs))
        self.model.add(jobs)

    def teardown(self):
        try:
            if hasattr(self, "store"):
                assert self.wait(self.store.audit()) == []
        finally:
            self.wait(self.open.aclose())
            self.runner.close()
            self.folder.cleanup()

    def pick(self, data, *states, most: int = 4):
        """Some of the jobs in these states."""
        found = self.model.in_state(*states)
        return data.draw(st.lists(st.sampled_from(found), min_size=1, max_size=most, unique_by=id)) if found else []

    def by_hand(self, verb, nodes, states):
        """Have a verb done with jobs by their ids, queue by queue; gives those of each queue that are moved."""
        for queue in QUEUES:
            its = [node for node in nodes if node.key[0] == queue and node.there and node.state in states]
            if its:
                assert self.wait(verb(Selection(queue, ids=tuple(node.key[1] for node in its)))) == len(its)
                yield its

    @rule()
    def claim(self):
        claimed = self.wait(self.store.claim([Want(queue) for queue in QUEUES], limit=100, worker="w", lease=30))
        assert {(job.queue, job.id) for job in claimed} == {node.key for node in self.model.in_state(W)}
        for job in claimed:
            self.model.nodes[job.queue, job.id].state = A
            self.leases[job.queue, job.id] = job.lease
            self.old.append(job.lease)

    @rule(data=st.data(), keep=st.sampled_from([None, None, 0]))
    def complete(self, data, keep):
        nodes = self.pick(data, A, most=10)
        done = [Complete(self.leases[node.key], f'"{node.key[1]}"', None, keep) for node in nodes]
        assert self.wait(self.store.settle(done)) == []
        self.model.end(nodes, C, stay=keep is None)

    @rule(data=st.data())
    def fail(self, data):
        nodes = self.pick(data, A)
        assert self.wait(self.store.settle([Fail(self.leases[node.key], BROKEN) for node in nodes])) == []
        self.model.end(nodes, F)

    @rule(data=st.data(), again=st.sampled_from([Release, lambda lease: Retry(lease, 0, BROKEN)]))
    def give_back(self, data, again):
        nodes = self.pick(data, A)
        assert self.wait(self.store.settle([again(self.leases[node.key]) for node in nodes])) == []
        for node in nodes:
            node.state = W

    @rule(data=st.data())
    @precondition(lambda self: self.old)
    def settle_late(self, data):
        """A worker that was thought dead speaks: of a job that is another's now, or that has ended."""
        lease = data.draw(st.sampled_from(self.old))
        node = self.model.nodes[lease.queue, lease.job_id]
        if node.state is not A or not node.there or self.leases[node.key].token != lease.token:
            self.wait(self.store.settle([Complete(lease)]))

    @rule()
    def kill_all_workers(self):
        self.clock.advance(31)
        while self.wait(self.store.recover()):
            pass
        self.model.stall()

    @rule(data=st.data())
    def cancel(self, data):
        for its in self.by_hand(self.store.cancel, self.pick(data, *UNENDED), UNENDED):
            self.model.end(its, X)

    @rule(data=st.data())
    def retry(self, data):
        for its in self.by_hand(self.store.retry, self.pick(data, F, X), (F, X)):
            self.model.revive(its)

    @rule(data=st.data())
    def remove(self, data):
        states = (*UNENDED, C, F, X)
        for its in self.by_hand(self.store.remove, self.pick(data, *states, most=2), states):
            for node in its:
                if node.state not in UNENDED:
                    node.there = False
            self.model.end([node for node in its if node.there], X, stay=False)

    @rule(data=st.data())
    def branch(self, data):
        for node in self.pick(data, A, most=1):
            self.branches += 1
            new = FlowJob(NewJob(f"branch-{self.branches}", "files", "work", options=Options(max_stalls=0)))
            assert len(self.wait(self.store.branch(self.leases[node.key], [new]))) == 1
            self.model.branch(node, new)

    @rule()
    def retry_all(self):
        nodes = self.model.in_state(F, X)
        assert self.wait(self.store.retry_flow("flow")) == len(nodes)
        self.model.stopped = False
        self.model.revive(nodes)

    @rule(bold=st.integers(0, 9))
    def cancel_all(self, bold):
        if bold == 0:
            nodes = self.model.in_state(*UNENDED)
            assert self.wait(self.store.cancel_flow("flow")) == len(nodes)
            self.model.stopped = True
            self.model.end(nodes, X)

    @invariant()
    def every_job_is_as_in_the_model(self):
        for queue in QUEUES:
            nodes = [node for node in self.model.nodes.values() if node.key[0] == queue]
            found = self.wait(self.store.get(queue, [node.key[1] for node in nodes]))
            assert [job and job.state for job in found] == [node.state if node.there else None for node in nodes]

    @invariant()
    def the_flow_is_as_in_the_model(self):
        if not hasattr(self, "store"):
            return
        [found] = self.wait(self.store.flows(["flow"])).flows
        assert (found.total, found.completed, found.failed, found.cancelled) == self.model.tally()
        assert (found.completed_added, found.settled_added) == (self.model.completed_added, self.model.settled_added)
        followed = [job is not None for job in self.wait(self.store.get("ends", FOLLOW))]
        assert followed == [self.model.completed_added, self.model.settled_added]


# As that of test_model.py, and for the same reason.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", STORES)
def test_random_flows_end_as_the_model_says(name):
    class OnThisStore(Driven):
        set_up = staticmethod(STORES[name])

    case = OnThisStore.TestCase
    most = settings.default.max_examples
    examples = most // 2 if "sqlite" in name else most // 6 if "redis" in name else most // 12
    case.settings = settings(
        stateful_step_count=40, max_examples=examples, suppress_health_check=[HealthCheck.too_slow]
    )
    case("runTest").runTest()
