"""What the ledger, the events and the store say about jobs whose workers were killed.

A plain calculation over what was gathered: it reads no store and kills nobody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from bench.ledger import Entry, Mark

__all__ = ["Evidence", "Verdict", "judge"]


class Evidence(msgspec.Struct):
    """All that is known at the end. Jobs are told by their index.

    `states`, `attempts` and `stalls` are from the stored records, `told` counts the facts of each kind per job,
    `deaths` are the moments at which processes were killed.
    """

    jobs: int
    allowed_attempts: int
    allowed_stalls: int
    entries: Sequence[Entry]
    deaths: Mapping[int, int]
    states: Mapping[int, str]
    attempts: Mapping[int, int]
    stalls: Mapping[int, int]
    told: Mapping[str, Counter[int]]
    trimmed: int
    findings: Sequence[str]


class Verdict(msgspec.Struct):
    """How many jobs (or findings) there are of each kind; only the last four may be more than 0."""

    lost: int = 0
    settled_twice: int = 0
    never_told_settled: int = 0
    started_too_often: int = 0
    counted_too_often: int = 0
    in_another_state: int = 0
    fence_not_growing: int = 0
    run_again_without_a_kill: int = 0
    events_missed: int = 0
    audit_findings: int = 0

    stalls: int = 0
    runs_cut_by_a_kill: int = 0
    work_done_twice: int = 0
    most_starts_of_a_job: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """What must not be, and how often it was."""
        harmless = {"stalls", "runs_cut_by_a_kill", "work_done_twice", "most_starts_of_a_job"}
        return {name: count for name, count in msgspec.structs.asdict(self).items() if count and name not in harmless}


def judge(known: Evidence) -> Verdict:
    """Count what happened, and what must not have."""
    begun: dict[int, list[Entry]] = defaultdict(list)
    ended: dict[int, list[Entry]] = defaultdict(list)
    for entry in sorted(known.entries, key=lambda entry: entry.at):
        (begun if entry.mark is Mark.BEGUN else ended)[entry.job].append(entry)
    everyone = range(known.jobs)
    endings = known.told["completed"] + known.told["failed"] + known.told["cancelled"]
    most = known.allowed_attempts + known.allowed_stalls
    return Verdict(
        lost=sum(not ended[job] or job not in known.states for job in everyone),
        settled_twice=sum(count > 1 for count in endings.values()),
        never_told_settled=sum(not endings[job] for job in everyone),
        started_too_often=sum(len(begun[job]) > most for job in everyone),
        counted_too_often=sum(
            known.attempts[job] > known.allowed_attempts or known.stalls[job] > known.allowed_stalls
            for job in known.states
        ),
        in_another_state=sum(state != "completed" for state in known.states.values()),
        fence_not_growing=sum(not _grows([run.fence for run in begun[job]]) for job in everyone),
        run_again_without_a_kill=sum(
            any(run.at > known.deaths.get(run.process, 0) for run in begun[job][:-1]) for job in everyone
        ),
        events_missed=known.trimmed,
        audit_findings=len(known.findings),
        stalls=sum(known.stalls.values()),
        runs_cut_by_a_kill=sum(len(begun[job]) - len(ended[job]) for job in everyone),
        work_done_twice=sum(len(ended[job]) > 1 for job in everyone),
        most_starts_of_a_job=max(len(begun[job]) for job in everyone),
    )


def _grows(values: Sequence[int]) -> bool:
    return all(value < following for value, following in pairwise(values))
