"""`python -m bench compare`: Muskox and the other systems on one store, interleaved, each figure in all rounds.

Who fails is left out from there on, and the reason is reported; nobody else is troubled by it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from bench.peers.environments import Unavailable, version
from bench.peers.field import Peer, field
from bench.peers.measures import Side
from bench.peers.table import Comparison, Standing

__all__ = ["Plan", "compare"]

MOST_JOBS = {"add": 60_000, "bulk": 300_000, "drain": 200_000}
LEAST_JOBS = 200
FIRST = {"add": 300, "bulk": 1000, "drain": 1000}


class Plan(msgspec.Struct, frozen=True):
    """How much is measured. `seconds` is about how long one figure of one side takes in a round.

    A `trial` must take so many seconds before its rate is planned by; `calm` is how long an idle worker is watched.
    `server` are settings of the servers besides the usual ones. `killed` is how long to wait for a job whose worker was
    killed to run again; 0 does not try.
    """

    store: str
    rounds: int = 3
    seconds: float = 4.0
    samples: int = 100
    waiting: int = 20_000
    only: tuple[str, ...] = ()
    server: dict[str, str] = {}
    killed: float = 0.0
    trial: float = 0.4
    calm: float = 3.0


def compare(
    plan: Plan, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
) -> Comparison:
    """Measure all who take part; `say` is told how far it is."""
    contest = _Contest(plan, field(plan.store, plan.only), say)
    contest.prepare()
    contest.measure()
    if plan.killed:
        contest.kill()
    return contest.comparison


class _Contest:
    def __init__(self, plan: Plan, peers: list[Peer], say: Callable[[str], None]) -> None:
        self.plan = plan
        self.say = say
        self.peers = peers
        self.sides: dict[str, Side] = {}
        standings = {peer.name: Standing.of(peer, version(peer.pins)) for peer in peers}
        self.comparison = Comparison(plan.store, msgspec.structs.asdict(plan), standings)

    def prepare(self) -> None:
        """Make each environment, try the settings, and see how many jobs take about the planned time."""
        for peer in self.peers:
            self.say(f"{peer.name}: preparing")
            with self._excused(peer.name):
                side = self.sides[peer.name] = Side(peer, self.plan.store, self.plan.server)
                self.comparison.sides[peer.name].tries = tries = self._best_slots(side)
                self.comparison.sides[peer.name].settings = peer.settings.format(slots=side.slots)
                rates = {"add": self._trial(side.add, "add"), "bulk": self._trial(side.bulk, "bulk")}
                for verb, rate in (rates | {"drain": max(tries.values())}).items():
                    self._plan_jobs(peer.name, verb, rate)

    def _plan_jobs(self, name: str, verb: str, rate: float) -> None:
        """See how many jobs take about the planned time; each round is planned by the one before it."""
        jobs = int(min(max(rate * self.plan.seconds, LEAST_JOBS), MOST_JOBS[verb]))
        self.comparison.sides[name].jobs[verb] = jobs

    def measure(self) -> None:
        """Take each figure of all sides in turn, round by round; what a job takes in the store only once.

        Who begins changes from round to round, so that nobody always follows the same neighbour's disk writes.
        """
        for number in range(self.plan.rounds):
            for verb in ("add", "bulk", "drain"):
                for name in self._turn(number):
                    self.say(f"round {number + 1} of {self.plan.rounds}, {verb}: {name}")
                    with self._excused(name):
                        rate = getattr(self.sides[name], verb)(self.comparison.sides[name].jobs[verb])
                        self._plan_jobs(name, verb, rate)
                        self._note(name, {verb: rate})
            for name in self._turn(number):
                self.say(f"round {number + 1} of {self.plan.rounds}, idle: {name}")
                with self._excused(name):
                    self._note(name, msgspec.structs.asdict(self.sides[name].idle(self.plan.samples, self.plan.calm)))
        for name in list(self.sides):
            self.say(f"bytes of a waiting job: {name}")
            with self._excused(name):
                self._note(name, {"bytes": self.sides[name].bytes_each(self.plan.waiting)})

    def kill(self) -> None:
        """Kill a worker of each side in mid-job, and wait for the job; all at once, as that is mostly waiting."""
        self.say(f"killed workers: up to {self.plan.killed:g} s")
        with ThreadPoolExecutor() as pool:
            waits = {name: pool.submit(side.returns, self.plan.killed) for name, side in self.sides.items()}
        for name, wait in waits.items():
            with self._excused(name):
                seconds = wait.result()
                told = f"after {seconds:.0f} s" if seconds is not None else f"not within {self.plan.killed:g} s"
                self.comparison.sides[name].seen = told

    def _turn(self, number: int) -> list[str]:
        names = list(self.sides)
        first = number % max(1, len(names))
        return names[first:] + names[:first]

    @contextlib.contextmanager
    def _excused(self, name: str) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            self.say(f"{name}: left out: {error}")
            self.sides.pop(name, None)
            self.comparison.sides[name].reason = str(error)

    def _note(self, name: str, figures: dict[str, float]) -> None:
        for measure, value in figures.items():
            self.comparison.sides[name].figures.setdefault(measure, []).append(value)

    def _best_slots(self, side: Side) -> dict[int, float]:
        """Drain a little with each setting and keep the fastest; the rates of all."""
        rates = {}
        for slots in side.peer.slots:
            side.slots = slots
            rates[slots] = self._trial(side.drain, "drain")
        side.slots = max(rates, key=rates.__getitem__)
        return rates

    def _trial(self, measure: Callable[[int], float], verb: str) -> float:
        """A rate found with so many jobs that it took a while."""
        jobs = FIRST[verb]
        while True:
            rate = measure(jobs)
            if jobs / rate >= self.plan.trial or jobs * 5 > MOST_JOBS[verb]:
                return rate
            jobs *= 5
