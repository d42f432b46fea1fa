"""Processes that are frozen, starved or killed, and what their jobs come to."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from muskox import FailureKind, JobState
from tests.end_to_end.conftest import Yard, alive


async def test_fault_w03_a_frozen_worker_wakes_up_and_can_change_nothing(yard: Yard) -> None:
    frozen = await yard.start(lease=1)
    job = await yard.queue.add("deaf", {"gate": str(yard.gate)})
    await yard.started(job)
    frozen.send(signal.SIGSTOP)
    other = await yard.start(lease=1)
    settled = await yard.ended(job)

    frozen.send(signal.SIGCONT)
    await yard.until(lambda: yard.facts("told", job), limit=10)
    yard.gate.touch()
    await yard.until(lambda: len(yard.facts("end", job)) == 2)
    frozen.send(signal.SIGTERM)
    code = await frozen.gone()

    starts = yard.facts("start", job)
    assert settled.result == "after 1 stalls"
    assert (settled.stalls, settled.attempt) == (1, 1)
    assert await yard.get(job) == settled
    assert await yard.endings(job) == ["completed"]
    assert [line[3] for line in starts] == [str(frozen.pid), str(other.pid)]
    assert int(starts[1][2]) > int(starts[0][2])
    assert "no longer ours" in frozen.said()
    assert code == 0


async def test_a_batch_of_a_killed_worker_loses_no_job(yard: Yard) -> None:
    killed = await yard.start(lease=1)
    jobs = await yard.queue.add_many([("many", None)] * 5)
    for job in jobs:
        await yard.started(job)
    killed.send(signal.SIGKILL)

    await yard.start(lease=1)
    settled = [await yard.ended(job) for job in jobs]

    assert [(job.result, job.attempt, job.stalls) for job in settled] == [("after 1 stalls", 1, 1)] * 5
    assert [await yard.endings(job) for job in jobs] == [["completed"]] * 5


async def test_a_step_of_a_killed_worker_is_not_done_again(yard: Yard) -> None:
    killed = await yard.start(lease=1)
    job = await yard.queue.add("steps")
    await yard.started(job)
    killed.send(signal.SIGKILL)

    await yard.start(lease=1)
    settled = await yard.ended(job)

    assert settled.result == [0, 1]
    assert len(yard.facts("first", job)) == 1


async def test_fault_w04_a_frozen_worker_may_still_finish_what_nobody_else_took(yard: Yard) -> None:
    frozen = await yard.start(lease=1)
    job = await yard.queue.add("long", {"gate": str(yard.gate)})
    await yard.started(job)
    frozen.send(signal.SIGSTOP)
    until = yard.ox.world.monotonic() + 2.5
    await yard.until(lambda: yard.ox.world.monotonic() > until)

    frozen.send(signal.SIGCONT)
    yard.gate.touch()
    settled = await yard.ended(job)

    assert settled.state is JobState.COMPLETED
    assert (settled.stalls, settled.attempt) == (0, 1)
    assert await yard.endings(job) == ["completed"]
    assert len(yard.facts("start", job)) == 1


async def test_fault_h02_a_run_that_holds_the_interpreter_loses_its_lease_and_is_fenced(yard: Yard) -> None:
    first = await yard.start(lease=1)
    job = await yard.queue.add("greedy", {"seconds": 5})
    await yard.started(job)
    other = await yard.start(lease=1)
    settled = await yard.ended(job)
    await yard.until(lambda: len(yard.facts("end", job)) == 2)
    first.send(signal.SIGTERM)
    await first.gone()

    starts = yard.facts("start", job)
    assert (settled.state, settled.result, settled.stalls) == (JobState.COMPLETED, "after 1 stalls", 1)
    assert await yard.get(job) == settled
    assert [line[3] for line in starts] == [str(first.pid), str(other.pid)]
    assert await yard.endings(job) == ["completed"]


async def test_fault_w01_mission_a17_workers_that_are_killed_lose_no_job(yard: Yard) -> None:
    total, kills = 300, 3
    await yard.queue.add_many([yard.queue.new("quick", max_stalls=50) for _ in range(total)])
    for number in range(kills):
        worker = await yard.start(lease=0.5)
        await yard.until(lambda number=number: len(yard.facts("end")) > 60 * (number + 1))
        worker.send(signal.SIGKILL)
        assert await worker.gone() == -signal.SIGKILL
    await yard.start(lease=0.5)
    await yard.all_ended(total)

    jobs = (await yard.queue.find("completed", limit=1000)).jobs
    fences: dict[str, list[int]] = {}
    for _, id, fence, _ in yard.facts("start"):
        fences.setdefault(id, []).append(int(fence))
    assert len(jobs) == total
    for job in jobs:
        assert job.attempt == 1
        # A second start only after a stall, each under a fence of its own that is higher.
        assert len(fences[job.id]) <= 1 + job.stalls
        assert fences[job.id] == sorted(set(fences[job.id]))
        assert job.stalls <= kills
    assert sum(1 for _ in await yard.all_endings()) == total


async def test_fault_w09_the_children_of_a_killed_worker_are_gone_with_it(yard: Yard) -> None:
    worker = await yard.start(lease=1, concurrency=3)
    jobs = [await yard.queue.add("stubborn", {"path": str(yard.path)}, max_stalls=0) for _ in range(3)]
    await yard.until(lambda: len(yard.facts("start")) == 3)
    children = [int(line[3]) for line in yard.facts("start")]

    worker.send(signal.SIGKILL)
    await worker.gone()

    await yard.until(lambda: not any(alive(pid) for pid in children), limit=2)
    await yard.start(lease=1)
    for job in jobs:
        settled = await yard.ended(job)
        assert settled.failure is not None
        assert (settled.state, settled.failure.kind) == (JobState.FAILED, FailureKind.STALLED)


async def test_fault_w10_a_killed_child_is_the_matter_of_its_job_alone(yard: Yard) -> None:
    worker = await yard.start(concurrency=2)
    job = await yard.queue.add("stubborn", {"path": str(yard.path)}, max_stalls=0)
    neighbour = await yard.queue.add("long", {"gate": str(yard.gate)})
    await yard.started(job)
    await yard.started(neighbour)
    [child] = [int(line[3]) for line in yard.facts("start", job)]

    os.kill(child, signal.SIGKILL)
    settled = await yard.ended(job)
    again = await yard.ended(await yard.queue.add("pid"))
    yard.gate.touch()
    other = await yard.ended(neighbour)

    assert settled.failure is not None
    assert (settled.state, settled.failure.kind, settled.stalls) == (JobState.FAILED, FailureKind.STALLED, 1)
    assert "signal 9" in settled.failure.message
    assert again.state is JobState.COMPLETED
    assert again.result not in {child, worker.pid}
    assert (other.state, other.stalls) == (JobState.COMPLETED, 0)


async def test_fault_w11_a_child_that_the_kernel_kills_for_its_memory_is_a_stall_with_the_evidence(yard: Yard) -> None:
    with _little_memory() as group:
        await yard.start(concurrency=2)
        neighbour = await yard.queue.add("long", {"gate": str(yard.gate)})
        job = await yard.queue.add("hog", {"group": group}, max_stalls=1)
        settled = await yard.ended(job)
        yard.gate.touch()
        other = await yard.ended(neighbour)

    assert settled.failure is not None
    assert (settled.state, settled.failure.kind) == (JobState.FAILED, FailureKind.STALLED)
    assert (settled.stalls, settled.attempt) == (2, 0)
    assert "signal 9" in settled.failure.message
    assert (other.state, other.stalls) == (JobState.COMPLETED, 0)


async def test_fault_w12_children_are_no_forks_and_share_neither_sockets_nor_the_store(yard: Yard) -> None:
    await yard.start(concurrency=2)

    open_here = (await yard.ended(await yard.queue.add("fds"))).result

    sockets = [target for target in open_here if target.startswith("socket:")]
    assert len(sockets) == 1, "its line to the worker, and no other"
    assert not [target for target in open_here if "jobs.db" in target or "eventpoll" in target]


async def test_fault_w13_a_restarted_worker_is_another_one_and_keeps_no_old_lease_alive(yard: Yard) -> None:
    first = await yard.start(lease=1)
    job = await yard.queue.add("long", {"gate": str(yard.gate)})
    await yard.started(job)
    [before] = await yard.ox.workers()
    held_by = (await yard.get(job)).worker
    first.send(signal.SIGKILL)
    await first.gone()
    yard.gate.touch()

    second = await yard.start(lease=1)
    settled = await yard.ended(job, limit=1 + 5 + 5)
    after = {record.pid: record.id for record in await yard.ox.workers()}

    assert before.id == held_by
    assert after[second.pid] != before.id
    assert (settled.state, settled.stalls) == (JobState.COMPLETED, 1)


@pytest.mark.parametrize("name", ["leave-async", "leave-thread"])
async def test_fault_h06_mission_a17_a_run_that_ends_its_process_fails_as_stalled_after_max_stalls(
    yard: Yard, name: str
) -> None:
    job = await yard.queue.add(name, attempts=5)
    for times in (1, 2):
        worker = await yard.start_only(lease=0.5, shutdown_timeout=1, concurrency=2, gate="")
        await yard.started(job, times)
        await worker.gone()
    await yard.start(lease=0.5)
    settled = await yard.ended(job)
    fine = await yard.ended(await yard.queue.add("quick"))

    assert settled.failure is not None
    assert (settled.state, settled.failure.kind) == (JobState.FAILED, FailureKind.STALLED)
    assert (settled.stalls, settled.attempt) == (2, 0)
    assert len(yard.facts("start", job)) == 2
    assert fine.state is JobState.COMPLETED


@contextlib.contextmanager
def _little_memory() -> Iterator[str]:
    """A group of processes that may take 64 MiB together."""
    lines = Path("/proc/self/cgroup").read_text().splitlines() if Path("/proc/self/cgroup").exists() else []
    ours = next((line.split(":")[2] for line in lines if line.split(":")[1] == "memory"), None)
    folder = Path(f"/sys/fs/cgroup/memory{ours}/muskox-{os.getpid()}")
    try:
        assert ours is not None
        folder.mkdir()
    except (AssertionError, OSError):
        pytest.skip("this machine lets us make no memory cgroup; tests/runtime shows W11 by RLIMIT_AS")
    try:
        (folder / "memory.limit_in_bytes").write_text(str(64 * 2**20))
        yield str(folder)
    finally:
        folder.rmdir()
