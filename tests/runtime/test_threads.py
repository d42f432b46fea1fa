"""Blocking processors run in threads; one that does not end costs no capacity."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from textwrap import dedent

import pytest

from muskox.runtime.threads import Threads
from muskox.runtime.world import RealWorld

LIMIT = 20.0


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    pool = Threads(RealWorld(), 2)
    yield pool
    pool.close()


class Hung:
    """A function that begins and then waits to be let go, in a system call that nobody can interrupt."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.released.wait(LIMIT)
        return "late"

    async def started(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, LIMIT)


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not fact():  # noqa: ASYNC110 - the end of a thread sets no event
            await asyncio.sleep(0.001)


async def test_a_call_gives_what_the_function_returns(threads: Threads) -> None:
    assert await threads.call(divmod, 17, 5) == (3, 2)
    assert await threads.call(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]


async def test_a_call_runs_in_another_thread_with_the_callers_context(threads: Threads) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("caller")

    def look() -> tuple[str, bool]:
        seen = variable.get()
        variable.set("thread")
        return seen, threading.current_thread() is threading.main_thread()

    assert await threads.call(look) == ("caller", False)
    assert variable.get() == "caller"


async def test_no_more_calls_run_at_once_than_the_pool_has_threads(threads: Threads) -> None:
    lock = threading.Lock()
    both = threading.Barrier(2)
    running = most = 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(LIMIT)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.call(work) for _ in range(20)))

    assert most == 2


@pytest.mark.parametrize(
    "error",
    [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError],
    ids=lambda e: e.__name__,
)
async def test_fault_h06_whatever_is_raised_comes_back_and_the_thread_lives_on(error: type[BaseException]) -> None:
    pool = Threads(RealWorld(), 1)

    def fail() -> None:
        raise error("told")

    name_before = await pool.call(lambda: threading.current_thread().ident)
    with pytest.raises(error, match="told"):
        await pool.call(fail)

    assert await pool.call(lambda: threading.current_thread().ident) == name_before
    pool.close()


async def test_a_function_that_raises_cancelled_does_not_cancel_its_caller(threads: Threads) -> None:
    def fail() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="raised CancelledError"):
        await threads.call(fail)


async def test_fault_h07_deep_recursion_is_an_ordinary_error(threads: Threads) -> None:
    def deep(n: int) -> int:
        return deep(n + 1) + 1

    with pytest.raises(RecursionError):
        await threads.call(deep, 0)

    assert await threads.call(int, "7") == 7


async def test_fault_h03_a_thread_past_its_timeout_is_counted_and_replaced(threads: Threads) -> None:
    hung = [Hung(), Hung()]
    calls = [asyncio.create_task(threads.call(each)) for each in hung]
    for each in hung:
        await each.started()

    for call in calls:
        call.cancel()
    await asyncio.wait(calls)

    assert all(call.cancelled() for call in calls)
    assert threads.leaked == 2
    assert threads.leaked_for > 0
    meeting = threading.Barrier(2)
    await asyncio.wait_for(asyncio.gather(*(threads.call(meeting.wait, LIMIT) for _ in range(2))), LIMIT)
    for each in hung:
        each.released.set()
    await until(lambda: threads.leaked == 0)
    assert threads.leaked_for == 0


async def test_fault_h03_a_waiting_call_gets_the_place_of_one_that_was_given_up() -> None:
    pool, hung = Threads(RealWorld(), 1), Hung()
    first = asyncio.create_task(pool.call(hung))
    await hung.started()
    second = asyncio.create_task(pool.call(int, "7"))
    await asyncio.sleep(0)

    first.cancel()

    assert await asyncio.wait_for(second, LIMIT) == 7
    hung.released.set()
    pool.close()


async def test_a_call_that_is_cancelled_before_it_begins_never_runs() -> None:
    pool, hung, ran = Threads(RealWorld(), 1), Hung(), threading.Event()
    first = asyncio.create_task(pool.call(hung))
    await hung.started()
    second = asyncio.create_task(pool.call(ran.set))
    await asyncio.sleep(0)

    second.cancel()
    await asyncio.wait([second])
    hung.released.set()

    assert await first == "late"
    assert await pool.call(int, "7") == 7
    assert not ran.is_set()
    assert pool.leaked == 0
    pool.close()


async def test_a_processor_may_run_a_loop_of_its_own_in_its_thread(threads: Threads) -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return "inner"

    assert await threads.call(lambda: asyncio.run(inner())) == "inner"


async def test_closing_cancels_what_has_not_begun_and_ends_idle_threads() -> None:
    pool, hung = Threads(RealWorld(), 1), Hung()
    first = asyncio.create_task(pool.call(hung))
    await hung.started()
    second = asyncio.create_task(pool.call(int, "7"))
    await asyncio.sleep(0)

    pool.close()
    hung.released.set()

    await asyncio.wait([first, second])
    assert first.result() == "late"
    assert second.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        await pool.call(int, "7")


def test_fault_h03_a_hung_thread_does_not_hold_up_the_exit() -> None:
    program = """
        import asyncio, threading
        from muskox.runtime.threads import Threads
        from muskox.runtime.world import RealWorld

        async def main():
            begun = threading.Event()
            def hang():
                begun.set()
                threading.Event().wait()
            pool = Threads(RealWorld(), 1)
            call = asyncio.create_task(pool.call(hang))
            while not begun.is_set():
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            print("leaked", pool.leaked)
            pool.close()

        asyncio.run(main())
    """

    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (0, "leaked 1\n"), done.stderr
