"""Processors that misbehave in every way there is: each harms its own job and nothing else."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from muskox import (
    ActiveJob,
    FailureKind,
    Fixed,
    JobState,
    LeaseLost,
    Muskox,
    SyncActiveJob,
)
from muskox.core.failure import MESSAGE_LIMIT, TRACEBACK_LIMIT
from tests.runtime import isolated
from tests.runtime.helpers import ended, reached, until

# --- H1, H2: code that holds up the loop ------------------------------------------------


async def test_fault_h01_a_processor_that_blocks_the_loop_keeps_its_lease(filed: Muskox, url: str) -> None:
    queue = filed.queue("email")
    starts: list[int] = []
    begun, over = threading.Event(), threading.Event()

    @queue.processor("busy")
    async def busy(job: ActiveJob) -> int:
        starts.append(job.attempt)
        begun.set()
        # Python code that never comes back to the loop, for three leases.
        while not over.is_set():
            pass
        return job.fence

    watcher = threading.Thread(target=_watch_leases, args=(url, begun, over))
    async with filed.worker(lease=0.9, concurrency=2):
        watcher.start()
        job = await ended(queue, await queue.add("busy"))
        await asyncio.to_thread(watcher.join)

    assert starts == [1]
    assert (job.state, job.stalls, job.attempt) == (JobState.COMPLETED, 0, 1)


def _watch_leases(url: str, begun: threading.Event, over: threading.Event) -> None:
    """Another program's recovery, in a loop of its own, beside a blocked one: it must find nothing."""

    async def recover() -> None:
        async with Muskox(url) as other:
            store = await other.store()
            until = other.world.monotonic() + 2.7
            while other.world.monotonic() < until:
                assert await store.recover() == []
                await asyncio.sleep(0.05)

    begun.wait(10)
    try:
        asyncio.run(recover())
    finally:
        over.set()


# --- H3, H4, H5: runs that do not stop ---------------------------------------------------


async def test_fault_h03_a_thread_past_its_timeout_is_given_up_and_counted(
    ox: Muskox, caplog: pytest.LogCaptureFixture
) -> None:
    queue = ox.queue("email")
    stuck = threading.Event()

    @queue.processor("stuck", timeout=0.05)
    def hang() -> None:
        stuck.wait(20)

    @queue.processor("fine")
    def fine() -> str:
        return "done"

    async with ox.worker(concurrency=1) as worker:
        job = await ended(queue, await queue.add("stuck"))
        leaked = worker._threads.leaked
        # Its place is taken by another thread: the worker still works.
        result = await queue.result((await queue.add("fine")).id, timeout=10)
        stuck.set()
        await until(lambda: worker._threads.leaked == 0)

    assert job.failure is not None
    assert (job.state, job.failure.kind, job.attempt) == (JobState.FAILED, FailureKind.TIMEOUT, 1)
    assert leaked == 1
    assert result == "done"
    assert "left to itself" in caplog.text or "runs on in its thread" in caplog.text


async def test_fault_h04_an_isolated_run_that_ignores_sigterm_is_killed_at_its_timeout(
    ox: Muskox, tmp_path: Path
) -> None:
    queue = ox.queue("email")
    queue.processor("stubborn", isolated=True, timeout=2)(isolated.stubborn)
    queue.processor("pid", isolated=True)(isolated.pid_of)
    notes = tmp_path / "pids"

    async with ox.worker(concurrency=1) as worker:
        job = await queue.add("stubborn", {"notes": str(notes)})
        settled = await ended(queue, job)
        other = await queue.result((await queue.add("pid")).id, timeout=20)
        [pid] = [int(line) for line in notes.read_text().split()]
        alive = pid in worker._children.pids

    assert settled.failure is not None
    assert (settled.state, settled.failure.kind, settled.attempt) == (JobState.FAILED, FailureKind.TIMEOUT, 1)
    assert other != pid
    assert not alive
    assert not _alive(pid)


