"""Real worker processes and the signals that stop them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from muskox import JobState
from tests.end_to_end.conftest import Process, Yard


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_fault_w05_the_first_signal_lets_runs_end_and_starts_no_more(yard: Yard, number: signal.Signals) -> None:
    worker = await yard.start(concurrency=4)
    jobs = [await yard.queue.add("long", {"gate": str(yard.gate)}) for _ in range(6)]
    await yard.until(lambda: len(yard.facts("start")) == 4)

    worker.send(number)
    await _stopping(yard, worker)
    later = await yard.queue.add("quick")
    yard.gate.touch()
    code = await worker.gone()

    found = [await yard.get(job) for job in jobs]
    assert code == 0
    assert sorted(job.state for job in found) == [JobState.COMPLETED] * 4 + [JobState.WAITING] * 2
    assert len(yard.facts("start")) == 4
    assert (await yard.get(later)).state is JobState.WAITING


async def test_fault_w05_runs_beyond_the_shutdown_timeout_are_given_back(yard: Yard) -> None:
    worker = await yard.start(shutdown_timeout=0.2)
    jobs = [await yard.queue.add("long", {"gate": str(yard.gate)}) for _ in range(3)]
    await yard.until(lambda: len(yard.facts("start")) == 3)

    worker.send(signal.SIGTERM)
    code = await worker.gone()

    assert code == 0
    assert len(yard.facts("told")) == 3
    for job in jobs:
        found = await yard.get(job)
        assert (found.state, found.attempt, found.releases, found.stalls) == (JobState.WAITING, 0, 1, 0)
    assert await yard.ox.workers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_fault_w06_a_second_signal_gives_back_at_once(yard: Yard, number: signal.Signals) -> None:
    worker = await yard.start(shutdown_timeout=60)
    job = await yard.queue.add("long", {"gate": str(yard.gate)})
    await yard.started(job)

    worker.send(number)
    await _stopping(yard, worker)
    worker.send(number)
    code = await worker.gone(limit=15)

    found = await yard.get(job)
    assert code == 0
    assert (found.state, found.attempt, found.releases) == (JobState.WAITING, 0, 1)


async def test_fault_w06_a_third_signal_ends_the_process_even_when_its_loop_is_blocked(yard: Yard) -> None:
    worker = await yard.start(lease=1)
    job = await yard.queue.add("busy")
    await yard.started(job)

    for _ in range(3):
        worker.send(signal.SIGTERM)
        # Signals of one kind that come together are one: each must have been taken before the next.
        await yard.until(lambda: _caught(worker.pid))
    code = await worker.gone(limit=15)
    await yard.start(lease=1)
    settled = await yard.ended(job)

    assert code == 128 + signal.SIGTERM
    assert settled.result == "after 1 stalls"


async def test_a_run_that_hears_no_cancel_does_not_keep_the_process_alive(yard: Yard) -> None:
    worker = await yard.start(shutdown_timeout=0.1)
    job = await yard.queue.add("deaf", {"gate": str(yard.gate)})
    await yard.started(job)

    worker.send(signal.SIGTERM)
    code = await worker.gone(limit=20)

    found = await yard.get(job)
    assert (found.state, found.releases) == (JobState.WAITING, 1)
    assert code == 0


async def test_mission_a10_queued_and_delayed_jobs_survive_a_restart(yard: Yard) -> None:
    first = await yard.start()
    await yard.ended(await yard.queue.add("quick"))
    first.send(signal.SIGTERM)
    await first.gone()
    queued = await yard.queue.add("quick")
    delayed = await yard.queue.add("quick", delay=1.5)

    second = await yard.start()
    done = await yard.ended(queued)
    late = await yard.ended(delayed)

    assert done.result == late.result == second.pid
    assert late.started_us is not None
    assert late.started_us >= late.added_us + 1_500_000


async def test_mission_a08_two_processes_share_a_queue_and_run_each_job_once(yard: Yard) -> None:
    one, two = await yard.start(concurrency=1), await yard.start(concurrency=1)
    jobs = await yard.queue.add_many([yard.queue.new("quick") for _ in range(400)])
    for job in jobs:
        await yard.ended(job)

    by = {line[3] for line in yard.facts("start")}
    assert by == {str(one.pid), str(two.pid)}
    assert len(yard.facts("start")) == 400
    assert len({line[1] for line in yard.facts("start")}) == 400


async def _stopping(yard: Yard, worker: Process) -> None:
    """Return when the worker has begun to stop: it starts nothing that was added since then."""
    async with asyncio.timeout(10):
        while worker.process.returncode is None and _caught(worker.pid) != 1:  # noqa: ASYNC110 - as in the yard
            await asyncio.sleep(0.01)
    # The signal is handled in the loop of the worker, to which a job that it refuses must have come after it.
    before = yard.ox.world.monotonic() + 0.3
    await yard.until(lambda: yard.ox.world.monotonic() > before)


def _caught(pid: int) -> int:
    """1 when no signal waits to be taken by the process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 1
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return int(not any(mask & (1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1) for mask in masks))
