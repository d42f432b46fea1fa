"""Graphs of jobs, before a store sees them: which can be, in which order they go, and what is said of the others."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from muskox.core.dedup import Dedup
from muskox.core.errors import OptionError
from muskox.core.failure import Failure, FailureKind
from muskox.core.flows import (
    FlowJob,
    FlowKind,
    FlowRecord,
    FlowState,
    OnFailure,
    Parent,
    Parents,
    Wait,
    child_id,
    in_order,
    parent_failure,
)
from muskox.core.job import JobState, NewJob, Options


def node(id: str, *after: str) -> FlowJob:
    return FlowJob(NewJob(id, "q", "work"), tuple(Wait("q", one, one) for one in after))


@st.composite
def graphs(draw: st.DrawFn) -> list[FlowJob]:
    size = draw(st.integers(1, 20))
    jobs = [
        node(f"job-{n}", *(f"job-{one}" for one in draw(st.sets(st.integers(0, n - 1), max_size=4)) if n))
        if n
        else node("job-0")
        for n in range(size)
    ]
    return draw(st.permutations(jobs))


@given(graphs())
def test_parents_come_before_their_children(jobs):
    ordered = in_order(jobs)

    assert sorted(one.job.id for one in ordered) == sorted(one.job.id for one in jobs)
    seen: set[str] = set()
    for one in ordered:
        assert {wait.id for wait in one.waits} <= seen
        seen.add(one.job.id)


def test_jobs_without_parents_keep_their_order():
    jobs = [node("c"), node("a"), node("b")]

    assert in_order(jobs) == jobs


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([], "needs at least one job"),
        ([node("a"), node("a")], "two jobs 'a' in queue 'q'"),
        ([node("a", "a")], "waits for itself"),
        ([node("a", "b")], "waits for 'b' in queue 'q', which is not in the flow"),
        ([node("a"), node("b", "a", "a")], "waits twice for the same parent"),
        (
            [node("a"), node("c"), FlowJob(NewJob("b", "q", "work"), (Wait("q", "a", "x"), Wait("q", "c", "x")))],
            "two parents of one name",
        ),
        ([node("a", "c"), node("b", "a"), node("c", "b")], "a → b → c → a|b → c → a → b|c → a → b → c"),
        ([node("z", "a"), node("a", "b"), node("b", "a")], "a → b → a|b → a → b"),
        ([node(str(n)) for n in range(10_001)], "may have 10000 jobs, not 10001; use a batch"),
    ],
)
def test_what_cannot_end_is_refused_with_what_is_wrong(jobs, said):
    with pytest.raises(OptionError, match=said):
        in_order(jobs)


def test_names_and_ids_of_parents_are_checked():
    for wait in (("q", "a", ""), ("q", "", "a"), ("q/q", "a", "a"), ("q", "a", "x" * 256)):
        with pytest.raises(OptionError):
            Wait(*wait)


def test_a_job_of_a_flow_has_no_dedup_key():
    with pytest.raises(OptionError, match="has a dedup key"):
        FlowJob(NewJob("a", "q", "work", options=Options(dedup=Dedup("x"))))


@pytest.mark.parametrize(
    ("figures", "state", "progress"),
    [
        ({"open": True}, FlowState.OPEN, 0),
        ({"open": True, "total": 4, "completed": 4}, FlowState.OPEN, 1),
        ({"total": 4, "completed": 1, "failed": 1}, FlowState.RUNNING, 0.5),
        ({"total": 4, "completed": 2, "failed": 1, "cancelled": 1}, FlowState.FAILED, 1),
        ({"total": 4, "completed": 3, "cancelled": 1}, FlowState.CANCELLED, 1),
        ({"total": 4, "completed": 4}, FlowState.COMPLETED, 1),
        ({}, FlowState.COMPLETED, 1),
    ],
)
def test_the_state_of_a_flow_follows_from_its_figures(figures, state, progress):
    record = FlowRecord("flow", FlowKind.FLOW, **{"open": False, "added_us": 0, **figures})

    assert (record.state, record.progress) == (state, progress)


def test_a_failure_because_of_a_parent_names_it():
    why = Failure(FailureKind.ERROR, "ValueError", "no")

    assert str(parent_failure("q", "a", JobState.FAILED, why)) == (
        "ParentFailed: its parent a in queue q failed: ValueError: no"
    )
    assert parent_failure("q", "a", JobState.CANCELLED, None).message == "its parent a in queue q was cancelled"
    assert "was removed before it ended" in parent_failure("q", "a", JobState.CANCELLED, None, removed=True).message
    assert parent_failure("q", "a", JobState.FAILED, None).kind is FailureKind.PARENT


def test_a_failure_does_not_grow_down_the_line():
    failure = Failure(FailureKind.ERROR, "ValueError", "x" * 4000)
    for _ in range(100):
        failure = parent_failure("q", "a" * 255, JobState.FAILED, failure)

    assert len(failure.message) <= 1000


def test_parents_are_seen_in_order_and_by_name():
    found = [
        Parent("a", "q", "1", OnFailure.FAIL, JobState.COMPLETED, '{"x":1}'),
        Parent("b", "q", "2", OnFailure.IGNORE, JobState.FAILED, None, Failure(FailureKind.ERROR)),
        Parent("c", "q", "3", OnFailure.CONTINUE, JobState.FAILED, None, Failure(FailureKind.ERROR)),
    ]
    parents = Parents(found)

    assert parents.results == [{"x": 1}, None, None]
    assert [one.name for one in parents] == ["a", "b", "c"]
    assert parents["a"].result == {"x": 1}
    assert (parents["b"].completed, parents["b"].failure) == (True, None)
    assert (parents["c"].completed, parents["c"].failure) == (False, Failure(FailureKind.ERROR))
    assert parents[1:] == [parents["b"], parents["c"]]
    with pytest.raises(KeyError, match="no parent 'd'; there are a, b, c"):
        parents["d"]


def test_the_id_of_an_added_job_depends_on_what_it_is_and_not_on_when():
    one = NewJob("x", "q", "work", '{"n":1}')

    assert child_id("parent", one) == child_id("parent", NewJob("y", "q", "work", '{"n":1}'))
    assert len({
        child_id("parent", one),
        child_id("other", one),
        child_id("parent", NewJob("x", "q", "work", '{"n":2}')),
        child_id("parent", NewJob("x", "q", "other", '{"n":1}')),
        child_id("parent", NewJob("x", "p", "work", '{"n":1}')),
    }) == 5  # fmt: skip
    assert len(child_id("p" * 255, one)) <= 255
    assert child_id("p" * 255, one) != child_id("p" * 254, one)