async def test_fault_h05_a_swallowed_cancel_is_repeated_and_then_the_run_is_given_up(
    ox: Muskox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muskox.runtime.deadlines.INSISTENCE", (0.02, 0.02, 0.02))
    queue = ox.queue("email")
    cancels, let_go, late = 0, asyncio.Event(), asyncio.Event()

    @queue.processor("deaf", timeout=0.05)
    async def deaf(job: ActiveJob) -> str:
        nonlocal cancels
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                cancels += 1
        late.set()
        return "much too late"

    @queue.processor("fine")
    async def fine() -> str:
        return "done"

    async with ox.worker(concurrency=1) as worker:
        job = await ended(queue, await queue.add("deaf"))
        result = await queue.result((await queue.add("fine")).id, timeout=10)
        let_go.set()
        await late.wait()
        await until(lambda: worker._settler.idle)
        after = await queue.get(job.id)

    assert cancels >= 3
    assert job.failure is not None
    assert (job.state, job.failure.kind) == (JobState.FAILED, FailureKind.TIMEOUT)
    assert result == "done"
    assert after == job


async def test_fault_h05_a_run_that_ends_after_a_swallowed_cancel_leaves_its_slot_sound(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("slow", timeout=0.03, attempts=1)
    async def slow() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done all the same"

    @queue.processor("fine")
    async def fine() -> str:
        await asyncio.sleep(0.01)
        return "done"

    async with ox.worker(concurrency=1):
        job = await ended(queue, await queue.add("slow"))
        results = [await queue.result((await queue.add("fine")).id, timeout=10) for _ in range(5)]

    assert job.state in {JobState.COMPLETED, JobState.FAILED}
    assert results == ["done"] * 5


# --- H6, H7: ends of all kinds -------------------------------------------------------------


class Strange(BaseException):
    pass


@pytest.mark.parametrize(
    "kind",
    [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError, asyncio.CancelledError,
     StopIteration, StopAsyncIteration, TimeoutError, Strange, BaseExceptionGroup],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["async", "thread"])
async def test_fault_h06_whatever_is_raised_is_a_failure_like_any_other(
    ox: Muskox, kind: type[BaseException], mode: str
) -> None:
    queue = ox.queue("email")

    def burst() -> None:
        raise kind("x", [Strange()]) if kind is BaseExceptionGroup else kind()

    async def burst_async() -> None:
        burst()

    queue.processor("burst", attempts=2, backoff=Fixed(0))(burst if mode == "thread" else burst_async)

    @queue.processor("fine")
    async def fine() -> str:
        return "done"

    async with ox.worker(concurrency=1):
        job = await ended(queue, await queue.add("burst"))
        result = await queue.result((await queue.add("fine")).id, timeout=10)

    assert job.failure is not None
    assert (job.state, job.attempt, job.failure.kind) == (JobState.FAILED, 2, FailureKind.ERROR)
    assert result == "done"


@pytest.mark.parametrize("code", [0, 3])
async def test_fault_h06_a_child_that_leaves_is_a_stall_and_no_success(ox: Muskox, code: int) -> None:
    queue = ox.queue("email")
    queue.processor("leave", isolated=True)(isolated.leave)
    stalled: list[Any] = []
    ox.on("stalled")(stalled.append)

    async with ox.worker(concurrency=1):
        job = await ended(queue, await queue.add("leave", {"code": code}))

    assert job.failure is not None
    assert (job.state, job.failure.kind, job.stalls, job.attempt) == (JobState.FAILED, FailureKind.STALLED, 2, 0)
    assert f"exit code {code}" in job.failure.message
    assert [event.stalls for event in stalled][:1] == [1]


async def test_fault_h07_deep_recursion_is_a_failure_and_a_segfault_a_stall(ox: Muskox) -> None:
    queue = ox.queue("email")
    queue.processor("segfault", isolated=True)(isolated.segfault)
    queue.processor("recurse")(isolated.recurse)
    queue.processor("recurse-isolated", isolated=True)(isolated.recurse)

    async with ox.worker():
        deep = await ended(queue, await queue.add("recurse"))
        deeper = await ended(queue, await queue.add("recurse-isolated"))
        crash = await ended(queue, await queue.add("segfault"))

    for job in (deep, deeper):
        assert job.failure is not None
        assert (job.failure.kind, job.failure.type) == (FailureKind.ERROR, "RecursionError")
    assert crash.failure is not None
    assert (crash.failure.kind, crash.stalls) == (FailureKind.STALLED, 2)
    assert "signal 11" in crash.failure.message


async def test_fault_w11_an_isolated_run_that_takes_too_much_memory_fails_alone(ox: Muskox) -> None:
    queue = ox.queue("email")
    queue.processor("grow", isolated=True)(isolated.grow)
    queue.processor("pid", isolated=True)(isolated.pid_of)

    async with ox.worker(concurrency=1):
        job = await ended(queue, await queue.add("grow"))
        other = await ended(queue, await queue.add("pid"))

    assert job.failure is not None
    assert job.state is JobState.FAILED
    assert job.failure.type == "MemoryError" or job.failure.kind is FailureKind.STALLED
    assert other.state is JobState.COMPLETED


# --- H8: exceptions that resist --------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I will not be printed")


class Fatal(Exception):
    def __str__(self) -> str:
        raise SystemExit(9)


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class NeedsTwo(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)
        self.lock = threading.Lock()  # cannot be pickled

    def __reduce__(self) -> Any:
        raise TypeError("no")


class Vast(Exception):
    def __str__(self) -> str:
        return "x" * 50_000_000


def _circular() -> BaseException:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


_RESISTING = {
    "mute": Mute,
    "fatal": Fatal,
    "not text": NotText,
    "unpicklable": lambda: NeedsTwo(1, 2),
    "vast": Vast,
    "surrogates": lambda: ValueError("\ud800 and \x00"),
    "circular": _circular,
}


@pytest.mark.parametrize("which", _RESISTING)
@pytest.mark.parametrize("mode", ["async", "thread"])
async def test_fault_h08_an_exception_that_resists_is_kept_as_far_as_it_lets_itself(
    ox: Muskox, which: str, mode: str
) -> None:
    queue = ox.queue("email")

    def burst() -> None:
        error: BaseException = _RESISTING[which]()
        raise error

    async def burst_async() -> None:
        burst()

    queue.processor("burst")(burst if mode == "thread" else burst_async)

    @queue.processor("fine")
    async def fine() -> str:
        return "done"

    async with ox.worker(concurrency=1):
        job = await ended(queue, await queue.add("burst"))
        result = await queue.result((await queue.add("fine")).id, timeout=10)

    assert job.failure is not None
    assert job.state is JobState.FAILED
    assert job.failure.type
    assert len(job.failure.message) <= MESSAGE_LIMIT + 100
    assert len(job.failure.traceback) <= TRACEBACK_LIMIT + 100
    assert result == "done"


# --- H9: floods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["async", "thread"])
async def test_fault_h09_floods_of_progress_and_log_are_bounded(
    ox: Muskox, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = ox.queue("email")

    @queue.processor("flood-async")
    async def flood_async(job: ActiveJob) -> None:
        for number in range(50_000):
            await job.progress(number)
            await job.log("again")
            if number % 500 == 0:
                sys.stdout.write("x" * 1000)
                await asyncio.sleep(0)

    @queue.processor("flood-thread")
    def flood_thread(job: SyncActiveJob) -> None:
        for number in range(50_000):
            job.progress(number)
            job.log("again")

    @queue.processor("fine")
    async def fine() -> str:
        return "done"

    async with ox.worker():
        job = await queue.add(f"flood-{mode}")
        await reached(queue, job, lambda now: now.state is not JobState.WAITING)
        assert await queue.result((await queue.add("fine")).id, timeout=10) == "done"
        settled = await ended(queue, job)

    lines = await queue.logs(job.id, after=0) + await queue.logs(job.id, after=1000)
    written = sum(1 for event in await (await ox.store()).events(after=0) if event.kind == "progress")
    assert settled.state is JobState.COMPLETED
    assert settled.progress == 49_999
    assert len(lines) == 1001
    assert "dropped" in lines[-1].text
    assert written < 2_000


# --- H10: results that JSON can't hold ------------------------------------------------------------


def _cyclic() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@dataclass
class Broken:
    value: int = 1

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no")


class Model:
    def model_dump(self, mode: str) -> Any:
        raise RuntimeError("no")


_RESULTS: dict[str, Any] = {
    "object": object,
    "set of objects": lambda: {object()},
    "huge": lambda: "x" * 2_000_000,
    "nan": lambda: float("nan"),
    "surrogate": lambda: "\ud800",
    "cyclic": _cyclic,
    "big number": lambda: 2**70,
    "broken": Broken,
    "model": Model,
    "lock": threading.Lock,
}


@pytest.mark.parametrize("which", _RESULTS)
async def test_fault_h10_work_is_not_done_again_because_of_its_result(ox: Muskox, which: str) -> None:
    queue = ox.queue("email")
    runs: list[int] = []

    @queue.processor("odd", attempts=3, backoff=Fixed(0))
    async def odd(job: ActiveJob) -> Any:
        runs.append(job.attempt)
        return _RESULTS[which]()

    async with ox.worker():
        job = await ended(queue, await queue.add("odd"))

    assert runs == [1]
    assert job.state is JobState.COMPLETED
    if job.result is None:
        assert job.result_error is not None
        assert job.result_error.kind is FailureKind.RESULT
    else:
        assert which in {"big number", "broken"}, "msgspec may hold these"


async def test_fault_h10_a_result_with_nul_comes_back_as_it_was(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("odd")
    async def odd() -> str:
        return "a\x00b\u2028é👍"

    async with ox.worker():
        assert await queue.result((await queue.add("odd")).id, timeout=10) == "a\x00b\u2028é👍"


# --- the run's own voice ---------------------------------------------------------------------------


async def test_a_run_that_lost_its_lease_is_refused_when_it_speaks(ox: Muskox) -> None:
    queue = ox.queue("email")
    refused: list[str] = []
    begun = asyncio.Event()

    @queue.processor("long")
    async def long(job: ActiveJob) -> None:
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            for speak in (job.progress(1), job.log("late"), job.update({})):
                try:
                    await speak
                except LeaseLost as error:
                    refused.append(str(error))
            raise

    async with ox.worker(lease=0.6):
        job = await queue.add("long")
        await begun.wait()
        await queue.cancel(job.id)
        await until(lambda: len(refused) == 3)

    found = await queue.get(job.id)
    assert found is not None
    assert (found.state, found.progress, found.data) == (JobState.CANCELLED, None, None)
    assert await queue.logs(job.id) == []


async def test_an_update_is_refused_at_once_when_the_job_was_cancelled(ox: Muskox) -> None:
    queue = ox.queue("email")
    begun, gate = asyncio.Event(), asyncio.Event()
    said: list[BaseException] = []

    @queue.processor("long")
    async def long(job: ActiveJob) -> None:
        begun.set()
        await gate.wait()
        try:
            await job.update({"late": True})
        except LeaseLost as error:
            said.append(error)

    async with ox.worker(lease=30):
        job = await queue.add("long")
        await begun.wait()
        await queue.cancel(job.id)
        gate.set()
        await until(lambda: said)

    found = await queue.get(job.id)
    assert found is not None
    assert found.data is None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
