"""Isolated processors run in child processes: real ones, that are really killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest

from muskox.core.errors import DeclarationError, LeaseLost, StoreUnavailable
from muskox.core.failure import FailureKind
from muskox.core.job import Job, JobState, Lease
from muskox.core.life import Died, Outcome, Raised, Returned
from muskox.runtime.children import Children, ChildTask, Told, place
from muskox.runtime.world import RealWorld
from tests.processes import gone
from tests.runtime.helpers import until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="isolated processors need a Unix")
LIMIT = 30.0
_numbers = itertools.count(1)


class Room:
    """A folder with a module of processors, and children to run them in."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.module = f"processors_{os.getpid()}_{next(_numbers)}"
        self.children = Children(RealWorld(), 2, **options)
        self.told: list[Told] = []

    def write(self, source: str) -> None:
        (self.folder / f"{self.module}.py").write_text("import os, signal, sys, time\n" + dedent(source))

    def task(self, name: str, data: dict[str, Any] | None = None, **options: Any) -> ChildTask:
        job = Job(
            id="j1",
            queue="files",
            name="resize",
            state=JobState.ACTIVE,
            priority=0,
            data_text=msgspec.json.encode(data or {}).decode(),
            attempt=2,
            stalls=1,
            lease=Lease("files", "j1", 77),
        )
        return ChildTask(self.module, name, job, sys_path=(str(self.folder), *sys.path), attempts=5, **options)

    async def tell(self, told: Told) -> None:
        self.told.append(told)

    async def run(self, name: str, data: dict[str, Any] | None = None, **options: Any) -> Outcome:
        async with asyncio.timeout(LIMIT):
            return await self.children.run(self.task(name, data, **options), self.tell)

    async def read(self, name: str) -> str:
        """What a processor has written into a file of this room, once it is there as a whole line."""
        path = self.folder / name
        await until(lambda: path.exists() and path.read_text().endswith("\n"))
        return path.read_text().strip()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    yield room
    await room.children.close()
    assert room.children.pids == []


async def test_a_child_returns_what_the_processor_returned(room: Room) -> None:
    room.write(
        """
        def add(a: int, b: int = 2) -> dict:
            return {"sum": a + b, "pid": os.getpid()}
        async def slowly(a: int) -> int:
            return a * 2
        def nothing() -> None: ...
        """
    )

    outcome = await room.run("add", {"a": 5})

    assert isinstance(outcome, Returned)
    assert msgspec.json.decode(outcome.result or "") == {"sum": 7, "pid": room.children.pids[0]}
    assert await room.run("slowly", {"a": 4}) == Returned("8")
    assert await room.run("nothing") == Returned(None)
    assert len(room.children.pids) == 1


async def test_a_run_knows_its_job_and_tells_of_it(room: Room) -> None:
    room.write(
        """
        def work(job, n: int):
            job.progress(25)
            job.log("one line")
            job.update({"n": n + 1})
            facts = [job.id, job.queue, job.name, job.data, job.attempt, job.attempts]
            return [*facts, job.stalls, job.fence, job.cancelled]
        async def aside(job):
            await job.progress({"half": True})
            await job.log("two")
        """
    )

    outcome = await room.run("work", {"n": 1})

    assert outcome == Returned('["j1","files","resize",{"n":1},2,5,1,77,false]')
    assert room.told == [Told(progress="25"), Told(lines=("one line",)), Told(data='{"n":2}')]
    room.told.clear()
    assert await room.run("aside") == Returned(None)
    assert room.told == [Told(progress='{"half":true}'), Told(lines=("two",))]


async def test_what_the_worker_answers_is_raised_in_the_run(room: Room) -> None:
    room.write(
        """
        from muskox.core.errors import LeaseLost, StoreUnavailable
        def work(job):
            said = []
            for n in range(2):
                try:
                    job.progress(n)
                except (LeaseLost, StoreUnavailable) as error:
                    said.append([type(error).__name__, job.cancelled])
            return said
        """
    )
    answers = iter([StoreUnavailable("no answer"), LeaseLost("lost")])

    async def refuse(told: Told) -> None:
        raise next(answers)

    outcome = await asyncio.wait_for(room.children.run(room.task("work"), refuse), LIMIT)

    assert outcome == Returned('[["StoreUnavailable",false],["LeaseLost",true]]')


async def test_data_that_does_not_fit_is_refused_for_good(room: Room) -> None:
    room.write("def work(n: int): ...")

    outcome = await room.run("work", {"n": "seven"})

    assert isinstance(outcome, Raised)
    assert (outcome.failure.kind, outcome.failure.final) == (FailureKind.REFUSED, True)
    assert "n" in outcome.failure.message


