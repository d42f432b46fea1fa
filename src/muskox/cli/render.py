"""How things look in a terminal, and as JSON for programs.

Names, data and error texts come from anywhere: whatever is printed here is made inert first, so that no job
can move the cursor or rewrite a line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

from muskox import Event, Explanation, Job, LogLine, QueueCounts, WorkerRecord

__all__ = [
    "answer",
    "count_record",
    "event_line",
    "event_record",
    "explanation_record",
    "inert",
    "job_record",
    "job_sheet",
    "one_line",
    "say",
    "table",
    "to_json",
    "worker_record",
]

_MOST_LINE = 200
_INERT = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}
_INERT |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}  # turn text around
_IN_JSON = {code: f"\\u{code:04x}" for code in range(127, 160)}


def inert(text: str) -> str:
    """The text with control characters spelt out; line ends and tabs stay."""
    return text.translate(_INERT)


def say(text: str) -> None:
    """Print a line, made inert."""
    click.echo(inert(text))


def answer(text: str, record: Any, *, as_json: bool) -> None:
    """Tell what was done: in words for people, or as one line of JSON."""
    if as_json:
        click.echo(to_json(record))
    else:
        say(text)


def to_json(value: Any) -> str:
    """One line of JSON, made inert."""
    return msgspec.json.encode(value).decode().translate(_IN_JSON)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = (), rare: Collection[str] = ()
) -> None:
    """Draw a table, as wide as it needs to be; columns in `rare` are left out where they say nothing.

    A terminal wraps a line that is too long, which reads better than cells that are folded.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [[one_line(cell) for cell in row] for row in rows]
    kept = [at for at, name in enumerate(columns) if name not in rare or any(row[at] not in _NOTHING for row in lines)]
    drawn = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for at in kept:
        drawn.add_column(columns[at], justify="right" if columns[at] in right else "left", no_wrap=True)
    for row in lines:
        drawn.add_row(*(Text(row[at]) for at in kept))
    console = Console(width=_WIDEST, highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


_NOTHING = ("", "0")
_WIDEST = 2000


# --- records for --json -----------------------------------------------------------------


def job_record(job: Job) -> dict[str, Any]:
    """A job as `--json` gives it."""
    return {
        "id": job.id, "queue": job.queue, "name": job.name, "key": job.key, "flow": job.flow, "state": job.state,
        "priority": job.priority,
        "data": job.data, "result": job.result, "progress": job.progress, "steps": job.steps, "failure": job.failure,
        "attempt": job.attempt, "attempts": job.attempts, "stalls": job.stalls, "releases": job.releases,
        "added_at": job.added_at, "due_at": job.due_at, "started_at": job.started_at, "ended_at": job.ended_at,
        "worker": job.worker,
    }  # fmt: skip


def count_record(counts: QueueCounts) -> dict[str, Any]:
    """The figures of a queue as `--json` gives them."""
    return {
        "queue": counts.queue, "paused": counts.paused, "total": counts.total, "held": counts.held,
        **{state.value: figure for state, figure in counts.states.items()},
        "oldest_waiting": counts.oldest_waiting, "names": {one.name: one.states for one in counts.names},
    }  # fmt: skip


def worker_record(worker: WorkerRecord) -> dict[str, Any]:
    """A live worker as `--json` gives it; `age` is the seconds since its last sign of life."""
    fields = msgspec.structs.asdict(worker)
    wants = [
        {"queue": want.queue, "names": None if want.names is None else sorted(want.names)} for want in worker.wants
    ]
    return {**fields, "wants": wants}


def explanation_record(found: Explanation) -> dict[str, Any]:
    """Why a job is where it is, as `--json` gives it."""
    job = found.job
    return {
        "id": job.id, "queue": job.queue, "name": job.name, "state": job.state, "at": found.at,
        "reasons": found.reasons,
    }  # fmt: skip


def event_record(event: Event) -> dict[str, Any]:
    """An event as `--json` gives it."""
    fields = msgspec.structs.asdict(event)
    fields.pop("at_us")
    return {"kind": event.kind, "at": event.at, **fields}


# --- lines for people --------------------------------------------------------------------


def event_line(event: Event) -> str:
    """An event in one line."""
    fields = msgspec.structs.asdict(event)
    about = [str(fields[key]) for key in ("name", "job_id") if key in fields]
    more = [f"{key} {_short(value)}" for key, value in fields.items() if key in _TOLD and value not in (None, "", 0)]
    return one_line("  ".join([f"{event.at:%H:%M:%S.%f}"[:-3], f"{event.kind:<9}", event.queue, *about, *more]))


_TOLD = ("attempt", "value", "failure", "delay", "stalls", "waiting", "message")


def job_sheet(job: Job, log: Sequence[LogLine]) -> str:
    """A whole job, one fact per line, its log at the end."""
    allowed = "as its processor says" if job.attempts is None else str(job.attempts)
    facts: list[tuple[str, Any]] = [
        ("id", job.id), ("queue", job.queue), ("name", job.name), ("key", job.key), ("flow", job.flow),
        ("state", job.state), ("priority", job.priority),
        ("attempt", f"{job.attempt} of {allowed}"), ("stalls", job.stalls), ("releases", job.releases),
        ("added", job.added_at), ("due", job.due_at), ("started", job.started_at), ("ended", job.ended_at),
        ("worker", job.worker), ("progress", _json(job.progress)), ("steps", _json(job.steps or None)),
        ("data", _json(job.data)),
        ("result", _json(job.result)), ("failure", _failure(job)),
    ]  # fmt: skip
    lines = [f"{name:<9} {_said(value)}" for name, value in facts if value is not None]
    if job.failure is not None and job.failure.traceback:
        lines += ["", job.failure.traceback.rstrip()]
    if log:
        lines += ["", "log", *(f"{line.number:>4}  {line.text}" for line in log)]
    return "\n".join(lines)


def _failure(job: Job) -> str | None:
    return None if job.failure is None else f"{job.failure.kind}: {job.failure}"


def _json(value: Any) -> str | None:
    return None if value is None else to_json(value)


def _said(value: Any) -> str:
    return value.isoformat(sep=" ", timespec="milliseconds") if isinstance(value, datetime) else str(value)


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, msgspec.Struct | str) else to_json(value)
    return text if len(text) <= _MOST_LINE else f"{text[:_MOST_LINE]}…"


def one_line(text: str) -> str:
    """The text on one line, made inert."""
    return inert(text).replace("\n", "\\n").replace("\t", " ")
