"""A flow as it should be, in so few lines that one can see that it is right: the reference of `test_flows_model.py`."""

from __future__ import annotations

from collections.abc import Iterable

from muskox.core.flows import FlowJob, OnFailure
from muskox.core.job import JobState

B, W, A = JobState.BLOCKED, JobState.WAITING, JobState.ACTIVE
C, F, X = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED
UNENDED = (B, W, A)


class Node:
    """A job: where it is, for whom it waits, and whether its row is still there."""

    def __init__(self, key: tuple[str, str], waits: dict[tuple[str, str], OnFailure], max_stalls: int) -> None:
        self.key = key
        self.waits = waits
        self.left: set[tuple[str, str]] = set()
        """The parents that have not ended, while it is blocked."""
        self.max_stalls = max_stalls
        self.state = W
        self.stalls = 0
        self.there = True


class FlowModel:
    """All of it in memory, one move after the other."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str], Node] = {}
        self.stopped = False
        self.completed_added = self.settled_added = False

    def add(self, jobs: Iterable[FlowJob]) -> None:
        for one in jobs:
            waits = {(wait.queue, wait.id): wait.on_failure for wait in one.waits}
            node = Node((one.job.queue, one.job.id), waits, one.job.options.max_stalls or 0)
            self.nodes[node.key] = node
            self.settle_in(node)

    def settle_in(self, node: Node) -> None:
        """A job begins to wait, or is blocked while one of its parents has not ended."""
        node.left = {key for key in node.waits if self.nodes[key].state in UNENDED}
        node.state = B if node.left else W

    def in_state(self, *states: JobState) -> list[Node]:
        return [node for node in self.nodes.values() if node.there and node.state in states]

    def end(self, ended: Iterable[Node], state: JobState, *, stay: bool = True) -> None:
        """Jobs end together; then what that means to those that wait for them, one after another."""
        level = list(ended)
        for node in level:
            node.state, node.there = state, stay
        while level:
            below = []
            for child in self.in_state(B):
                parents = [parent for parent in level if parent.key in child.left]
                child.left -= {parent.key for parent in parents}
                if any(one.state is not C and child.waits[one.key] is OnFailure.FAIL for one in parents):
                    below.append(child)
                elif parents and not child.left:
                    child.state = W
            for child in below:
                child.state = X if self.stopped else F
            level = below
        if not any(node.state in UNENDED for node in self.nodes.values()):
            self.settled_added = True
            self.completed_added |= all(node.state is C for node in self.nodes.values())

    def revive(self, nodes: list[Node]) -> None:
        for node in nodes:
            node.state, node.stalls = W, 0
            for child in self.in_state(B):
                if node.key in child.waits:
                    child.left.add(node.key)
        for node in nodes:
            self.settle_in(node)

    def branch(self, run: Node, new: FlowJob) -> None:
        key = new.job.queue, new.job.id
        for child in self.nodes.values():
            if child.state is B and run.key in child.waits:
                child.waits[key] = child.waits[run.key]
                child.left.add(key)
        self.add([new])

    def stall(self) -> None:
        """All leases have run out and the jobs were taken back."""
        failed = []
        for node in self.in_state(A):
            node.stalls += 1
            node.state = W
            if node.stalls > node.max_stalls:
                failed.append(node)
        self.end(failed, F)

    def tally(self) -> tuple[int, int, int, int]:
        states = [node.state for node in self.nodes.values()]
        return len(states), states.count(C), states.count(F), states.count(X)