async def test_a_result_that_json_cannot_hold_is_no_failure_of_the_job(room: Room) -> None:
    room.write(
        """
        def nan(): return float("nan")
        def large(): return "x" * 1000
        def foreign(): return object()
        """
    )

    for name in ("nan", "large", "foreign"):
        outcome = await room.run(name, data_limit=500)
        assert isinstance(outcome, Returned), outcome
        assert outcome.result is None
        assert outcome.unkept is not None
        assert outcome.unkept.kind is FailureKind.RESULT


async def test_final_errors_come_from_the_declaration_in_the_child(room: Room) -> None:
    room.write(
        """
        class Declared:
            final_on = (ValueError,)
        class Bound:
            declared = Declared()
            def __init__(self, function): self.function = function
        @Bound
        def work(kind: str):
            raise {"value": ValueError, "key": KeyError}[kind]("no")
        """
    )

    outcomes = [await room.run("work", {"kind": kind}) for kind in ("value", "key")]

    assert [isinstance(outcome, Raised) and outcome.failure.final for outcome in outcomes] == [True, False]


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError", "CancelledError"])
async def test_fault_h06_whatever_is_raised_is_a_failure_and_the_child_lives_on(room: Room, name: str) -> None:
    room.write(
        """
        import asyncio, builtins
        def work(name: str): raise (getattr(builtins, name, None) or asyncio.CancelledError)("told")
        async def work_too(name: str): work(name)
        """
    )

    outcomes = [await room.run(each, {"name": name}) for each in ("work", "work_too")]

    for outcome in outcomes:
        assert isinstance(outcome, Raised)
        assert outcome.failure.kind is FailureKind.ERROR
        assert outcome.failure.type.endswith(name)
    assert len(room.children.pids) == 1


@pytest.mark.parametrize("code", [0, 3])
async def test_fault_h06_an_exit_without_an_answer_is_no_success(room: Room, code: int) -> None:
    room.write("def leave(code: int): os._exit(code)\ndef work(): return 1")

    outcome = await room.run("leave", {"code": code})

    assert isinstance(outcome, Died)
    assert outcome.failure.kind is FailureKind.STALLED
    assert outcome.failure.type == "ChildDied"
    assert f"ended with exit code {code} before it answered" in outcome.failure.message
    assert await room.run("work") == Returned("1")


async def test_fault_h07_deep_recursion_is_a_failure_and_a_crash_is_a_death(room: Room) -> None:
    room.write(
        """
        def deep(): return deep()
        def crash(): os.kill(os.getpid(), signal.SIGSEGV)
        """
    )

    recursion, crash = await room.run("deep"), await room.run("crash")

    assert isinstance(recursion, Raised)
    assert recursion.failure.type == "RecursionError"
    assert isinstance(crash, Died)
    assert crash.failure.message.endswith("was killed by signal 11 (SIGSEGV)")


async def test_fault_h08_errors_that_cannot_be_shown_are_still_failures(room: Room) -> None:
    room.write(
        """
        class Mute(Exception):
            def __init__(self, a, b): self.lock = open(os.devnull)
            def __str__(self): raise ValueError("never")
        def mute(): raise Mute(1, 2)
        def long(): raise ValueError("x" * 5_000_000)
        def odd(): raise ValueError("\\x00 \\ud800")
        def ring():
            first, second = ValueError("first"), ValueError("second")
            first.__cause__, second.__cause__ = second, first
            raise first
        """
    )

    failures = []
    for name in ("mute", "long", "odd", "ring"):
        outcome = await room.run(name)
        assert isinstance(outcome, Raised)
        failures.append(outcome.failure)

    assert [failure.type.split(".")[-1] for failure in failures] == ["Mute", "ValueError", "ValueError", "ValueError"]
    assert all(len(failure.message) < 5_000 for failure in failures)


