"""Data that does not fit, or that was damaged where it is kept: that job fails, the queue goes on."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muskox import ActiveJob, FailureKind, Fixed, JobState, Muskox
from tests.runtime import isolated
from tests.runtime.helpers import ended, reached


class Strict(msgspec.Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number > 3:
            raise RuntimeError("too large, said in an odd way")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": "Ada"}, "age"),
        ({"name": 5, "age": 5}, "name"),
        ({"name": "Ada", "age": "old"}, "age"),
        ({"name": "Ada", "age": 5, "extra": 1}, "extra"),
        ([1, 2], "object"),
        ("text", "object"),
        ({"name": "Ada", "age": 5, "strict": {"number": 9}}, "too large"),
    ],
    ids=["missing", "wrong type", "wrong type too", "extra", "list", "text", "refused by a class"],
)
async def test_fault_d06_data_that_does_not_fit_fails_the_job_at_once_and_for_good(
    ox: Muskox, data: Any, said: str
) -> None:
    queue = ox.queue("email")
    runs: list[str] = []

    @queue.processor("typed", attempts=5, backoff=Fixed(0))
    async def typed(job: ActiveJob, name: str, age: int, strict: Strict | None = None) -> None:
        runs.append(name)

    @queue.processor("fine")
    async def fine() -> str:
        return "done"

    async with ox.worker(concurrency=1):
        job = await ended(queue, await queue.add("typed", data))
        result = await queue.result((await queue.add("fine")).id, timeout=10)

    assert runs == []
    assert job.failure is not None
    assert (job.state, job.attempt, job.failure.kind) == (JobState.FAILED, 1, FailureKind.REFUSED)
    assert said in job.failure.message
    assert result == "done"


@pytest.mark.parametrize("mode", ["takes fields", "takes none", "reads data", "isolated"])
@pytest.mark.parametrize("column", ["data", "options", "progress", "failure", "bytes"])
async def test_fault_d07_a_damaged_job_fails_alone(tmp_path: Path, column: str, mode: str) -> None:
    path = tmp_path / "jobs.db"
    async with Muskox(f"sqlite:///{path}") as ox:
        queue = ox.queue("email")

        if mode == "takes fields":

            @queue.processor("note", attempts=3, backoff=Fixed(0))
            async def note(n: int) -> int:
                return n

        elif mode == "takes none":

            @queue.processor("note")
            async def none() -> int:
                return 1

        elif mode == "reads data":

            @queue.processor("note")
            async def reads(job: ActiveJob) -> int:
                return int(job.data["n"])

        else:
            queue.processor("note", isolated=True)(isolated.number)

        await queue.add("note", {"n": 1}, id="bad", priority=9, timeout=60)
        await queue.add("note", {"n": 1}, id="good", timeout=60)
        db = sqlite3.connect(path)
        value: Any = b"\xff\xfe{" if column == "bytes" else '{"n": 1'
        target = "data" if column == "bytes" else column
        expression = "CAST(? AS TEXT)" if column == "bytes" else "?"
        db.execute(f"UPDATE muskox_jobs SET {target} = {expression} WHERE id = 'bad'", (value,))
        db.commit()
        db.close()

        async with ox.worker(concurrency=1):
            good = await ended(queue, "good")
            state = await _state(path)

    assert good.state is JobState.COMPLETED
    # A processor that never looks at the damaged part may well succeed; the job must not be left hanging.
    assert state in {"completed", "failed"}
    if target == "data" and mode in {"takes fields", "reads data", "isolated"}:
        assert state == "failed"


async def _state(path: Path) -> str:
    """The state of the damaged job as its table has it, once it has ended."""
    states = ["waiting", "delayed", "blocked", "active", "completed", "failed", "cancelled"]
    async with asyncio.timeout(10):
        while True:
            db = sqlite3.connect(path)
            [(number,)] = db.execute("SELECT state FROM muskox_jobs WHERE id = 'bad'").fetchall()
            db.close()
            if number > 3:
                return states[number]
            await asyncio.sleep(0.01)


async def test_a_job_without_data_suits_a_processor_whose_parameters_have_defaults(ox: Muskox) -> None:
    queue = ox.queue("email")

    @queue.processor("greet")
    async def greet(name: str = "you") -> str:
        return f"hello {name}"

    async with ox.worker():
        job = await queue.add("greet")
        found = await reached(queue, job, lambda now: now.settled)

    assert found.result == "hello you"
