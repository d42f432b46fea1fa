"""Durable steps: what was done once is not done again, in whichever way the attempt ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muskox import ActiveJob, Fixed, LeaseLost, Muskox, OptionError, SyncActiveJob
from muskox.testing import run_jobs
from tests.front import steps

AGAIN = {"attempts": 3, "backoff": Fixed(0)}


async def test_fault_h16_a_step_is_done_once_and_its_result_given_again(ox, emails):
    done: list[str] = []

    async def charge(order: int, *, key: str) -> dict[str, Any]:
        done.append(key)
        return {"receipt": order}

    @emails.processor("pay", **AGAIN)
    async def pay(job: ActiveJob, order: int) -> list[Any]:
        receipt = await job.step("charge", charge, order, key=f"{job.id}/charge")
        if job.attempt < 3:
            raise ValueError("the mail server is away")
        return [receipt, await job.step("mail", lambda: None)]

    job = await emails.add("pay", {"order": 7}, id="job")
    [ended] = await run_jobs(ox)

    assert done == ["job/charge"]
    assert (ended.attempt, ended.result) == (3, [{"receipt": 7}, None])
    assert (await emails.get(job.id)).steps == {"charge": {"receipt": 7}, "mail": None}


async def test_fault_h13_children_with_ids_of_their_own_are_not_doubled_by_a_second_attempt(ox, emails):
    @emails.processor("fan-out", **AGAIN)
    async def fan_out(job: ActiveJob) -> None:
        await emails.add_many([emails.new("child", number, id=f"{job.id}/{number}") for number in range(3)])
        if job.attempt == 1:
            raise ValueError("on purpose")

    @emails.processor("child")
    async def child(job: ActiveJob) -> None: ...

    await emails.add("fan-out", id="parent")
    ended = await run_jobs(ox)

    assert sorted(job.id for job in ended) == ["parent", "parent/0", "parent/1", "parent/2"]


async def test_the_first_time_too_a_result_is_as_json_holds_it(ox, emails):
    @emails.processor("pay")
    async def pay(job: ActiveJob) -> bool:
        return await job.step("pair", lambda: (1, 2)) == [1, 2]

    await emails.add("pay")

    assert [job.result for job in await run_jobs(ox)] == [True]


async def test_a_step_that_raises_keeps_nothing_and_may_be_tried_in_the_same_run(ox, emails):
    tries: list[int] = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("away")
        return len(tries)

    @emails.processor("pay", **AGAIN)
    async def pay(job: ActiveJob) -> int:
        for _ in range(2):
            try:
                return await job.step("charge", flaky)
            except ConnectionError:
                continue
        raise ValueError("away for long")

    await emails.add("pay")
    [job] = await run_jobs(ox)

    assert (job.attempt, job.result, len(tries)) == (2, 3, 3)


@pytest.mark.parametrize("name", ["", "x" * 300, "a\nb", 5])
async def test_a_name_that_cannot_be_is_an_error(ox, emails, name):
    @emails.processor("pay")
    async def pay(job: ActiveJob) -> None:
        await job.step(name, lambda: 1)

    await emails.add("pay")
    [job] = await run_jobs(ox)

    assert "step name" in job.failure.message


async def test_a_name_used_twice_in_one_run_is_an_error_also_at_the_same_time(ox, emails):
    @emails.processor("pay")
    async def pay(job: ActiveJob) -> list[str]:
        async def work() -> int:
            await asyncio.sleep(0)
            return 1

        found = await asyncio.gather(*(job.step("charge", work) for _ in range(2)), return_exceptions=True)
        return sorted(type(one).__name__ for one in found)

    await emails.add("pay")

    assert [job.result for job in await run_jobs(ox)] == [["OptionError", "int"]]


async def test_steps_at_the_same_time_are_all_kept(ox, emails):
    @emails.processor("pay", **AGAIN)
    async def pay(job: ActiveJob) -> int:
        async def work(number: int) -> int:
            await asyncio.sleep(0)
            return number * job.attempt

        total = sum(await asyncio.gather(*(job.step(f"page-{number}", work, number) for number in range(20))))
        if job.attempt == 1:
            raise ValueError("on purpose")
        return total

    await emails.add("pay")

    assert [job.result for job in await run_jobs(ox)] == [190]


async def test_results_that_cannot_be_kept_fail_the_attempt(world):
    async with Muskox("sqlite://:memory:", world=world, data_limit=200) as ox:
        files = ox.queue("files")

        @files.processor("large")
        async def large(job: ActiveJob) -> None:
            await job.step("one", lambda: "x" * 150)
            await job.step("two", lambda: "x" * 150)

        @files.processor("strange")
        async def strange(job: ActiveJob) -> None:
            await job.step("one", object)

        for name in ("large", "strange"):
            await files.add(name, id=name)
        await run_jobs(ox)

        assert "more than the 200 allowed" in (await files.get("large")).failure.message
        assert list((await files.get("large")).steps) == ["one"]
        assert "result of step 'one'" in (await files.get("strange")).failure.message


async def test_a_run_that_lost_its_job_keeps_no_step(ox, emails):
    @emails.processor("pay")
    async def pay(job: ActiveJob) -> None:
        await emails.cancel(job.id)
        with pytest.raises(LeaseLost):
            await job.step("charge", lambda: 1)

    job = await emails.add("pay")
    await run_jobs(ox)

    assert (await emails.get(job.id)).steps == {}


async def test_a_plain_function_has_steps_in_its_thread(ox, emails):
    @emails.processor("pay", **AGAIN)
    def pay(job: SyncActiveJob) -> list[Any]:
        first = job.step("charge", lambda: job.attempt)
        if job.attempt == 1:
            raise ValueError("on purpose")
        with pytest.raises(OptionError):
            job.step("charge", lambda: 1)
        return [first, job.step("mail", str, 5)]

    await emails.add("pay")

    assert [job.result for job in await run_jobs(ox)] == [[1, "5"]]


@pytest.mark.parametrize("function", [steps.plain_pay, steps.async_pay])
async def test_an_isolated_function_has_steps_in_its_process(ox, emails, function):
    emails.processor("pay", isolated=True, **AGAIN)(function)
    await emails.add("pay")

    assert [job.result for job in await run_jobs(ox)] == [["by attempt 1", "OptionError"]]
