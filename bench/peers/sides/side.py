"""What the programs of all sides share: the measured verbs, over the two things that each side brings.

A side brings `producer(url)`, a context manager that gives two functions, one that adds the job of an index
and one that adds many, and `work(url, runs, slots)`, which runs jobs, calls `runs.note(index)` in each, and
need not return. Both may be asynchronous, then together.

A program is called with a verb and its options as JSON; its last line is the answer as JSON. It uses the
standard library only, as it runs in the environment of each system.
"""

import asyncio
import inspect
import itertools
import json
import os
import random
import signal
import sys
import threading
import time

PATIENCE = 120.0
SETTLE = 0.3
"""Seconds after the last job during which a second run of one would be seen."""


class Runs:
    """Counts the runs of each job, and notes when each began. Jobs are told by their index, from 0."""

    def __init__(self, jobs, loud, deadly=False):
        self.seen = [0] * jobs
        self.begun = [0] * jobs
        self.full = threading.Event()
        self._count = itertools.count(1)
        self._jobs = jobs
        self.loud = loud
        self._deadly = deadly

    def note(self, index):
        """Note a run; the first line of each side's job."""
        if self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        self.begun[index] = time.perf_counter_ns()
        self.seen[index] += 1
        # `next` is one step also for threads, where `+= 1` is not.
        count = next(self._count)
        if count == 1 and self.loud:
            _say({"first": self.begun[index]})
        if count == self._jobs:
            self.full.set()

    def check(self):
        """Raise unless each job ran exactly once."""
        wrong = [index for index, count in enumerate(self.seen) if count != 1]
        if wrong:
            raise RuntimeError(f"{len(wrong)} of {self._jobs} jobs did not run exactly once, the first is {wrong[0]}")


RUNS = None
"""The runs of this process, for systems that find a job's function by its name and not by the object."""


def main(producer, work, prepare=None):
    """Carry out the verb of the command line."""
    verb, options = sys.argv[1], json.loads(sys.argv[2])
    # A system on an event loop gets uvloop where its environment has it.
    run = _loop_runner() if inspect.iscoroutinefunction(work) else None
    if verb in {"drain", "idle", "die"}:
        _work(work, run, verb, **options)
    elif run:
        _say(run(_produce_async(producer, prepare, verb, **options)))
    else:
        _say(_produce(producer, prepare, verb, **options))


def _work(work, run, verb, *, url, jobs, slots, patience=PATIENCE):
    global RUNS  # noqa: PLW0603 - see there
    RUNS = runs = Runs(jobs, loud=verb == "idle", deadly=verb == "die")
    # Whatever a worker does at the end of `work` (nothing, a slow good-bye), the figures are told and the process ends.
    threading.Thread(target=_tell, args=(runs, patience), daemon=True).start()
    if run:
        run(work(url, runs, slots))
    else:
        work(url, runs, slots)
    threading.Event().wait(patience)


def _tell(runs, patience):
    code = 1
    try:
        if not runs.full.wait(patience):
            raise RuntimeError(f"{sum(runs.seen)} of {len(runs.seen)} jobs ran in {patience:g} s")
        time.sleep(SETTLE)
        runs.check()
        # From the first job to the last: how long the start takes is a figure of its own.
        seconds = (max(runs.begun) - min(runs.begun)) / 1e9
        _say({"rate": (len(runs.seen) - 1) / seconds, "seconds": seconds, "begun": runs.begun if runs.loud else None})
        code = 0
    except Exception as error:  # noqa: BLE001 - it is told, and the process ends
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _produce(producer, prepare, verb, **options):
    if prepare:
        prepare(options["url"])
    with producer(options.pop("url")) as (add, add_many):
        if verb == "produce":
            before, after = [], []
            for index, pause in _pauses(**options):
                time.sleep(pause)
                before.append(time.perf_counter_ns())
                add(index)
                after.append(time.perf_counter_ns())
            return {"before": before, "after": after}
        begun = time.perf_counter()
        for part in _parts(verb, **options):
            if verb == "add":
                add(part)
            else:
                add_many(part)
        return _rate(options, begun)


async def _produce_async(producer, prepare, verb, **options):
    if prepare:
        await prepare(options["url"])
    async with producer(options.pop("url")) as (add, add_many):
        if verb == "produce":
            before, after = [], []
            for index, pause in _pauses(**options):
                await asyncio.sleep(pause)
                before.append(time.perf_counter_ns())
                await add(index)
                after.append(time.perf_counter_ns())
            return {"before": before, "after": after}
        begun = time.perf_counter()
        for part in _parts(verb, **options):
            await (add(part) if verb == "add" else add_many(part))
        return _rate(options, begun)


def _pauses(first, jobs):
    dice = random.Random(7)  # the same pauses for all sides
    return [(first + number, dice.uniform(0.02, 0.1)) for number in range(jobs)]


def _parts(verb, jobs, batch=1000):
    if verb == "add":
        return range(jobs)
    return [range(first, min(first + batch, jobs)) for first in range(0, jobs, batch)]


def _rate(options, begun):
    seconds = time.perf_counter() - begun
    return {"rate": options["jobs"] / seconds, "seconds": seconds}


def _loop_runner():
    try:
        import uvloop  # noqa: PLC0415 - only some environments have it
    except ImportError:
        return asyncio.run
    return uvloop.run


def _say(answer):
    # Not `sys.stdout`: some systems put a log in its place.
    print(json.dumps(answer), file=sys.__stdout__, flush=True)
