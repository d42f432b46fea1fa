"""Files and runs as the HTTP interface shows them. Values only."""

from __future__ import annotations

from typing import Any

from muskox import Job, JobState
from muskox.apps.media.errors import Reason, reason_in
from muskox.apps.media.media import RunLook
from muskox.apps.media.recipes import Made
from muskox.apps.media.records import FileRecord

__all__ = ["file_view", "percent_of", "run_view"]


def file_view(file: FileRecord) -> dict[str, Any]:
    """A file, with what its head says."""
    facts = {name: file.facts[name] for name in ("width", "height", "duration", "frames") if name in file.facts}
    return {
        "id": file.id,
        "name": file.name,
        "kind": file.kind,
        "media_type": file.media_type,
        "bytes": file.bytes,
        "sha256": file.sha256,
        **facts,
        "created_at": file.created_at.isoformat(),
        "links": {"self": f"/files/{file.id}", "original": f"/files/{file.id}/outputs/original"},
    }


def run_view(file: FileRecord, look: RunLook) -> dict[str, Any]:
    """A run: where it is, what went wrong, and what has come of it."""
    job, run = look.job, look.run
    return {
        "id": run.id,
        "file_id": run.file_id,
        "state": look.state,
        "progress": percent_of(look),
        "step": _step(job),
        "eta_s": _eta(job),
        "attempt": job.attempt if job else 0,
        "attempts": job.options.attempts if job else 0,
        "cached": run.cached,
        "operations": run.operations,
        "error": _error(job),
        "outputs": [_output(file, made) for made in look.manifest.outputs] if look.manifest else [],
        "created_at": run.created_at.isoformat(),
        "links": {"self": f"/jobs/{run.id}", "events": f"/jobs/{run.id}/events", "file": f"/files/{file.id}"},
    }


def percent_of(look: RunLook) -> int | None:
    """How far a run is, from 0 to 100; None where its maker cannot say."""
    if look.state is JobState.COMPLETED:
        return 100
    told = look.job.progress if look.job else 0
    told = told.get("percent") if isinstance(told, dict) else told
    if told is None:
        return 0 if look.job is None or look.job.progress is None else None
    return max(0, min(100, int(told))) if isinstance(told, int | float) else None


def _told(job: Job | None, name: str) -> Any:
    told = job.progress if job else None
    return told.get(name) if isinstance(told, dict) else None


def _step(job: Job | None) -> str | None:
    step = _told(job, "step")
    return step if isinstance(step, str) else None


def _eta(job: Job | None) -> float | None:
    eta = _told(job, "eta_s")
    return eta if isinstance(eta, int | float) else None


def _error(job: Job | None) -> dict[str, str] | None:
    if job is None or job.failure is None or job.state is JobState.COMPLETED:
        return None
    reason = reason_in(job.failure)
    # What is none of ours may tell of the inside of the program, and stays there.
    text = job.failure.message.partition(": ")[2] if reason and job.failure.message else ""
    return {"reason": reason or Reason.IO_ERROR, "text": text or "it could not be made; see the log of the worker"}


def _output(file: FileRecord, made: Made) -> dict[str, Any]:
    sizes = {name: getattr(made, name) for name in ("width", "height", "duration") if getattr(made, name) is not None}
    return {
        "name": made.name,
        "media_type": made.media_type,
        "bytes": made.bytes,
        "sha256": made.sha256,
        **sizes,
        **made.facts,
        # With a part of the hash in it the address never changes what it means.
        "url": f"/files/{file.id}/outputs/{made.name}?v={made.sha256[:16]}",
    }