def test_what_a_run_prints_is_no_message_and_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        dedent(
            """
            import asyncio, sys
            from muskox.core.job import Job, JobState
            from muskox.runtime.children import Children, ChildTask, place
            from muskox.runtime.world import RealWorld

            print("imported as", __name__)

            def work():
                print("printed", sys.stdin.read())
                sys.stderr.write("complained")
                return __name__

            async def main():
                children = Children(RealWorld(), 1)
                module, name, path = place(work)
                job = Job("j1", "q", "n", JobState.ACTIVE, 0, "{}")
                print(await children.run(ChildTask(module, name, job, main_path=path, sys_path=tuple(sys.path)), None))
                await children.close()

            if __name__ == "__main__":
                asyncio.run(main())
            """
        )
    )

    done = subprocess.run(
        [sys.executable, str(tmp_path / "loud.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        input="typed",
    )

    assert done.returncode == 0, done.stderr
    assert "imported as __main__" in done.stdout
    assert "imported as __muskox_main__" in done.stdout
    assert "printed \n" in done.stdout
    assert "result='\"__muskox_main__\"'" in done.stdout
    assert done.stderr == "complained"


async def test_a_processor_that_the_child_cannot_find_fails_with_the_reason(room: Room) -> None:
    room.write("raise RuntimeError('broken module')")
    broken = await room.run("work")
    room.write("")
    missing = await room.run("work")

    assert isinstance(broken, Raised)
    assert broken.failure.message == "broken module"
    assert isinstance(missing, Raised)
    assert "has no work" in missing.failure.message


def module_level() -> None: ...


def test_only_functions_at_module_level_can_be_isolated() -> None:
    def inner() -> None: ...

    assert place(module_level) == (__name__, "module_level", None)
    for function in (inner, lambda: None, Room.task):
        with pytest.raises(DeclarationError, match="module level"):
            place(function)


async def test_children_are_reused_and_replaced_after_their_runs(tmp_path: Path) -> None:
    room = Room(tmp_path, most_runs=2)
    room.write("def work(): return os.getpid()")

    pids = [outcome.result for _ in range(4) if isinstance(outcome := await room.run("work"), Returned)]

    assert pids[0] == pids[1] != pids[2] == pids[3]
    await until(lambda: gone(int(pids[0] or 0)))
    await room.children.close()


async def test_a_child_that_has_grown_is_replaced(tmp_path: Path) -> None:
    room = Room(tmp_path, growth=30_000_000)
    room.write("kept = []\ndef work(size: int):\n    kept.append(b'x' * size)\n    return os.getpid()")

    pids = [
        outcome.result
        for size in (1, 1, 60_000_000, 1)
        if isinstance(outcome := await room.run("work", {"size": size}), Returned)
    ]

    assert pids[0] == pids[1] == pids[2] != pids[3]
    await room.children.close()


async def test_no_more_children_run_at_once_than_allowed(room: Room) -> None:
    room.write("def work(n: int): return n")

    outcomes = await asyncio.gather(*(room.run("work", {"n": n}) for n in range(20)))

    assert outcomes == [Returned(str(n)) for n in range(20)]
    assert len(room.children.pids) == 2


async def test_a_child_that_dies_idle_costs_no_job_anything(room: Room) -> None:
    room.write("def work(): return os.getpid()")
    await room.run("work")
    [pid] = room.children.pids

    os.kill(pid, signal.SIGKILL)
    outcome = await room.run("work")

    assert isinstance(outcome, Returned)
    assert outcome.result != str(pid)


async def test_fault_w10_a_killed_child_takes_only_its_own_job_with_it(room: Room) -> None:
    room.write(
        """
        def wait(name: str, until: str):
            with open(name, "w") as file: print(os.getpid(), file=file)
            while not os.path.exists(until): time.sleep(0.002)
            return "done"
        """
    )
    paths = {name: str(room.folder / name) for name in ("one", "two", "go")}
    first = asyncio.create_task(room.run("wait", {"name": paths["one"], "until": paths["go"]}))
    second = asyncio.create_task(room.run("wait", {"name": paths["two"], "until": paths["go"]}))
    victim = int(await room.read("one"))
    await room.read("two")

    os.kill(victim, signal.SIGKILL)
    died = await first
    (room.folder / "go").touch()

    assert isinstance(died, Died)
    assert died.failure.message == f"child process {victim} was killed by signal 9 (SIGKILL)"
    assert await second == Returned('"done"')
    assert await room.run("wait", {"name": paths["one"], "until": paths["go"]}) == Returned('"done"')


@pytest.mark.parametrize("manner", ["loop", "ignore"])
async def test_fault_h04_a_run_that_will_not_end_is_killed(tmp_path: Path, manner: str) -> None:
    room = Room(tmp_path, grace=0.2)
    room.write(
        """
        def hang(name: str, manner: str):
            if manner == "ignore":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with open(name, "w") as file: print(os.getpid(), file=file)
            while True: pass
        def work(): return 1
        """
    )
    run = asyncio.create_task(room.run("hang", {"name": str(tmp_path / "pid"), "manner": manner}))
    pid = int(await room.read("pid"))

    run.cancel()
    await asyncio.wait([run], timeout=LIMIT)

    assert run.cancelled()
    assert gone(pid)
    assert room.children.pids == []
    assert await room.run("work") == Returned("1")
    await room.children.close()


async def test_fault_h04_a_second_cancel_does_not_leave_the_child_behind(tmp_path: Path) -> None:
    room = Room(tmp_path, grace=0.2)
    room.write(
        """
        def hang(name: str):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with open(name, "w") as file: print(os.getpid(), file=file)
            while True: time.sleep(60)
        """
    )
    run = asyncio.create_task(room.run("hang", {"name": str(tmp_path / "pid")}))
    pid = int(await room.read("pid"))

    for _ in range(3):
        run.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([run], timeout=LIMIT)

    assert run.cancelled()
    assert gone(pid)
    await room.children.close()


async def test_a_timeout_ends_the_child(room: Room) -> None:
    room.write("def hang():\n    while True: pass\ndef work(): return 1")
    await room.run("work")
    [pid] = room.children.pids

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await room.children.run(room.task("hang"), room.tell)

    assert gone(pid)


@pytest.mark.parametrize("end", ["cancel", "close", "death", "recycle"])
async def test_fault_h11_what_a_run_leaves_behind_dies_with_its_child(tmp_path: Path, end: str) -> None:
    room = Room(tmp_path, most_runs=1 if end == "recycle" else 100)
    room.write(
        """
        def daemonise(name: str, end: str):
            if os.fork() == 0:
                if os.fork() == 0:
                    with open(name + ".new", "w") as file: print(os.getpid(), file=file)
                    os.rename(name + ".new", name)
                    while True: time.sleep(60)
                os._exit(0)
            os.wait()
            while not os.path.exists(name): time.sleep(0.002)
            if end == "death": os._exit(1)
            while end == "cancel": time.sleep(60)
        """
    )
    run = asyncio.create_task(room.run("daemonise", {"name": str(tmp_path / "pid"), "end": end}))
    orphan = int(await room.read("pid"))

    if end == "cancel":
        run.cancel()
        await asyncio.wait([run])
    else:
        assert isinstance(await run, Died if end == "death" else Returned)
    if end == "close":
        await room.children.close()

    await until(lambda: gone(orphan))
    await room.children.close()


async def test_fault_h11_a_forked_copy_never_answers_for_the_job(room: Room) -> None:
    room.write("def work():\n    return 'copy' if os.fork() == 0 else 'original'")

    outcomes = [await room.run("work") for _ in range(3)]

    assert outcomes == [Returned('"original"')] * 3


PARENT = """
    import asyncio, sys
    from muskox.core.job import Job, JobState
    from muskox.runtime.children import Children, ChildTask
    from muskox.runtime.world import RealWorld

    async def main():
        children = Children(RealWorld(), 4)
        job = Job("j1", "q", "n", JobState.ACTIVE, 0, '{"folder": "%s"}' % sys.argv[1])
        task = ChildTask("hard", "work", job, sys_path=(sys.argv[1], *sys.path))
        await asyncio.gather(*(children.run(task, None) for _ in range(4)))

    asyncio.run(main())
"""

HARD = """
    import os, subprocess, sys
    def work(folder: str):
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(f"{folder}/{os.getpid()}.pid", "w") as file: print(os.getpid(), helper.pid, file=file)
        # Holds the interpreter for minutes: no thread of this process gets a turn.
        return len(str(7 ** (7 ** 10)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only a thread of the child can notice, see parent.py")
async def test_fault_w09_children_and_their_helpers_die_with_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "hard.py").write_text(dedent(HARD))
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", dedent(PARENT), str(tmp_path))

    def pids() -> list[int]:
        return [int(pid) for path in tmp_path.glob("*.pid") for pid in path.read_text().split()]

    await until(lambda: len(pids()) == 8)

    parent.kill()
    await parent.wait()

    await until(lambda: all(gone(pid) for pid in pids()), limit=2.0)


async def test_fault_w09_an_idle_child_dies_with_its_parent_too(tmp_path: Path) -> None:
    (tmp_path / "soft.py").write_text(
        "import os\ndef work(folder: str):\n    with open(folder + '/pid', 'w') as file: file.write(str(os.getpid()))\n"
    )
    program = dedent(PARENT).replace('"hard"', '"soft"').replace("range(4)", "range(1)")
    program = program.replace(
        "range(1)))", "range(1)))\n    print('idle', flush=True)\n    await asyncio.Event().wait()"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await asyncio.wait_for(parent.stdout.readline(), LIMIT) == b"idle\n"

    parent.kill()
    await parent.wait()

    await until(lambda: gone(int((tmp_path / "pid").read_text())), limit=2.0)
