"""The runs that a worker holds, from the claim to the written settlement.

Keeps count of what is held and hands each run on: arrived → slots → decided →
settler → told to listeners. It waits for nothing and writes nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from muskox.core import life
from muskox.core.job import Job, Lease, Options
from muskox.core.life import Interrupted, Outcome, Returned, Rules, Settlement, decide, expired
from muskox.core.seam import World
from muskox.core.tracing import untraced
from muskox.runtime.batches import Batch, Gathering, batch_of
from muskox.runtime.deadlines import Deadlines
from muskox.runtime.figures import Figures
from muskox.runtime.listeners import Hearing
from muskox.runtime.registry import Declaration, Registry
from muskox.runtime.run import Run, Stop, stopped
from muskox.runtime.settler import Settler
from muskox.runtime.slots import Slots
from muskox.runtime.tell import Teller
from muskox.store.protocol import Recovered

__all__ = ["Runs"]

log = logging.getLogger("muskox.worker")

MOST_PLANS = 1000

_Key = tuple[str, str, Options, int | None]


class Runs:
    """All runs of one worker. The parts that it hands runs to are put in by `join` before the first arrives."""

    slots: Slots
    settler: Settler
    deadlines: Deadlines
    teller: Teller
    hearing: Hearing

    def __init__(self, world: World, registry: Registry, *, lease: float, some_ended: Callable[[int], None]) -> None:
        self._world = world
        self._registry = registry
        self._lease = lease
        self._some_ended = some_ended
        self.figures = Figures(registry.find)
        self._ended = 0
        self._loop = asyncio.get_running_loop()
        self._held: dict[int, Run] = {}
        self._gatherings: dict[Declaration, Gathering] = {}
        self._batches: set[Batch] = set()
        self._plans: dict[_Key, tuple[Declaration, Rules]] = {}
        self.closed = False

    def join(self, slots: Slots, settler: Settler, deadlines: Deadlines, teller: Teller, hearing: Hearing) -> None:
        """Put in the parts that runs are handed to."""
        self.slots, self.settler, self.deadlines, self.teller, self.hearing = slots, settler, deadlines, teller, hearing

    def gather(self, gatherings: Sequence[Gathering]) -> None:
        """Have the jobs of these processors gathered; those of others that take batches go on as they arrive."""
        self._gatherings = {gathering.declaration: gathering for gathering in gatherings}

    def held(self) -> list[Run]:
        """Every run whose lease must be kept alive; may be called from any thread."""
        return list(self._held.values())

    def load(self) -> int:
        """How many runs are under way or wait for a slot."""
        return self.slots.running + len(self.slots.waiting)

    def arrived(self, jobs: list[Job], since: float) -> None:
        """Take claimed jobs and let them run, or give them back at once when the worker stops."""
        runs = [run for job in jobs if (run := self._take(job, since)) is not None]
        for run in runs:
            self._held[run.lease.token] = run
        self.figures.arrived(runs)
        if self._registry.heard():
            self.hearing.hear_active(jobs)
        late = [run for run in runs if run.rules.expires_in is not None and self._expire(run)]
        if late:
            runs = [run for run in runs if run not in late]
        if self.closed:
            self.give_back(runs)
        elif self._registry.takes_batches:
            self._sort(runs, since)
        else:
            self.slots.give(runs)

    def _expire(self, run: Run) -> bool:
        """End a job that nobody has begun with in time; returns whether that was so."""
        outcome = expired(run.job, run.rules)
        if outcome is not None:
            self.ended(run, outcome)
        return outcome is not None

    def _sort(self, runs: Sequence[Run], since: float) -> None:
        """Give runs to the slots, or to where they are gathered."""
        self.slots.give([run for run in runs if not run.declaration.batch])
        of_batches: dict[Declaration, list[Run]] = {}
        for run in runs:
            if run.declaration.batch:
                of_batches.setdefault(run.declaration, []).append(run)
        for declaration, its in of_batches.items():
            if declaration in self._gatherings:
                self._gatherings[declaration].arrived(its)
            else:
                self.begin([batch_of(its, since)])

    def begin(self, runs: list[Run]) -> None:
        """Give batches, and single runs, to the slots."""
        self._batches.update(run for run in runs if isinstance(run, Batch))
        self.slots.give(runs)

    def _take(self, job: Job, since: float) -> Run | None:
        key = job.queue, job.name, job.options, job.attempts
        plan = self._plans.get(key) or self._plan(key)
        if plan is None or job.lease is None:
            log.error("job %s named %s was claimed but has no processor here", job.id, job.name)
            return None
        return Run(job, job.lease, *plan, since, since + self._lease)

    def _plan(self, key: _Key) -> tuple[Declaration, Rules] | None:
        """Who runs jobs of this kind, and by which rules; worked out once for all that are alike."""
        queue, name, options, attempts = key
        if options.trace is not None:
            # Jobs that are followed have all their own, and would each need a plan.
            plain = queue, name, untraced(options), attempts
            return self._plans.get(plain) or self._plan(plain)
        declaration = self._registry.find(queue, name)
        if declaration is None:
            return None
        options = options.over(declaration.options)
        if attempts is not None:
            options = msgspec.structs.replace(options, attempts=attempts)
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        plan = declaration, Rules.of(options, self._registry.retention(queue), declaration.backoff)
        self._plans[key] = plan
        return plan

    def give_back(self, runs: Sequence[Run]) -> None:
        """Release runs that were not begun, batches too."""
        for run in runs:
            self.ended(run, Interrupted())

    def give_back_waiting(self, before: float) -> int:
        """Release what has waited for a slot since before a moment; returns how many."""
        runs = self.slots.take_back(before)
        self.give_back(runs)
        return len(runs)

    def ended(self, run: Run, outcome: Outcome) -> None:
        """Decide what becomes of a job and have it written; of a batch, each of its jobs."""
        if run.declaration.batch and isinstance(run, Batch):
            run.leave()
            self._batches.discard(run)
            for one, its in run.ended(outcome):
                self.ended(one, its)
            return
        run.over = True
        if run.stop is Stop.LOST and type(outcome) is Interrupted:
            self._forget(run.lease)
        else:
            self.settler.put(self._decide(run, outcome))
        self._ended += 1
        if self._ended == 1:
            # Once for all runs that end in this round of the loop.
            self._loop.call_soon(self._tell_ended)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, 0
        self._some_ended(ended)

    def _decide(self, run: Run, outcome: Outcome) -> Settlement:
        try:
            chance = 0.0 if type(outcome) is Returned else self._world.chance()
            return decide(run.job, run.rules, outcome, chance=chance)
        except BaseException:
            log.exception("the backoff of %s failed; the usual one is used", run.declaration.where)
            usual = Rules(run.rules.attempts, max_stalls=run.rules.max_stalls, keep_failed=run.rules.keep_failed)
            return decide(run.job, usual, outcome, chance=self._world.chance())

    def settled(self, batch: Sequence[Settlement], lost: set[int]) -> None:
        """Let go of runs whose settlement is written, and tell listeners."""
        heard = bool(self._registry.heard())
        # Jobs of one processor mostly come together, and are counted together.
        of: Declaration | None = None
        number = 0
        for settlement in batch:
            lease = settlement.lease
            run = self._held.pop(lease.token, None)
            if lease.token in lost:
                log.warning(
                    "job %s was no longer ours when attempt %d ended: nothing was written", lease.job_id, lease.attempt
                )
                continue
            if type(settlement) is not life.Complete:
                self._count_other(settlement, run)
            elif run is not None:
                if run.declaration is not of:
                    self.figures.completed(of, number)
                    of, number = run.declaration, 0
                number += 1
            if heard:
                self.hearing.hear_settled(settlement, run.job.stalls if run is not None else 0)
        self.figures.completed(of, number)
        self.teller.forget(one.lease for one in batch)

    def _count_other(self, settlement: Settlement, run: Run | None) -> None:
        """Count what did not complete its job, and log what failed for good."""
        if run is not None:
            self.figures.ended(run.declaration, settlement)
        if type(settlement) is life.Fail:
            lease = settlement.lease
            log.info(
                "job %s named %s in queue %s failed at attempt %d: %s",
                lease.job_id, lease.name, lease.queue, lease.attempt, settlement.failure.type,
            )  # fmt: skip

    def _forget(self, lease: Lease) -> None:
        self._held.pop(lease.token, None)
        self.teller.forget((lease,))

    def lost(self, leases: Sequence[Lease]) -> None:
        """Stop runs whose lease is worth nothing any more: cancelled, removed, or given to another worker."""
        for lease in leases:
            run = self._held.get(lease.token)
            # One that is over is being settled, and its lease ends with that.
            if run is not None and run.stop is None and not run.over:
                log.warning("job %s is no longer ours: its run is told to stop", lease.job_id)
                run.end(Stop.LOST)
                self.deadlines.insist(run)
        for batch in [one for one in self._batches if all(run.stop is not None for run in one.runs)]:
            self._stop(batch, Stop.LOST)

    def interrupt_all(self) -> None:
        """Tell every run under way to stop, so that its job can be given back."""
        for run in self.held():
            self._stop(run, Stop.SHUTDOWN)
        for batch in list(self._batches):
            self._stop(batch, Stop.SHUTDOWN)

    def _stop(self, run: Run, stop: Stop) -> None:
        if run.halt is not None:
            run.end(stop)
            self.deadlines.insist(run)

    def abandon(self, run: Run) -> None:
        """Give up on a run that does not stop, whatever it does later."""
        if self.slots.abandon(run):
            log.error("job %s does not stop: processor %s is left to itself", run.job.id, run.declaration.where)
            self.ended(run, stopped(run))

    def recovered(self, found: Sequence[Recovered]) -> None:
        """Tell of jobs that were taken back."""
        self.figures.recovered(found)
        # One line for all: a worker that was killed leaves as many as it had slots.
        first = found[0].job
        log.warning("%d jobs had stalled, among them %s named %s", len(found), first.id, first.name)
        for one in found:
            log.debug("job %s had stalled with worker %s; it is %s now", one.job.id, one.worker, one.job.state)
            self.hearing.hear_recovered(one.job)
