"""The steps of moving house: read jobs with all that is kept of them, and take such jobs over.

What is moved, and in which order of steps, is decided elsewhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby

from muskox.core.job import Job, JobState
from muskox.store.protocol import Added, LogLine, Packed, Selection
from muskox.store.sql import statements
from muskox.store.sqlite import dedup, expiry, keys, rows
from muskox.store.sqlite.moves import find_lane, get, text
from muskox.store.sqlite.select import Row, matching
from muskox.store.sqlite.tx import NUMBER, Tx

__all__ = ["adopt", "pack"]

SQL = statements("muskox.store.sqlite", "moving.sql")

_FIRST = {"first": True, "priority": 0, "arrival": 0, "seq": 0}


def pack(tx: Tx, queue: str, state: JobState, limit: int) -> list[Packed]:
    """Read the first jobs of a queue in a state."""
    found = tx.one("find_queue", {"queue": queue})
    if found is None:
        return []
    seqs = [row[0] for row in _first(tx, found[0], state, limit)]
    cursor = tx.execute("by_seq", {"seqs": text(seqs)})
    cursor.row_factory = sqlite3.Row
    by_seq = {row["seq"]: row for row in cursor}
    lines: dict[int, list[LogLine]] = {}
    for seq, *line in tx.db.execute(SQL["lines_of"], {"seqs": text(seqs)}):
        lines.setdefault(seq, []).append(LogLine(*line))
    return [
        Packed(rows.full(row), row["arrival"], row["clear_at"], tuple(lines.get(seq, ())))
        for seq in seqs
        if (row := by_seq.get(seq)) is not None
    ]


def _first(tx: Tx, queue: int, state: JobState, limit: int) -> list[Row]:
    lanes = [lane for lane, _ in tx.all("lane_names", {"queue": queue})]
    match state:
        case JobState.WAITING:
            # Lane by lane along the index, and then as a claim would choose among them.
            found = [row for lane in lanes for row in tx.all("page_waiting", _FIRST | {"lane": lane, "limit": limit})]
            return sorted(found, key=lambda row: (-row[5], row[6], row[0]))[:limit]
        case JobState.DELAYED:
            return tx.all("page_delayed", _FIRST | {"queue": queue, "lanes": text(lanes), "limit": limit})
        case JobState.BLOCKED:
            return tx.all("first_in_lines", {"queue": queue, "limit": limit})
        case JobState.ACTIVE:
            return []
        case _:
            return tx.all("oldest_ended", {"queue": queue, "state": NUMBER[state], "limit": limit})


def adopt(tx: Tx, jobs: Sequence[Packed]) -> list[Added]:
    """Store jobs of another store as they are there; those with known ids are answered with what is there."""
    answers = [_adopt_one(tx, one) for one in jobs]
    made = [answer.job for answer in answers if answer.created]
    dedup.adopted(tx, made)
    expiry.adopted(tx, made)
    if any(_joins(job) for job in made):
        made = [job for job in made if not _joins(job)]
        answers = _arrive(tx, answers)
    for (queue, state), its in groupby(made, key=lambda job: (job.queue, job.state)):
        if state in (JobState.WAITING, JobState.DELAYED):
            told = [(job.id, job.name, job.attempt) for job in its]
            tx.tell(find_lane(tx, queue, told[0][1])[0], state, told)
        if state is JobState.WAITING:
            tx.woken.add(queue)
    return answers


def _joins(job: Job) -> bool:
    """Whether a job joins the line of its key."""
    return job.key is not None and job.state in (JobState.WAITING, JobState.BLOCKED)


def _arrive(tx: Tx, answers: list[Added]) -> list[Added]:
    """Let jobs that were taken over join the lines of their keys; gives the answers with what they have become."""
    joining = [(at, answer.job) for at, answer in enumerate(answers) if answer.created and _joins(answer.job)]
    seqs = [row[0] for _, job in joining for row in matching(tx, Selection(job.queue, ids=(job.id,)))]
    keys.arrive(tx, seqs)
    answers = list(answers)
    for at, job in joining:
        [now] = get(tx, job.queue, [job.id])
        assert now is not None, "it was stored above"
        answers[at] = Added(now, True)
    return answers


def _adopt_one(tx: Tx, one: Packed) -> Added:
    job = one.job
    queue, lane = find_lane(tx, job.queue, job.name)
    stored = tx.db.execute(SQL["adopt_job"], _columns(one) | {"queue": queue, "lane": lane}).fetchone()
    if stored is None:
        [known] = get(tx, job.queue, [job.id])
        assert known is not None, "the id was refused because it is there"
        return Added(known, False)
    for line in one.lines:
        values = {"seq": stored[0], "number": line.number, "at": line.at_us, "text": line.text}
        tx.db.execute(SQL["adopt_line"], values)
    tx.count(lane, None, NUMBER[JobState.BLOCKED if _joins(job) else job.state])
    tx.told_to = max(tx.told_to, stored[0])
    return Added(job, True)


def _columns(one: Packed) -> dict[str, object]:
    job = one.job
    return {
        "id": job.id,
        "key": job.key,
        "state": NUMBER[JobState.BLOCKED if _joins(job) else job.state],
        "priority": job.priority,
        "arrival": one.arrival_us,
        "due": job.due_us,
        "attempt": job.attempt,
        "attempts": job.attempts,
        "stalls": job.stalls,
        "max_stalls": job.options.max_stalls,
        "releases": job.releases,
        "added": job.added_us,
        "started": job.started_us,
        "ended": job.ended_us,
        "clear_at": one.clear_us,
        "options": rows.options_text(job.options),
        "data": job.data_text,
        "progress": job.progress_text,
        "result": job.result_text,
        "failure": rows.failure_text(job.failure),
        "steps": job.steps_text,
    }
